"""docs/mobile.md says what the file says, and its web page draws what Python draws.

`python tests/test_mobile.py MODEL.tflite` writes the table of tensors anew.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
LISTINGS = ("kotlin", "swift", "html")
WHAT = {
    "text": "code points to read, filled up with 0",
    "text_length": "how many of them",
    "seed": "same seed, same text",
    "position": "index of the first character to draw; 0 for a new text",
    "length": "characters to draw, at most {draws}; 0 only reads",
    "stop": "code point that ends the text; -1 for none",
    "temperature": "below 1 safer, above 1 wilder; 0 the likeliest character",
    "top_k": "draw among the k likeliest; 0 for all",
    "top_p": "draw among the likeliest that hold this share; 1 for all",
    "state": "zeros before a text, then what the last call gave",
    "-> text": "code points drawn, without the stop character; then -1",
    "-> lengths": "how many",
    "-> done": "1 where the stop character came",
    "-> bits": "sum of -log2 p over what was drawn",
    "-> state": "for the next call",
}


def details(file):
    """Name, type and shape of each tensor of `generate`: inputs, then outputs."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("generate")
    return [
        {name: (d["dtype"].__name__, tuple(map(int, d["shape"]))) for name, d in side.items()}
        for side in (runner.get_input_details(), runner.get_output_details())
    ]


def table(file):
    """The doc's table, rendered from a file."""
    inputs, outputs = details(file)
    (_, state), (_, drawn) = inputs["state"], outputs["text"]
    found = {**inputs, **{f"-> {name}": value for name, value in outputs.items()}}
    assert found.keys() == WHAT.keys(), "the file has other tensors than the doc describes"
    rows = ["| tensor | type | shape | what |", "| --- | --- | --- | --- |"]
    for key, what in WHAT.items():
        dtype, shape = found[key]
        shape = ", ".join("S" if shape == state and n == shape[-1] else str(n) for n in shape)
        arrow, name = ("-> ", key[3:]) if key.startswith("->") else ("", key)
        rows.append(
            f"| {arrow}`{name}` | {dtype} | ({shape}{',' * (shape.isdigit())}) | "
            f"{what.format(draws=drawn[-1])} |"
        )
    return "\n".join(rows)


def listing(language):
    return re.search(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)[1]


def test_the_table_is_that_of_the_file(text_model):
    text = DOC.read_text(encoding="utf-8")
    written = re.search(r"<!-- generate -->\n(.*?)\n<!-- end -->", text, re.S)[1]
    assert written == table(text_model / "model.tflite")


@pytest.mark.parametrize("language", LISTINGS)
def test_listings_give_every_input_and_ask_for_no_other_tensor(text_model, language):
    inputs, outputs = details(text_model / "model.tflite")
    code = listing(language)
    for name in inputs:
        assert re.search(rf'"{name}"|\b{name}:', code), f"{name} is not given"
    asked = re.findall(
        r'(?:put|ints|getValue|named:)\s*\(?"(\w+)"|inputs\["(\w+)"\]|\bout\.(\w+)', code
    )
    asked = {name for names in asked for name in names if name} - {"textContent"}
    assert asked <= inputs.keys() | outputs.keys()


def test_the_page_draws_what_python_draws(text_model, tmp_path):
    import keras_charlm

    chromium = shutil.which("chromium")
    runtime = os.environ.get("KCHARLM_LITERTJS")
    if not chromium:
        pytest.skip("no chromium on the PATH")
    if not runtime:
        pytest.skip("KCHARLM_LITERTJS does not name the npm package @litertjs/core")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "@litertjs").symlink_to(Path(runtime).resolve().parent)
    shutil.copy(text_model / "model.tflite", tmp_path / "page")
    # The click is the reader's; everything else is the listing as it stands.
    click = "setInterval(() => go.disabled || out.textContent || go.click(), 50)"
    page = f"{listing('html')}<script type=module>{click}</script>"
    (tmp_path / "page" / "index.html").write_text(page, encoding="utf-8")
    expected = keras_charlm.load(text_model).generate("the cat", seed=1)
    shown = browse(chromium, tmp_path / "page", tmp_path / "profile")
    assert shown == expected


def browse(chromium, folder, profile):
    """The text of <pre id="out"> after half a minute of the page's own time."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def guess_type(self, path):
            return "application/wasm" if path.endswith(".wasm") else super().guess_type(path)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        dom = subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={profile}",
                "--virtual-time-budget=30000",
                "--dump-dom",
                f"http://127.0.0.1:{server.server_port}/index.html",
            ],
            capture_output=True,
            timeout=120,
            check=True,
        ).stdout.decode()
    finally:
        server.shutdown()
        server.server_close()
    return re.search(r'<pre id="out">(.*?)</pre>', dom, re.S)[1]


def test_numbers_in_the_text_are_those_of_the_file(text_model):
    from ai_edge_litert import schema_py_generated as schema

    file = text_model / "model.tflite"
    _, outputs = details(file)
    assert f"draws = {outputs['text'][1][1]} " in listing("swift")
    model = schema.Model.GetRootAs(file.read_bytes())
    metadata = {
        model.Metadata(i).Name(): model.Buffers(model.Metadata(i).Buffer())
        for i in range(model.MetadataLength())
    }
    version = metadata[b"min_runtime_version"].DataAsNumpy().tobytes().split(b".")[:2]
    assert f"TensorFlow Lite {b'.'.join(version).decode()} " in DOC.read_text(encoding="utf-8")


def test_the_example_is_golden():
    calls = json.loads((DOC.parent.parent / "tests" / "golden.json").read_text())["calls"]
    lines = [
        f"prompt `{c['prompt']}`, seed {c['seed']}, temperature {c['temperature']}, "
        f"top_k {c['top_k']} draw `{c['text']}`"
        for c in calls
    ]
    assert any(line in DOC.read_text(encoding="utf-8") for line in lines)


if __name__ == "__main__":
    text = DOC.read_text(encoding="utf-8")
    text = re.sub(
        r"(<!-- generate -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}{table(sys.argv[1])}\n{m[2]}",
        text,
        flags=re.S,
    )
    DOC.write_text(text, encoding="utf-8")
