"""The listing for Flutter is valid Dart; rewritten as TypeScript, it draws what Python draws.

There is no Dart compiler here. `dart.py` rewrites it, tsc finds errors of types, and Node runs it.
"""

import re
import shutil
import subprocess
from pathlib import Path

import apps
import pytest

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
STUBS = Path(__file__).parent / "stubs" / "flutter"
VERSION = "0.12.1"  # of tflite_flutter


@pytest.fixture(scope="module")
def dart():
    """The module that parses and rewrites Dart."""
    for name in "tree_sitter", "tree_sitter_dart":
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[test]'")
    import dart

    return dart


@pytest.fixture(scope="module")
def compile(dart, tmp_path_factory):
    """A function that compiles a listing: (its program, the compiler's errors)."""
    if not shutil.which("tsc"):
        pytest.skip("no TypeScript compiler on the PATH: npm install --global typescript")

    def compile(code):
        folder = tmp_path_factory.mktemp("flutter")
        (folder / "package.json").write_text('{"type": "module"}')
        for name in "dart.d.ts", "dart.js", "main.js":
            shutil.copy(STUBS / name, folder)
        (folder / "charlm.ts").write_text(dart.to_typescript(code), encoding="utf-8")
        done = subprocess.run(
            ["tsc", "--strict", "--target", "es2022", "--lib", "es2022", "charlm.ts", "dart.d.ts"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        return folder / "main.js", done.stdout

    return compile


@pytest.fixture(scope="module")
def program(compile):
    main, errors = compile(listing())
    assert errors == ""
    return main


def listing():
    return re.search(r"```dart\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)[1]


def test_the_listing_is_valid_dart(dart):
    code = listing()
    assert not dart.parse(code).has_error
    for right, wrong in (
        ("..setAll(0, codes)", "..setAll(0 codes)"),
        ("sync* {", "sync*"),
        ("final Interpreter _model;", "final Interpreter _model"),
        ("[10, ...prompt.runes]", "[10, ..prompt.runes"),
    ):
        assert right in code
        assert dart.parse(code.replace(right, wrong)).has_error


def test_texts_are_those_that_python_draws(program, text_model):
    apps.assert_texts_are_python_s(["node", program], text_model)


def test_lines_are_those_that_python_draws(program, list_model):
    apps.assert_lines_are_python_s(["node", program], list_model)


def test_what_the_package_does_not_declare_is_an_error(compile):
    code = listing()
    for right, wrong, error in (
        ("_model.invoke()", "_model.run(1, 2)", "'run' does not exist on type 'Interpreter'"),
        (".shape.last", ".size.last", "'size' does not exist on type 'Tensor'"),
        ("getInputIndex(name)", "getInputIndex(name, 1)", "Expected 1 arguments, but got 2"),
        ("_putInt('stop', stop)", "_putInt('stop', prompt)", "not assignable to parameter"),
    ):
        assert right in code
        assert error in compile(code.replace(right, wrong))[1]


def test_the_page_names_the_version_that_was_read():
    text = DOC.read_text(encoding="utf-8")
    assert f"Dart, tflite_flutter {VERSION} |" in text
    assert f"tflite_flutter {VERSION} as declared" in (STUBS / "dart.d.ts").read_text()
