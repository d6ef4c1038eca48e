"""docs/mobile.md agrees with the on-device file, and its web page generates Python's text."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import hosts
import pytest

from benchmarks import docs

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
LISTINGS = ("kotlin", "swift", "typescript", "dart", "html")


def listing(language):
    return re.search(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)[1]


def test_the_table_is_that_of_the_file(text_model):
    table = docs.tensor_table(text_model / "model.tflite")
    assert docs.section("docs/mobile.md", "tensors")[2] == table


@pytest.mark.parametrize("language", LISTINGS)
def test_listings_give_every_input_and_ask_for_no_other_tensor(text_model, language):
    inputs, outputs = docs.tensors(text_model / "model.tflite")
    code = listing(language)
    for name in inputs:
        assert re.search(rf"['\"]{name}['\"]|\b{name}[:,]", code), f"{name} is not given"
    matches = re.findall(
        r"""(?:put|put(?:Int|Float)|[gG]et|_(?:in|out)put|width|ints|getValue|named:)\s*\(?["'](?:out_)?(\w+)["']"""
        r"""|inputs\["(\w+)"\]|\bout\.(?:out_)?(\w+)""",
        code,
    )
    used = {name for names in matches for name in names if name} - {"textContent"}
    assert used <= inputs.keys() | outputs.keys()


@pytest.mark.parametrize("language", LISTINGS)
def test_listings_refuse_settings_out_of_range(language):
    assert re.search(r"\b(count|lengths\[0\]) (< 0|>= 0)", listing(language))


def test_the_page_generates_the_text_of_python(text_model, tmp_path):
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
    # The click is added; everything else is the listing, unchanged.
    click = "setInterval(() => go.disabled || out.textContent || go.click(), 50)"
    page = f"{listing('html')}<script type=module>{click}</script>"
    (tmp_path / "page" / "index.html").write_text(page, encoding="utf-8")
    expected = keras_charlm.load(text_model).generate("the cat", seed=1)
    shown = browse(chromium, tmp_path / "page", tmp_path / "profile")
    assert shown == expected


def browse(chromium, folder, profile):
    """The text of <pre id="out"> after half a minute of the page's own time."""
    with hosts.served(folder) as (address, _):
        dom = subprocess.run(
            [
                chromium,
                *hosts.FLAGS,
                "--headless",
                f"--user-data-dir={profile}",
                "--virtual-time-budget=30000",
                "--dump-dom",
                f"{address}index.html",
            ],
            capture_output=True,
            timeout=120,
            check=True,
        ).stdout.decode()
    return re.search(r'<pre id="out">(.*?)</pre>', dom, re.S)[1]


def test_numbers_in_the_text_are_those_of_the_file(text_model):
    from ai_edge_litert import schema_py_generated as schema

    file = text_model / "model.tflite"
    _, outputs = docs.tensors(file)
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
