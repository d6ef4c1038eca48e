"""Train the bundled model of source code: `python -m benchmarks.code SQLITE3_C -o FOLDER`.

SQLITE3_C is SQLite's amalgamation, sqlite3.c, which is in the public domain. The other half of the
text is the standard library of the Python that runs this. Three of its modules and the end of
SQLite's file are held out and scored at the end.
"""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

import click

from benchmarks.common import kcharlm, save
from benchmarks.english import score

# Tables, tests, installed packages and whole programs among Python's modules.
LEFT_OUT = {"test", "tests", "site-packages", "idlelib", "turtledemo", "encodings", "pydoc_data"}
HELD_OUT = ("argparse.py", "statistics.py", "tarfile.py")
TAIL = 300_000  # characters of SQLite's end
OPTIONS = (
    "--size medium --dropout 0 --batch-size 64 --epochs 1 --learning-rate 0.004 --min-count 20 "
    "--val-frac 0.01 --test-frac 0 --quantize int8"
)


def library() -> tuple[list[str], dict[str, str]]:
    """The modules of Python's standard library to train on, and those held out."""
    folder = Path(sysconfig.get_path("stdlib"))
    train, held_out = [], {}
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder)
        if LEFT_OUT & set(inner.parts):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if str(inner) in HELD_OUT:
            held_out[str(inner)] = text
        else:
            train.append(text)
    return train, held_out


@click.command()
@click.argument("sqlite", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(sqlite, output):
    """Train the model, and score what is held out."""
    train, held_out = library()
    text = sqlite.read_text(encoding="utf-8")
    train.append(text[:-TAIL])
    held_out["sqlite3.c, the end"] = text[-TAIL:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.txt"
        path.write_text("\n\n".join(train), encoding="utf-8")
        kcharlm("fit", path, "-o", output, *OPTIONS.split())
        save("code", score(output, held_out, Path(folder)))


if __name__ == "__main__":
    main()
