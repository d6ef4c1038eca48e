"""The page in one HTML file, opened from the disk, without a network, in two browsers."""

import base64
import json
import shutil
import socket
import subprocess
import time

import pytest
from pages import distinct, drawn, run, wait

import keras_charlm
from keras_charlm.export import export, web

SEEDS = [1, 2, 3, 2**20, 2**31 - 9]


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """The single page of the bundled names, and the on-device file whose texts it draws."""
    folder = tmp_path_factory.mktemp("single")
    model = keras_charlm.load("saved_models/names")
    report = export.export(model, folder / "names.html", to="web", single_file=True)
    export.export(model, folder / "names.tflite", quantize="int8")
    assert report["page_bytes"] == (folder / "names.html").stat().st_size < 400_000
    return folder / "names.html", keras_charlm.load(folder / "names.tflite")


def expected(model, seed):
    return distinct(model.samples(num=20, seed=seed, length=30), 12)


def test_chromium_draws_the_names_of_python_from_the_disk(chromium, shipped):
    file, model = shipped
    context = chromium.new_context(viewport={"width": 390, "height": 844}, offline=True)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and problems.append(m.text))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or problems.append(r.url))
    page.goto(file.as_uri())
    wait(page, "ready")
    for seed in SEEDS:
        run(page, number=12, seed=seed, length=30)
        assert drawn(page) == expected(model, seed)
    assert page.get_attribute("html", "data-offline") == "ready"
    context.close()
    assert not problems


class Marionette:
    """Firefox's own remote control: JSON with a length before it, over a connection."""

    def __init__(self, port, process):
        for _ in range(600):
            try:
                self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                break
            except OSError:
                assert process.poll() is None, "Firefox ended"
                time.sleep(0.1)
        self._file, self._number = self._connection.makefile("rb"), 0
        self._receive()

    def _receive(self):
        length = b""
        while (byte := self._file.read(1)) != b":":
            length += byte
        return json.loads(self._file.read(int(length)))

    def __call__(self, command, **values):
        self._number += 1
        text = json.dumps([0, self._number, command, values]).encode()
        self._connection.sendall(b"%d:%b" % (len(text), text))
        _, _, error, result = self._receive()
        assert error is None, error
        return result

    def close(self):
        self._file.close()
        self._connection.close()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    """A headless Firefox without a network."""
    program = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
    if program is None:
        pytest.skip("Firefox is not installed: apt-get install firefox-esr")
    profile = tmp_path_factory.mktemp("firefox")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (profile / "user.js").write_text(
        f'user_pref("marionette.port", {port});\nuser_pref("network.proxy.type", 1);\n'
        'user_pref("network.proxy.http", "127.0.0.1");\nuser_pref("network.proxy.http_port", 9);\n'
        'user_pref("network.proxy.ssl", "127.0.0.1");\nuser_pref("network.proxy.ssl_port", 9);\n'
    )
    command = [program, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        browser = Marionette(port, process)
        browser("WebDriver:NewSession")
        browser("WebDriver:SetTimeouts", script=120_000, pageLoad=120_000)
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait()


DRAW = """
const [fields, done] = arguments;
const root = document.documentElement;
const until = (ready) => new Promise((resolve) => {
  const look = () => ready() ? resolve() : setTimeout(look, 20);
  look();
});
(async () => {
  await until(() => ["ready", "broken"].includes(root.dataset.state));
  if (root.dataset.state === "broken") return [document.getElementById("status").textContent];
  for (const [id, value] of Object.entries(fields)) document.getElementById(id).value = value;
  delete root.dataset.seconds;
  document.getElementById("go").click();
  await until(() => root.dataset.seconds);
  return Array.from(document.querySelectorAll("#list button"), (button) => button.dataset.text);
})().then(done, (error) => done([String(error)]));
"""


def test_firefox_draws_the_names_of_python_from_the_disk(firefox, shipped):
    file, model = shipped
    firefox("WebDriver:SetWindowRect", width=450, height=844)
    firefox("WebDriver:Navigate", url=file.as_uri())
    for seed in SEEDS:
        fields = {"number": 12, "seed": seed, "length": 30}
        result = firefox("WebDriver:ExecuteAsyncScript", script=DRAW, args=[fields])
        assert result["value"] == expected(model, seed)
    picture = base64.b64decode(firefox("WebDriver:TakeScreenshot", full=False)["value"])
    assert picture[:4] == b"\x89PNG"


def test_the_single_page_carries_no_address(shipped):
    file, _ = shipped
    text = file.read_text()
    assert "connect-src" not in text and "default-src &#39;none&#39;" in text
    assert "src=" not in text
    assert not [name for name in web.MODULES if f'from "./{name}"' in text]
