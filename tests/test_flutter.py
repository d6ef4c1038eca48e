"""The listing for Flutter is valid Dart, and uses its package as that is declared.

There is no Dart compiler here: a grammar finds errors of syntax, and no errors of types.
"""

import re
from pathlib import Path

import pytest

DOC = Path(__file__).parent.parent / "docs" / "mobile.md"
VERSION = "0.12.1"  # of tflite_flutter
# What the listing uses of it, read in its source: methods and their number of positional arguments;
# getters, and setters with =.
DECLARED = {
    "Interpreter.close": 0,
    "Interpreter.fromAsset": 1,
    "Interpreter.getInputIndex": 1,
    "Interpreter.getInputTensor": 1,
    "Interpreter.getOutputIndex": 1,
    "Interpreter.getOutputTensor": 1,
    "Interpreter.invoke": 0,
    "Tensor.data": None,
    "Tensor.data=": None,
    "Tensor.shape": None,
}
# The types of the listing's names; that of a function is the type of its result.
OWNERS = {"Interpreter": "Interpreter", "_model": "Interpreter"}
OWNERS |= {"_input": "Tensor", "_output": "Tensor"}


@pytest.fixture(scope="module")
def parse():
    """A function from Dart to the root of its syntax tree."""
    reason = "is not installed: pip install tree-sitter tree-sitter-dart"
    sitter = pytest.importorskip("tree_sitter", reason=f"tree-sitter {reason}")
    dart = pytest.importorskip("tree_sitter_dart", reason=f"tree-sitter-dart {reason}")
    parser = sitter.Parser(sitter.Language(dart.language()))
    return lambda code: parser.parse(code.encode()).root_node


def listing():
    return re.search(r"```dart\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)[1]


def members(node):
    """Members of `OWNERS` that a tree uses, each with its number of arguments."""
    children = node.named_children
    for i, child in enumerate(children):
        yield from members(child)
        owner = OWNERS.get(child.text.decode()) if child.type == "identifier" else None
        rest = children[i + 1 :]
        if owner == "Tensor":  # first the call of the function that returns it
            rest = rest[1:]
        if owner and rest and rest[0].text.startswith(b"."):
            name = f"{owner}{rest[0].text.decode()}"
            call = rest[1] if rest[1:] and rest[1].text.startswith(b"(") else None
            if rest[0].type != "selector":  # the left side of an assignment
                yield f"{name}=", None
            else:  # a call is a selector of an argument part of arguments
                yield name, call and call.named_children[0].named_children[0].named_child_count


def test_the_listing_is_valid_dart(parse):
    code = listing()
    assert not parse(code).has_error
    for right, wrong in (
        ("..setAll(0, codes)", "..setAll(0 codes)"),
        ("sync* {", "sync*"),
        ("final Interpreter _model;", "final Interpreter _model"),
        ("[10, ...prompt.runes]", "[10, ..prompt.runes"),
    ):
        assert right in code
        assert parse(code.replace(right, wrong)).has_error


def test_the_listing_uses_its_package_as_it_is_declared(parse):
    code = listing()
    assert set(members(parse(code))) == set(DECLARED.items())
    for right, wrong, found in (
        ("_model.invoke()", "_model.run(1, 2)", ("Interpreter.run", 2)),
        (".shape.last", ".size.last", ("Tensor.size", None)),
    ):
        assert found in set(members(parse(code.replace(right, wrong))))
    # What `OWNERS` says of the types.
    assert "final Interpreter _model;" in code
    assert re.findall(r"\n  Tensor (\w+)\(", code) == ["_input", "_output"]


def test_the_page_names_the_version_that_was_read():
    text = DOC.read_text(encoding="utf-8")
    assert f"Dart, tflite_flutter {VERSION} | parsed" in text
    assert f"compared with version {VERSION}" in text
