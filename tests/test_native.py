"""The path of a native app: docs/native/generate.c, built and run against LiteRT's own library."""

import importlib.util
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import keras_charlm
from tests import hosts


@pytest.fixture(scope="session")
def generate(tmp_path_factory):
    """Build the program; returns a function that runs it."""
    folder = Path(importlib.util.find_spec("ai_edge_litert").origin).parent
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if not compiler:
        pytest.skip("no C compiler: put gcc on the PATH, or name another in CC")
    if not (folder / "libLiteRt.so").is_file():
        pytest.skip(f"no libLiteRt.so in {folder}")
    version = metadata.version("ai-edge-litert")
    if tuple(map(int, version.split(".")[:3])) < (2, 1, 6):
        pytest.skip(f"ai-edge-litert {version}; generate.c needs the interface of 2.1.6")
    program = tmp_path_factory.mktemp("native") / "generate"
    hosts.build(folder, program)

    def run(*args):
        return subprocess.run([program, *map(str, args)], capture_output=True, timeout=60)

    return run


@pytest.mark.parametrize("prompt", ["", "the c", "a cat, a mat" * 20, "\N{CAT FACE} ran"])
def test_a_text_is_the_one_that_python_draws(generate, text_model, prompt):
    done = generate(text_model / "model.tflite", prompt, 7)
    assert done.returncode == 0, done.stderr
    expected = keras_charlm.load(text_model).generate(prompt, seed=7, unknown_ok=True)
    assert done.stdout.decode() == expected + "\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_line_is_the_one_that_python_draws(generate, list_model, seed):
    done = generate("--lines", list_model / "model.tflite", "a", seed)
    expected = keras_charlm.load(list_model).generate("a", seed=seed)
    assert done.stdout.decode() == expected + "\n"


def test_characters_of_all_widths_are_printed(generate, tmp_path):
    text = "aé€\N{CAT FACE} \u0301\U0010ffff\n" * 40
    (tmp_path / "text").write_text(text, encoding="utf-8")
    keras_charlm.fit(
        tmp_path / "text",
        tmp_path / "model",
        layers=1,
        units=8,
        epochs=1,
        batch_size=2,
        seq_length=8,
        normalize="none",
        verbose=0,
    )
    done = generate(tmp_path / "model" / "model.tflite", "é€\N{CAT FACE}", 1)
    expected = keras_charlm.load(tmp_path / "model").generate("é€\N{CAT FACE}", seed=1)
    assert done.stdout.decode() == expected + "\n"
    assert all(character in expected for character in "aé€\N{CAT FACE}\U0010ffff")


def test_what_is_no_model_is_refused(generate, tmp_path):
    (tmp_path / "text").write_text("no model")
    for path in tmp_path / "text", tmp_path / "missing":
        done = generate(path, "a", 1)
        assert done.returncode == 1
        assert b"LiteRT's status is" in done.stderr
    assert generate("model.tflite").returncode == 2
