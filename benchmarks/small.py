"""Short texts: `python -m benchmarks.small --text prose=PATH --text names=PATH:lines`, and so on.

Each text is cut into pieces of several sizes, and the characters after each piece are held out. On
each piece are trained the network by the default settings, with two seeds, and from scratch; the
same text is counted with n-grams of the best order. All see the same training and validation parts,
but for lists with another seed.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.common import kcharlm, save, saved

SIZES = (3_000, 10_000, 36_000, 100_000, 300_000, 1_000_000, 3_000_000)
HELD_OUT = (20_000, 100_000)  # characters after a piece: as many as it has, within this range
WAYS = {
    "default": [],
    "another seed": ["--seed", "1"],
    "from scratch": ["--from-scratch"],
}


def cut(text: str, size: int, part: int, parts: int, lines: bool) -> tuple[str, str]:
    """A piece to train on, and the characters after it.

    Args:
        text: The whole text.
        size: Characters of the piece.
        part, parts: Which of several pieces, spread evenly over the text.
        lines: Whether to cut at the ends of lines.

    Raises:
        click.UsageError: The text is too short.
    """
    held_out = min(max(size, HELD_OUT[0]), HELD_OUT[1])
    room = len(text) - size - held_out
    if room < 0:
        raise click.UsageError(f"{len(text):,} characters; {size + held_out:,} are needed.")
    first = room * part // max(parts - 1, 1)
    cuts = [first, first + size, first + size + held_out]
    if lines:
        cuts = [text.rfind("\n", 0, at) + 1 for at in cuts]
    return text[cuts[0] : cuts[1]], text[cuts[1] : cuts[2]]


@click.command()
@click.option("--text", "texts", multiple=True, required=True, help="NAME=PATH, or PATH:lines.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES)
@click.option("--parts", default=3, help="Pieces of each size.")
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS), default=WAYS)
@click.option("--options", default="", help="More options of `kcharlm fit`, for a comparison.")
@click.option("--save-as", default="small", help="Name of the JSON file in benchmarks/results/.")
def main(texts, sizes, parts, ways, options, save_as):
    """Bits per character on held-out text, with the margin of the difference from counting.

    Each cell is saved when it is done; cells that are not run keep their figures.
    """
    rows = {(row["text"], row["size"]): row for row in saved(save_as)}
    for size in sizes:
        for given in texts:
            name, path = given.split("=", 1)
            path, _, form = path.partition(":")
            text = Path(path).read_text(encoding="utf-8")
            lines = form == "lines"
            if lines:  # a sorted list would put other names into the held-out part
                text = shuffled(text)
            runs = [
                run(cut(text, size, p, parts, lines), lines, ways, options) for p in range(parts)
            ]
            before = rows.get((name, size), {}).get("runs", [])
            if len(before) == parts:  # ways that were not run keep their figures
                runs = [old | new for old, new in zip(before, runs, strict=True)]
            rows[name, size] = {"text": name, "size": size, "runs": runs}
            click.echo(rows[name, size], err=True)
            save(save_as, [rows[key] for key in sorted(rows)])


def shuffled(text: str) -> str:
    """The distinct lines of a text in random order."""
    lines = list(dict.fromkeys(text.splitlines()))
    order = np.random.default_rng(0).permutation(len(lines))
    return "\n".join(lines[i] for i in order) + "\n"


def run(parts: tuple[str, str], lines: bool, ways: list[str], options: str) -> dict:
    """Train in each way on a piece, and score what is held out.

    Returns:
        `counting`, bits per character of the n-grams; and of each way `bits`, the `margin` of the
        difference from counting, and `seconds`.
    """
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = Path(folder) / "train.txt", Path(folder) / "held_out.txt"
        for path, part in zip((train, held_out), parts, strict=True):
            path.write_text(part, encoding="utf-8")
        for way in ways:
            model, began = Path(folder) / way, time.perf_counter()
            extra = [*WAYS[way], *(["--lines"] if lines else []), *options.split()]
            kcharlm("fit", train, "-q", "-o", model, *extra)
            took = time.perf_counter() - began
            scores = json.loads(
                kcharlm("evaluate", model, held_out, "--baseline", "ngram", "--json")
            )
            if way != "another seed":  # it divides a list into other parts
                found["counting"] = scores["baseline"]["bits_per_character"]
            found[way] = {
                "bits": scores["bits_per_character"],
                "margin": scores["baseline"]["margin"],
                "seconds": round(took, 1),
                "base": json.loads(kcharlm("info", model, "--json"))["base"],
            }
    return found


if __name__ == "__main__":
    main()
