"""Train the bundled model of English prose: `python -m benchmarks.english PROSE -o FOLDER`.

PROSE is one file with the books that `saved_models/english/README.md` lists, as plain text from the
editions of Standard Ebooks, quotes and dashes in ASCII. Three of them are held out and scored at
the end.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from benchmarks.common import kcharlm, save

# How each book that is held out begins, and the one after it.
HELD_OUT = {
    "The Great Gatsby": ("I\n\nIn my younger and more", "I\n\nOn an exceptionally hot evening"),
    "The Wonderful Wizard of Oz": ("I\n\nThe Cyclone\n\n", "I\n\nYou don't know about me"),
    "The Picture of Dorian Gray": ("I\n\nThe studio was filled", "I\n\nAt the Admiral Benbow\n\n"),
}
OPTIONS = (
    "--size large --units 448 --dropout 0 --batch-size 64 --epochs 1 --learning-rate 0.003 "
    "--min-count 20 --val-frac 0.01 --test-frac 0 --quantize int8"
)


def divide(text: str) -> tuple[str, dict[str, str]]:
    """The text to train on, and the books that are held out.

    Raises:
        click.UsageError: A book is missing.
    """
    held_out = {}
    for title, (begins, following) in HELD_OUT.items():
        first, last = text.find(begins), text.find(following)
        if not 0 <= first < last:
            raise click.UsageError(f"{title} is not in the text where it should be.")
        held_out[title] = text[first:last]
        text = text[:first] + text[last:]
    return text, held_out


@click.command()
@click.argument("prose", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(prose, output):
    """Train the model, and score the books that are held out."""
    text, held_out = divide(prose.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "english-prose.txt"
        train.write_text(text, encoding="utf-8")
        kcharlm("fit", train, "-o", output, *OPTIONS.split())
        save("english", score(output, held_out, Path(folder)))


def score(model: Path, held_out: dict[str, str], folder: Path) -> list[dict]:
    """Bits per character of each text held out, by its title."""
    rows = []
    for title, text in held_out.items():
        path = folder / f"{title}.txt"
        path.write_text(text, encoding="utf-8")
        found = json.loads(kcharlm("evaluate", model, path, "--json"))
        rows.append(
            {
                "title": title,
                "characters": found["characters"],
                "bits": found["bits_per_character"],
            }
        )
    return rows


if __name__ == "__main__":
    main()
