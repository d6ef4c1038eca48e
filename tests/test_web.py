"""The page in a real browser: Debian's Chromium, headless, driven by Playwright."""

import functools
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import keras_charlm
from keras_charlm.export import web
from keras_charlm.text.corpus import fingerprints

TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


@pytest.fixture(scope="session")
def package():
    """The npm package @litertjs/core: $KCHARLM_LITERTJS, or in a node_modules above the tests."""
    named = os.environ.get("KCHARLM_LITERTJS")
    places = (
        [Path(named)]
        if named
        else [p / "node_modules" / "@litertjs" / "core" for p in Path(__file__).resolve().parents]
    )
    for place in places:
        if (place / "package.json").is_file():
            return place
    return pytest.skip(
        "the npm package @litertjs/core is not there: npm install @litertjs/core, "
        "or name its folder in KCHARLM_LITERTJS"
    )


@pytest.fixture
def serve():
    """Serve a folder at an address of its own, and stop when the test ends: {folder: server}."""
    servers = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES

        def log_message(self, *_):
            pass

    def start(folder):
        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/", server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def visit(chromium, serve):
    """Open a page's folder in a clean browser; at the end, nothing may have gone wrong in it."""
    contexts, problems = [], []

    def open_page(folder, state="ready", script="", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        address, _ = serve(folder)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.on(
            "request",
            lambda r: r.url.startswith((address, "blob:")) or problems.append(f"asked for {r.url}"),
        )
        if script:
            page.add_init_script(script)
        page.goto(address)
        wait(page, state)
        return page

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="session")
def names_page(list_model, package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "names"
    write(keras_charlm.load(list_model), folder, package)
    return folder


@pytest.fixture(scope="session")
def text_page(text_model, package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "text"
    write(keras_charlm.load(text_model), folder, package)
    return folder


def write(model, folder, runtime=None, content=None):
    """Write the page of a model with its own on-device file, or with this one."""
    folder.mkdir()
    return web.write(model, folder, content or model.device_file.read_bytes(), runtime)


def wait(page, state):
    page.wait_for_selector(f"html[data-state={state}]", state="attached", timeout=60_000)


def run(page, **fields):
    """Fill the form, press the button, and wait for the end: the status line."""
    page.locator("#more").evaluate("more => { more.open = true }")
    for name, value in fields.items():
        page.fill(f"#{name.replace('_', '-')}", str(value))
    page.locator("html").evaluate("root => delete root.dataset.seconds")
    page.click("#go")
    page.wait_for_selector("html[data-seconds]", state="attached", timeout=60_000)
    return page.text_content("#status")


def drawn(page):
    return page.locator("#list button").evaluate_all("all => all.map(b => b.dataset.text)")


def warm(page, value):
    page.locator("#temperature").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }",
        value,
    )


@pytest.mark.parametrize("prompt", ["", "ab"])
@pytest.mark.parametrize("settings", [{"temp": 0.8}, {"temp": 1.5, "top_k": 4, "top_p": 0.9}])
def test_names_are_those_of_python(visit, names_page, list_model, prompt, settings):
    page = visit(names_page)
    warm(page, settings["temp"])
    fields = {name: value for name, value in settings.items() if name != "temp"}
    status = run(page, begin=prompt, number=40, seed=2**31 - 5, length=30, **fields)
    model = keras_charlm.load(list_model)
    expected = list(model.samples(prompt, num=40, seed=2**31 - 5, length=30, **settings))
    texts = [s.prompt + s.text for s in expected]
    assert drawn(page) == texts
    marked = page.locator("#list li").evaluate_all("all => all.map(li => li.className === 'new')")
    assert marked == [not model.known(text) for text in texts]
    assert status == f"40 invented, {sum(marked)} new. Seed {2**31 - 5}."


def test_the_shipped_model_draws_its_golden_names(visit, package, tmp_path):
    golden = json.loads((Path(__file__).parent / "golden.json").read_text())
    shipped = Path(__file__).parent.parent / "saved_models" / "names"
    write(keras_charlm.load(shipped), tmp_path / "page", package)
    page = visit(tmp_path / "page")
    for call in golden["calls"]:
        if call["prompt"].isdigit():  # unknown to the model, which the page asks about first
            continue
        warm(page, call["temperature"])
        run(
            page,
            begin=call["prompt"],
            number=1,
            length=60,
            seed=call["seed"],
            top_k=call["top_k"],
            top_p=call["top_p"],
            min_p=call["min_p"],
        )
        assert drawn(page) == [call["prompt"] + call["text"]]


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_files_draw_what_python_draws(visit, package, tmp_path, quantize):
    original = keras_charlm.load(Path(__file__).parent.parent / "saved_models" / "names")
    original.export(tmp_path / "names.tflite", quantize=quantize)
    content = (tmp_path / "names.tflite").read_bytes()
    write(original, tmp_path / "page", package, content)
    page = visit(tmp_path / "page")
    run(page, number=200, length=30, seed=7)
    expected = keras_charlm.load(tmp_path / "names.tflite").samples(num=200, length=30, seed=7)
    same = sum(a == b.text for a, b in zip(drawn(page), expected, strict=True))
    assert same == 200, same


def test_copy_share_and_keep_the_seed(visit, names_page):
    page = visit(
        names_page,
        permissions=["clipboard-read", "clipboard-write"],
        script="navigator.share = (what) => { window.shared = what }",
    )
    run(page, number=5)
    names = drawn(page)
    page.click("#copy")
    page.wait_for_selector("#status:text('Copied.')")
    assert page.evaluate("() => navigator.clipboard.readText()") == "\n".join(names)
    page.locator("#list button").first.click()
    page.wait_for_selector(f"#status:text('Copied {names[0]}.')")
    assert page.evaluate("() => navigator.clipboard.readText()") == names[0]
    page.click("#share")
    assert page.evaluate("() => window.shared.text") == "\n".join(names)
    page.click("#keep")
    run(page)
    assert drawn(page) == names


def test_only_new_names(visit, names_page, list_model):
    page = visit(names_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.check("#novel")
    run(page, number=20, seed=3, length=30)
    model = keras_charlm.load(list_model)
    expected = model.samples(num=20, seed=3, length=30, novel=True)
    assert drawn(page) == [s.text for s in expected]


def test_the_writing_pad_goes_on_as_python_does(visit, text_page, text_model):
    page = visit(text_page)
    model = keras_charlm.load(text_model)
    prompt = "the cat sat on a mat. " * 8  # longer than one call reads
    first = model.generate(prompt, length=150, seed=7)
    assert run(page, text=prompt, length=150, seed=7) == "150 characters added. Seed 7."
    assert page.input_value("#text") == first
    # What it wrote is remembered rather than read again, and that changes nothing.
    run(page)
    assert page.input_value("#text") == model.generate(first, length=150, seed=7)
    page.click("#undo")
    assert page.input_value("#text") == first
    assert page.is_disabled("#undo")
    run(page, text="", length=20)
    assert page.input_value("#text") == model.generate(length=20, seed=7)


def test_writing_can_be_stopped_by_keyboard(visit, text_page):
    page = visit(text_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.fill("#length", "100000")
    page.fill("#text", "the ")
    page.press("#text", "Control+Enter")
    wait(page, "running")
    page.wait_for_timeout(200)
    page.keyboard.press("Escape")
    wait(page, "ready")
    assert "then stopped" in page.text_content("#status")
    assert 4 < len(page.input_value("#text")) < 100_000


def test_a_byte_model_writes_what_its_bytes_say(visit, package, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("für Äpfel und Öl 😀\n" * 60)
    model = keras_charlm.fit(
        corpus,
        tmp_path / "model",
        unit="byte",
        layers=1,
        units=8,
        embedding=4,
        batch_size=4,
        seq_length=8,
        epochs=1,
        verbose=0,
    )
    write(model, tmp_path / "page", package)
    page = visit(tmp_path / "page")
    run(page, text="Ö😀", length=40, seed=1)
    expected = model.generate("Ö😀", length=40, seed=1)
    assert page.input_value("#text") == expected.decode("utf-8", "replace")


def test_unknown_characters_are_named_and_can_be_left_out(visit, names_page, text_page):
    page = visit(names_page)
    page.fill("#begin", "aßb😀")
    page.press("#begin", "Enter")
    message = page.text_content("#problem")
    assert "“ß” (U+00DF), character 2 of your text, nor 1 other in it" in message
    assert page.get_attribute("#begin", "aria-invalid") == "true"
    page.click("#problem button")
    assert page.input_value("#begin") == "ab"
    assert not page.text_content("#problem")
    # Composed as the training text was: e and a combining accent are one character, the first.
    page = visit(text_page)
    page.fill("#text", "e\u0301")
    page.click("#go")
    assert "“é” (U+00E9), character 1 " in page.text_content("#problem")


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", ""), ("length", "0"), ("seed", "-1"), ("top_p", "2"), ("top_k", "1.5")],
)
def test_wrong_numbers_are_explained(visit, names_page, field, value):
    page = visit(names_page)
    page.locator("#more").evaluate("more => { more.open = true }")
    page.fill(f"#{field.replace('_', '-')}", value)
    page.click("#go")
    assert "takes a" in page.text_content("#problem")
    assert page.locator(":focus").get_attribute("id") == field.replace("_", "-")


@pytest.mark.parametrize("kind", ["names", "text"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_without_scrolling_sideways(
    visit, names_page, text_page, kind, scheme
):
    page = visit(
        names_page if kind == "names" else text_page,
        color_scheme=scheme,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    run(page)
    page.set_viewport_size({"width": 320, "height": 600})
    root = page.locator("html")
    assert root.evaluate("e => e.scrollWidth <= window.innerWidth")
    # Every control has a name, and is large enough for a finger.
    small = page.locator("button:visible, input:visible, textarea:visible").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().height < 18 || !(e.labels?.length || "
        "e.textContent)).map(e => e.id)"
    )
    assert small == []


def test_works_without_a_network_after_the_first_visit(chromium, serve, names_page):
    context = chromium.new_context()
    address, server = serve(names_page)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("html[data-offline=ready]", state="attached", timeout=60_000)
    run(page, number=10, seed=4)
    before = drawn(page)
    server.shutdown()
    server.server_close()
    context.set_offline(True)
    page.goto(address)
    wait(page, "ready")
    run(page, number=10, seed=4)
    assert drawn(page) == before
    context.close()


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no model"])
def test_a_broken_model_file_is_reported(visit, names_page, tmp_path, damage):
    folder = tmp_path / "page"
    shutil.copytree(names_page, folder)
    model, facts = folder / web.MODEL, json.loads((folder / web.FACTS).read_text())
    content = model.read_bytes()
    if damage == "gone":
        model.unlink()
    else:
        content = {
            "cut": content[:-1000],
            "changed": content[:-9] + b"x" + content[-8:],
            "no model": b"TFL3" * 1000,
        }[damage]
        model.write_bytes(content)
    if damage == "no model":  # as exported, but not for this runtime
        (folder / web.FACTS).write_text(json.dumps(facts | {"model": web._integrity(content)}))
    page = visit(folder, "broken")
    expected = {"gone": "could not be fetched", "no model": "cannot be opened"}
    assert expected.get(damage, "is damaged") in page.text_content("#status")
    assert page.is_hidden("#form")
    visit.problems.clear()  # the browser's own reports of it


def test_a_changed_runtime_is_not_run(visit, names_page, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(names_page, folder)
    core = folder / "runtime" / "core" / "index.js"
    core.write_text("alert(1);" + core.read_text())
    page = visit(folder, "broken")
    assert "LiteRT.js, the program that runs the model, is damaged" in page.text_content("#status")
    visit.problems.clear()


def test_a_browser_without_webassembly_says_so(visit, names_page):
    page = visit(names_page, "broken", "delete window.WebAssembly")
    assert "has no WebAssembly" in page.text_content("#status")


def test_no_tensor_is_left_behind(visit, names_page):
    page = visit(names_page)
    counted = """async () => {
        const { Engine } = await import("./engine.js");
        const run = Engine.prototype.run;
        let made = 0, deleted = 0;
        Engine.prototype.run = function (...given) {
            const { litert } = this;
            const { Tensor } = litert;
            if (!Tensor.counted) {
                Tensor.counted = true;
                const free = Tensor.prototype.delete;
                Tensor.prototype.delete = function () { deleted++; return free.call(this); };
            }
            made += Object.keys(given[1]).length + 5;
            return run.apply(this, given);
        };
        window.tensors = () => [made, deleted];
    }"""
    page.evaluate(counted)
    run(page, number=50)
    made, deleted = page.evaluate("() => window.tensors()")
    assert made == deleted > 0


def test_the_page_knows_the_training_lines_and_no_others(visit, names_page):
    known = [f"name {i} " + "é" * (i % 150) for i in range(3000)]  # up to three blocks of the hash
    content = np.unique(fingerprints(line.encode() for line in known)).astype("<u8").tobytes()
    page = visit(names_page)
    others = [f"other {i}" for i in range(20_000)]
    inside, outside, empty = page.evaluate(
        """async ([data, known, others]) => {
            const { knownLines } = await import("./novelty.js");
            const is = knownLines(Uint8Array.from(data).buffer);
            const none = knownLines(new ArrayBuffer(0));
            return [known, others, known].map((lines, i) => lines.filter(i < 2 ? is : none).length);
        }""",
        [list(content), known, others],
    )
    assert (inside, outside, empty) == (len(known), 0, 0)


def test_the_remote_runtime_is_pinned(list_model, package, tmp_path):
    report = write(keras_charlm.load(list_model), tmp_path / "page")
    facts = json.loads((tmp_path / "page" / web.FACTS).read_text())["runtime"]
    assert not (tmp_path / "page" / "runtime").exists()
    assert report["runtime"] == {"version": web.VERSION, "from": web.ADDRESS}
    assert all(f"@{web.VERSION}/" in file["path"] for file in facts["files"].values())
    assert f"connect-src 'self' {web.ADDRESS};" in (tmp_path / "page/index.html").read_text()
    if json.loads((package / "package.json").read_text())["version"] == web.VERSION:
        local, _ = web._runtime(package)
        for role, file in facts["files"].items():
            assert file["integrity"] == local["files"][role]["integrity"]


@pytest.mark.parametrize("honest", [True, False])
def test_the_runtime_comes_from_its_address_or_not_at_all(
    chromium, serve, list_model, package, tmp_path, honest
):
    if json.loads((package / "package.json").read_text())["version"] != web.VERSION:
        pytest.skip(f"the npm package is not version {web.VERSION}")
    write(keras_charlm.load(list_model), tmp_path / "page")
    _, files = web._runtime(package)
    asked = []

    def answer(route):
        # The address as the network would answer it: cdn/core@1.2.3/dist/index.js
        name, path = route.request.url.removeprefix(web.ADDRESS).split(f"@{web.VERSION}/")
        asked.append(path)
        body = files[f"runtime/{name}/{Path(path).name}"]
        route.fulfill(
            body=body if honest else body + b" ", headers={"Access-Control-Allow-Origin": "*"}
        )

    context = chromium.new_context()
    context.route(f"{web.ADDRESS}**", answer)
    page = context.new_page()
    page.goto(serve(tmp_path / "page")[0])
    if honest:
        # The second visit, without a network, finds it on the device.
        page.wait_for_selector("html[data-offline=ready]", state="attached", timeout=60_000)
        context.unroute(f"{web.ADDRESS}**")
        context.set_offline(True)
        page.reload()
        wait(page, "ready")
        assert len(asked) == len(files)
    else:
        wait(page, "broken")
        assert "is damaged" in page.text_content("#status")
    context.close()
