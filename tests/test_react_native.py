"""The listing for React Native, compiled by tsc and run under Node, draws what Python draws."""

import re
import shutil
import subprocess
from pathlib import Path

import apps
import pytest
from ai_edge_litert.interpreter import Interpreter

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
STUBS = Path(__file__).parent / "stubs" / "react-native"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled listing's folder."""
    if not shutil.which("tsc"):
        pytest.skip("no TypeScript compiler on the PATH: npm install --global typescript")
    folder = tmp_path_factory.mktemp("react-native")
    package = folder / "node_modules" / "react-native-fast-tflite"
    package.mkdir(parents=True)
    for name in "index.d.ts", "index.js":
        shutil.copy(STUBS / name, package)
    for place in folder, package:
        (place / "package.json").write_text('{"type": "module"}')
    shutil.copy(STUBS / "main.js", folder)
    listing = re.search(r"```typescript\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)[1]
    (folder / "charlm.ts").write_text(listing, encoding="utf-8")
    subprocess.run(
        ["tsc", "--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module",
         "nodenext", "--lib", "es2022", "charlm.ts"],
        cwd=folder, check=True,
    )  # fmt: skip
    return folder / "main.js"


def test_texts_are_those_that_python_draws(program, text_model):
    apps.assert_texts_are_python_s(["node", program], text_model)


def test_lines_are_those_that_python_draws(program, list_model):
    apps.assert_lines_are_python_s(["node", program], list_model)


def test_the_order_of_the_tensors_is_documented(text_model):
    interpreter = Interpreter(str(text_model / "model.tflite"))
    text = " ".join(DOC.read_text(encoding="utf-8").split())
    inputs = ", ".join(f"`{d['name']}`" for d in interpreter.get_input_details())
    outputs = ", ".join(f"`{d['name'][4:]}`" for d in interpreter.get_output_details())
    assert f"Its inputs, from 0 on, are {inputs}; its outputs {outputs}." in text
