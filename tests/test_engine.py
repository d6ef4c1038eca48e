"""The page's own engine: it is built from its source, and draws what LiteRT draws, under Node."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_tflite import CASES, built, shape, text_of

from keras_charlm.config import SampleConfig
from keras_charlm.errors import ExportError
from keras_charlm.export import tflite, web, weights
from keras_charlm.generation import tables
from keras_charlm.generation.litert import Runner

FOLDER = Path(web.__file__).parent / "engine"
# temperature, top-k, top-p, min-p
SETTINGS = [(0.8, 0, 1.0, 0.0), (1.5, 4, 0.9, 0.0), (1.0, 0, 0.7, 0.1), (0.0, 0, 1.0, 0.0)]


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """Runs tests/engine.mjs on a weights file: {weights, calls: outputs}."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node is not installed: apt-get install nodejs")
    folder = tmp_path_factory.mktemp("engine")
    for name in ("own.js", "files.js"):
        shutil.copy(FOLDER.parent / "page" / name, folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def call(content, calls):
        (folder / "weights.bin").write_bytes(content)
        values = {
            "modules": str(folder),
            "program": str(FOLDER / web.PROGRAM),
            "weights": str(folder / "weights.bin"),
            "calls": calls,
        }
        done = subprocess.run(
            [program, Path(__file__).parent / "engine.mjs"],
            input=json.dumps(values),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def packed(name, content):
    """The weights file of a case of test_tflite."""
    keras_model, _, vocabulary, _ = built(name)
    values = {w.path.split("/", 1)[-1]: w.numpy() for w in keras_model.trainable_variables}
    return weights.pack(shape(name), vocabulary, values, content)


def inputs(vocabulary, settings):
    """A call of `generate_batch`: rows of every length, the last ones idle."""
    temperature, top_k, top_p, min_p = settings
    text = np.zeros((16, 64), np.int32)
    lengths = np.array([1, 2, 3, 10, 64, 63, 7, 1, 1, 1, 5, 6, 20, 33, 0, 0], np.int32)
    for row, length in enumerate(lengths):
        text[row, :length] = text_of(vocabulary, length, seed=row)
    ints = {
        "text": text,
        "text_length": lengths,
        "seed": np.arange(16, dtype=np.int32) * 1234567,
        "position": np.arange(16, dtype=np.int32) * 3,
        "length": np.array([40], np.int32),
        "stop": np.array([10], np.int32),
        "top_k": np.array([top_k], np.int32),
    }
    floats = {
        "temperature": np.array([temperature], np.float32),
        "top_p": np.array([top_p], np.float32),
        "min_p": np.array([min_p], np.float32),
    }
    return ints, floats


def listed(ints, floats):
    """A call as JSON has it."""
    return {
        part: {name: array.ravel().tolist() for name, array in arrays.items()}
        for part, arrays in (("ints", ints), ("floats", floats))
    }


@pytest.mark.parametrize(
    ("name", "quantize"),
    [*((name, "none") for name in CASES), ("lstm-tied", "float16"), ("gru", "int8")],
)
def test_the_engine_draws_what_litert_draws(node, name, quantize):
    _, network, vocabulary, content = built(name)
    if quantize != "none":
        content = tflite.convert(network, quantize)
    runner, calls, expected = Runner(content), [], []
    for settings in SETTINGS:
        ints, floats = inputs(vocabulary, settings)
        calls.append(listed(ints, floats))
        state = np.zeros((16, runner.state_size), np.float32)
        expected.append(runner("generate_batch", **ints, **floats, state=state))
    for ours, theirs in zip(node(packed(name, content), calls), expected, strict=True):
        for output in ("text", "lengths", "done"):
            assert ours[output] == theirs[output].ravel().tolist()


@pytest.mark.parametrize("mask", [0, 1])
def test_the_engine_follows_a_rule_as_litert_does(node, mask):
    _, _, vocabulary, content = built("lstm-tied")
    runner = Runner(content)
    rule = tables.compile_tables(vocabulary, SampleConfig(ban=("e", "th")), None)
    ints, floats = inputs(vocabulary, SETTINGS[0])
    moves = np.zeros(tables.ENTRIES, np.int32)
    moves[: rule.moves.size] = rule.moves.ravel()
    ints |= {
        "classes": rule.classes,
        "moves": moves,
        "width": np.array([rule.moves.shape[1]], np.int32),
        "mask": np.array([mask], np.int32),
        "patience": np.array([100], np.int32),
        "length": np.array([20], np.int32),
    }
    ints["text_length"][:8] = 1  # rows that may fit, beside those that cannot
    ints["text"][:8, 0] = 10
    state = np.zeros((16, runner.state_size + 1), np.float32)
    expected = runner("constrained", **ints, **floats, state=state)
    (ours,) = node(packed("lstm-tied", content), [listed(ints, floats)])
    for output in ("text", "lengths", "done", "steps"):
        assert ours[output] == expected[output].ravel().tolist()
    assert max(ours["lengths"]) > 0


def test_a_damaged_weights_file_is_refused(node):
    content = packed("lstm", built("lstm")[3])
    for damaged in content[:-4], content + bytes(4), b"CLM2" + content[4:], content[:20]:
        with pytest.raises(AssertionError, match="cannot be opened by this page"):
            node(damaged, [])


def test_the_file_of_another_model_is_refused():
    with pytest.raises(ExportError, match="does not hold the model's"):
        packed("lstm", built("lstm-tied")[3])


def test_the_program_is_built_from_its_source(tmp_path):
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        pytest.skip("clang and wasm-ld are not installed: apt-get install clang lld")
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True).stdout
    if "version 14." not in version:
        pytest.skip(f"engine.wasm was built by clang 14; this is {version.splitlines()[0]}")
    subprocess.run([FOLDER / "build.sh", tmp_path], check=True)
    built_again = (tmp_path / web.PROGRAM).read_bytes()
    assert built_again == (FOLDER / web.PROGRAM).read_bytes()
    assert len(built_again) < 30_000
