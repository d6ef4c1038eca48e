from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from keras_charlm.display import Display, printable
from keras_charlm.errors import OptionError
from keras_charlm.files import is_kind

from .options import encoding_option, file_encoding, text_values, warn_of_unknown

EVERY = 500  # lines between two updates of the progress bar


@click.command()
@click.argument("model")
@click.argument("file", default="-")
@click.option("--sort", is_flag=True, help="Print the likeliest lines first.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="Score with this label, as VALUE or COLUMN=VALUE; may be repeated for several columns.",
)
@click.option(
    "--label-prior",
    type=click.Choice(["shares", "even"]),
    default="shares",
    show_default=True,
    help="Probability of each label before a line is read: its share in the training text, or the "
    "same for all.",
)
@click.option("--tsv", is_flag=True, help="Print tab-separated values with a header.")
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Print each line as a JSON object.")
def score(
    model: str,
    file: str,
    sort: bool,
    labels: tuple[str, ...],
    label_prior: str,
    tsv: bool,
    encoding: str | None,
    as_json: bool,
) -> None:
    """Score each line of FILE (by default stdin) with MODEL: characters, bits, bits per character.

    The fewer bits per character, the likelier the line. For a model of lines the end of a line
    counts as a character. A model with labels also shows the likeliest label of each line and its
    probability.

    \b
    kcharlm score names names.txt --sort
    kcharlm score names --tsv < names.txt
    """
    from keras_charlm.charlm import load
    from keras_charlm.text.labels import columns

    if tsv and as_json:
        raise OptionError("Both --tsv and --json were given; give one.")
    opened = load(model)
    texts = opened.read_lines(file, file_encoding(encoding, opened.vocabulary.unit))
    size = Path(file).stat().st_size if file != "-" and is_kind(file, Path.is_file) else 0
    display = Display()
    unknown = characters = 0
    with contextlib.ExitStack() as stack:
        if size and not (sys.stdout and sys.stdout.isatty()):  # the bar would mix with the lines
            display.start()
            stack.callback(display.stop)
            texts = _watched(texts, size, display)
        scores: Any = opened.scores(texts, labels=labels, label_prior=label_prior)
        if sort:
            scores = sorted(scores, key=lambda s: s.bits_per_character or 0.0)
        if tsv:
            given = {label.column for label in opened.labels(labels)}
            names = [name for name in columns(opened.card.labels) if name not in given]
            extra = [f"{column}\t{column}_probability" for column in names]
            click.echo("\t".join(["characters\tbits\tbits_per_character", *extra, "text"]))
        for one in scores:
            _show(one, tsv, as_json)
            unknown, characters = unknown + one.unknown, characters + one.characters
    warn_of_unknown(unknown, characters, opened.vocabulary.unit_name)


def _watched(texts: Iterator[str | bytes], size: int, display: Display) -> Iterator[str | bytes]:
    """Show the progress by the part of the file, of `size` bytes, that was scored."""
    done = 0
    for number, text in enumerate(texts, 1):
        if number % EVERY == 0:
            display.update("score", min(done / size, 1.0), f"{number:,} lines")
        done += 1 + len(text.encode("utf-8", "replace") if isinstance(text, str) else text)
        yield text


def _show(one: Any, tsv: bool, as_json: bool) -> None:
    values, mean = text_values(one.text), one.bits_per_character
    text = values["text"]
    if as_json:
        more = {"characters": one.characters, "bits": one.bits, "bits_per_character": mean}
        if one.labels:
            more["labels"] = {
                x.column: {"value": x.value, "probability": x.probability} for x in one.labels
            }
        click.echo(json.dumps({**values, **more}))
    elif tsv:
        shown = "" if mean is None else f"{mean:.4f}"
        extra = [f"{_cell(x.value)}\t{x.probability:.4f}" for x in one.labels]
        fields = [str(one.characters), f"{one.bits:.4f}", shown, *extra, _cell(text)]
        click.echo("\t".join(fields))
    else:
        shown = "-" if mean is None else f"{mean:.3f}"
        extra = "".join(f"  {x.probability:4.0%} {x.value:<10}" for x in one.labels)
        line = printable(f"{shown:>8} {one.bits:9.2f} {one.characters:5}{extra}  {text}")
        click.echo(line.replace("\n", "\u2424"))  # a document may have several lines


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
