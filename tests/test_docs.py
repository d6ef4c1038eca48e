"""The README says what the program does: its tables, commands and options are held here.

`PYTHONPATH=. python tests/test_docs.py` writes the tables anew.
"""

import re
import shlex
import sys
from pathlib import Path

import click
import pytest
from conftest import babble

from benchmarks.results import qualities, speeds
from keras_charlm.config import AUTO_SIZE, SIZES

README = Path(__file__).parent.parent / "README.md"
VERBS = (
    "fit",
    "generate",
    "evaluate",
    "inspect",
    "compress",
    "decompress",
    "export",
    "report",
    "info",
)
# What makes each of the README's commands small enough for a test.
TOY = {"--layers": "1", "--units": "8", "--epochs": "1", "--batch-size": "2", "--seq-length": "8"}


def command(verb):
    from kcharlm.main import VERBS, kcharlm

    assert verb in VERBS
    return kcharlm.get_command(None, verb)


def options(verb):
    return [p for p in command(verb).params if isinstance(p, click.Option)]


def table(verb):
    """The README's table of a verb's options."""
    rows = ["| option | what it does | default |", "| --- | --- | --- |"]
    for option in options(verb):
        text, _, default = (option.help or "").partition("  [default: ")
        name = ", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts))
        if isinstance(option.type, click.Choice):
            name += " " + " ".join(f"`{c}`" for c in option.type.choices)
        text = re.sub(r"((?:\\[rn])+)", r"`\1`", text)
        rows.append(f"| {name} | {text} | {default.rstrip(']')} |")
    return "\n".join(rows)


def sizes():
    rows = [
        "| `--size` | chosen for texts of | layers x units | embedding | "
        "tied | dropout (by characters of the training part) | learning rate |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    before = 0
    for most, name in AUTO_SIZE:
        size = SIZES[name]
        span = f"{before:,} to {most:,} characters" if most < float("inf") else f"over {before:,}"
        dropout = ", ".join(
            f"{rate:g}" + (f" (up to {top:,})" if top < float("inf") else "")
            for top, rate in size.dropout
        )
        rows.append(
            f"| {name} | {span} | {size.layers} x {size.units} | {size.embedding} | "
            f"{'yes' if size.tied else 'no'} | {dropout} | {size.learning_rate:g} |"
        )
        before = most
    return "\n".join(rows)


def tables():
    return {
        "sizes": sizes(),
        "quality": qualities(),
        "speed": speeds("train"),
        "speed-avx512": speeds("train-avx512"),
        **{verb: table(verb) for verb in VERBS},
    }


def section(name):
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", README.read_text(), re.S)[1]


@pytest.mark.parametrize("name", ["sizes", "quality", "speed", "speed-avx512", *VERBS])
def test_tables_are_those_of_the_program(name):
    assert section(name) == tables()[name]


def test_every_option_in_the_text_exists():
    known = {
        o
        for verb in VERBS
        for option in options(verb)
        for o in (*option.opts, *option.secondary_opts)
    } | {"--help"}
    text = re.sub(r"`python (docs/|-m benchmarks)[^`]*`", "", README.read_text())  # not ours
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert used <= known | {"--version"}, used - known


def post_commands():
    block = re.search(r"<!-- post -->\n```sh\n(.*?)```", README.read_text(), re.S)[1]
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Stand-ins for the texts of the README's examples, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("essays.txt", "shakespeare.txt", "war_and_peace.txt", "post.md", "enwik8"):
        (tmp_path / name).write_text(babble(900, seed=len(name)))
    (tmp_path / "baby_names.txt").write_text("\n".join(f"name{i}" for i in range(60)))
    for folder, name in (("stacks", "a.tex"), ("linux", "a.c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(babble(900))
    return tmp_path


def test_the_post_s_examples_run_as_written(texts, kcharlm):
    commands = post_commands()
    assert len(commands) >= 10
    for line in commands:
        stdin = None
        if "|" in line:
            fed, line = (part.strip() for part in line.split("|"))
            stdin = shlex.split(fed)[1].encode()
        program, verb, *args = shlex.split(line)
        assert program == "kcharlm"
        if verb == "fit":
            for name, value in TOY.items():
                args = (
                    [*args, name, value]
                    if name not in args
                    else [
                        value if before == name else arg
                        for before, arg in zip(["", *args], args, strict=False)
                    ]
                )
        elif verb == "generate":
            args += ["--length", "20", "--seed", "1"]
        code, out, err = kcharlm(verb, *args, stdin=stdin)
        assert code == 0, (line, err)
        assert "Traceback" not in err
        if verb == "generate":
            assert out.strip(), line


def test_the_readme_has_the_two_commands():
    lines = README.read_text().splitlines()
    assert sum(line.endswith("&& kcharlm fit") and "pip install" in line for line in lines) == 1
    assert sum(line.startswith("pip install") and line.endswith("pytest") for line in lines) == 1


def test_every_promise_names_tests_that_exist():
    text = (README.parent / "docs" / "reliability.md").read_text()
    text = text.partition("## The long forms")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert len(promises) > 15
    for row in promises:
        named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", row.rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            code = (Path(__file__).parent / file).read_text()
            assert not name or f"def {name}(" in code, name


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    text = README.read_text()
    for name, rows in tables().items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(\n?<!-- end -->)",
            lambda m, rows=rows: f"{m[1]}{rows}\n<!-- end -->",
            text,
            flags=re.S,
        )
    README.write_text(text)
