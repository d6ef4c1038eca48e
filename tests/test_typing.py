"""What editors and type checkers see: the settings' types, the public names, the help."""

import ast
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import keras_charlm
from benchmarks import typed
from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig, SampleConfig
from keras_charlm.config_base import help_in_python

ROOT = Path(__file__).parent.parent


def test_the_types_of_the_settings_are_those_of_the_configurations():
    assert typed.source() == typed.PATH.read_text(), "run: python -m benchmarks.docs"


def test_type_checkers_see_every_public_name():
    tree = ast.parse((ROOT / "keras_charlm" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }  # fmt: skip
    homes = {name: f"keras_charlm.{home}" for name, home in keras_charlm.HOMES.items()}
    assert seen == homes
    assert sorted(keras_charlm.__all__) == sorted(homes)


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        ("fit", (CorpusConfig, ModelConfig, FitConfig)),
        ("CharLM.generate", (SampleConfig,)),
    ],
)
def test_help_lists_every_setting_with_its_text_and_default(function, kinds):
    code = f"import keras_charlm; help(keras_charlm.{function})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    shown = " ".join(done.stdout.split())
    for field in (field for kind in kinds for field in fields(kind)):
        text = " ".join(f"{field.name}: {help_in_python(field, kinds)}".split())
        assert text in shown, field.name
        assert f"Default: {field.default!r}." in shown
    assert "--" not in shown  # flags are of the command line


def test_docstrings_keep_their_sections():
    doc = inspect.getdoc(keras_charlm.CharLM.export)
    assert doc.splitlines()[0] == "Write the model in another format, and check what was written."
    sections = [line for line in doc.splitlines() if line.endswith(":") and line[0] != " "]
    assert sections == ["Args:", "Returns:", "Raises:", "Settings:"]
