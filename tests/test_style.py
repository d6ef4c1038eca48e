"""Format, types, the one way of the imports, and the lengths of files and functions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("keras_charlm", "cli", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".js", ".css", ".html") and "__pycache__" not in path.parts
]
LONGEST_FILE, LONGEST_FUNCTION = 500, 60  # lines


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--no-cache"),
        ("ruff", "format", "--check", "--no-cache"),
        ("mypy", "--cache-dir=/dev/null"),
        ("pyright", "--pythonpath", sys.executable),
    ],
    ids=" ".join,
)
def test_the_check_commands_find_nothing(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    if command[0] == "pyright" and "errors," not in done.stdout:
        pytest.skip("pyright could not fetch its npm package")
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_go_one_way():
    # The contracts stand in pyproject.toml; imports for type checking count too.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_file_is_too_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }
    assert len(lengths) > 100
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_function_is_too_long():
    functions = [
        (str(path.relative_to(ROOT)), node.name, node.end_lineno - node.lineno + 1)
        for path in SOURCES
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [found for found in functions if found[-1] > LONGEST_FUNCTION] == []
