"""`kcharlm serve`: the page, the JSON interface, its limits, and many clients at once."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

import keras_charlm
from benchmarks import serve_load
from keras_charlm.export import web
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.server import serving
from keras_charlm.server.app import Limits, application

LIMITS = Limits(requests=3, body=2_000, seconds=0.3, prompt=50, drawn=2_000, texts=5)


def run(coroutine):
    """Run a coroutine in a thread of its own: Playwright's loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="module")
def client(list_model):
    model = TrainedModel(list_model)
    files, _ = web.page_files(model, model.device_file.read_bytes())
    app = application([model, TrainedModel(list_model)], files, ["testserver"], LIMITS)
    return TestClient(app)


@pytest.fixture(scope="module")
def running(list_model):
    """A server in a process of its own: its address and the process."""
    process, address = serve_load.start(list_model)
    yield address, process
    process.terminate()
    process.wait()


def test_texts_are_those_of_python(client, list_model):
    settings = {"num": 4, "seed": 3, "temp": 1.2, "top_k": 3, "min_p": 0.05, "length": 20}
    answer = client.post("/generate", json={"prompt": "a", **settings})
    expected = keras_charlm.load(list_model).samples("a", **settings)
    texts = answer.json()["texts"]
    assert [(t["text"], t["seed"]) for t in texts] == [(s.text, s.seed) for s in expected]


def test_a_stream_is_the_text_of_its_seed(client, list_model):
    answer = client.post("/generate", json={"prompt": "a", "stream": True, "seed": 5})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, last = answer.text.strip().split("\n\n")
    text = "".join(json.loads(piece.removeprefix("data: "))["text"] for piece in pieces)
    assert text == "".join(keras_charlm.load(list_model).stream("a", seed=5))
    assert last == 'event: done\ndata: {"seed": 5}'


def test_scores_are_those_of_python(client, list_model):
    scores = client.post("/score", json={"texts": ["abc", "", "ca"]}).json()["scores"]
    expected = keras_charlm.load(list_model).scores(["abc", "", "ca"])
    assert [(s["characters"], s["bits"]) for s in scores] == [
        (s.characters, s.bits) for s in expected
    ]


def test_the_page_and_the_health_check_answer(client):
    assert client.get("/health").json() == {"status": "ok", "model": "list"}
    page = client.get("/")
    assert "<h1>list</h1>" in page.text
    program = client.get("/engine.wasm")
    assert program.headers["content-type"] == "application/wasm"
    assert program.content[:4] == b"\0asm"
    assert client.get("/../pyproject.toml").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/generate", 405, "This address takes only POST."),
        ("/score", 405, "This address takes only POST."),
        ("/nothing", 404, "There is nothing at this address."),
    ],
)
def test_an_address_that_is_opened_in_a_browser_says_what_it_takes(client, path, status, sentence):
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (status, {"error": sentence})
    answer = client.post("/health", json={})
    assert (answer.status_code, answer.json()["error"]) == (
        405,
        "This address takes only GET, HEAD.",
    )


def test_texts_end_as_those_of_python_do_and_say_so(client, list_model):
    model = keras_charlm.load(list_model)
    texts = client.post("/generate", json={"num": 5, "seed": 1, "temp": 9}).json()["texts"]
    expected = list(model.samples(num=5, seed=1, temp=9))
    assert [(t["text"], t["ended"]) for t in texts] == [(s.text, s.ended) for s in expected]
    texts = client.post("/generate", json={"num": 2, "length": 1}).json()["texts"]
    assert [text["ended"] for text in texts] == [False, False]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/generate", "{", 400, "not a JSON object"),
        ("/generate", "[]", 400, "not a JSON object"),
        ("/generate", "[" * 1000, 400, "not a JSON object"),
        ("/generate", '{"prompt": 3}', 400, "prompt takes a text"),
        ("/generate", '{"temperature": 1}', 400, "has 'temperature', and it takes prompt"),
        ("/generate", '{"ban_file": "/etc/passwd"}', 400, "has 'ban_file', and it takes prompt"),
        ("/generate", '{"temp": -1}', 400, "temp"),
        ("/generate", '{"prompt": "é"}', 400, "not in the training text"),
        ("/generate", '{"prompt": "é", "stream": true}', 400, "not in the training text"),
        ("/generate", json.dumps({"prompt": "a" * 51}), 400, "at most 50"),
        ("/generate", '{"num": 6}', 400, "at most 5 texts"),
        ("/generate", '{"length": 2001}', 400, "2,000 characters in all"),
        ("/generate", json.dumps({"prompt": "a" * 2000}), 413, "at most 2,000 bytes"),
        ("/score", '{"texts": ["a"], "labels": "b"}', 400, "has 'labels', and it takes texts;"),
        ("/score", '{"texts": "a"}', 400, "A request to score"),
        ("/score", '{"texts": ["a", "a", "a", "a", "a", "a"]}', 400, "at most 5 texts"),
    ],
)
def test_a_wrong_request_gets_a_sentence(client, path, body, status, sentence):
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


def test_other_sites_reach_nothing(client):
    assert client.post("/generate", content="{}").status_code == 415
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400


def test_too_many_requests_at_once_are_refused(list_model):
    model = TrainedModel(list_model)
    app = application([model], {}, ["test"], Limits(requests=2))

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [client.post("/generate", json={"num": 20}) for _ in range(6)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert sorted(run(ask())) == [200, 200, 503, 503, 503, 503]


def test_a_hundred_clients_at_once_are_answered(running):
    address, process = running
    result = run(serve_load.load(address, process.pid, clients=100, seconds=3))
    assert not result.failures
    assert len(result.seconds) >= 100
    early, late = result.memory
    assert late < early + 30


def test_slow_and_broken_clients_harm_nobody(running):
    address, _ = running
    host, port = address.removeprefix("http://").split(":")
    head = b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    slow = []
    for sent in (head, head + b"content-length: 100\r\n\r\n{", b"nonsense\r\n\r\n"):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(sent)
        slow.append(connection)
    assert httpx.post(f"{address}/generate", json={"num": 2}).status_code == 200
    for connection, status in zip(slow, (b"408", b"408", b"400"), strict=True):
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"HTTP/1.1 " + status)
        connection.close()


def test_a_reader_that_leaves_a_stream_frees_its_turn(running):
    address, _ = running
    for _ in range(5):
        values = {"stream": True, "length": 10_000}
        with httpx.stream("POST", f"{address}/generate", json=values) as answer:
            next(answer.iter_bytes())
    assert httpx.get(f"{address}/health").json()["status"] == "ok"


def test_ctrl_c_ends_it_with_a_sentence(list_model):
    process, address = serve_load.start(list_model)
    assert httpx.get(f"{address}/health").status_code == 200
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert message.strip() == "kcharlm: Stopped."
    assert process.returncode == 130


def test_a_port_in_use_is_reported(kcharlm, list_model):
    with serving.listen(0, lan=False) as server:
        port = server.getsockname()[1]
        code, _, message = kcharlm("serve", list_model, "--port", port)
    assert code == 2
    assert message == (
        f"kcharlm: Port {port} is in use; give another --port, or --port 0 for a free one.\n"
    )


def test_the_address_in_the_network_is_shown_as_a_code(list_model):
    command = [sys.executable, "-m", "kcharlm", "serve", str(list_model), "--port", "0", "--lan"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = process.stderr.readline()
        assert serving.lan_address() in line
        code = "".join(process.stderr.readline() for _ in range(10))
        assert {"█", "▀", "▄"} <= set(code)
    finally:
        process.terminate()
        process.wait()
