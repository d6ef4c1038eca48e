from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from keras_charlm.display import Display, printable
from keras_charlm.errors import CorpusError, OptionError

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
@click.option("--json", "as_json", is_flag=True, help="Print each line as a JSON object.")
def score(
    model: str,
    file: str,
    sort: bool,
    labels: tuple[str, ...],
    label_prior: str,
    tsv: bool,
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
    display = Display()
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_opened(file))
        size = os.fstat(stream.fileno()).st_size if file != "-" else 0
        texts = _lines(stream, file, opened)
        if size and not sys.stdout.isatty():  # the bar would mix with the lines
            display.start()
            stack.callback(display.stop)
            texts = _watched(texts, stream, size, display)
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


def _opened(file: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if file == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(file, "rb")  # noqa: PTH123
    except OSError as error:
        raise CorpusError(f"{file} cannot be read ({error.strerror}); correct its path.") from error


def _lines(stream: BinaryIO, file: str, opened: Any) -> Iterator[str | bytes]:
    """The lines of a file as the model reads them, without their ends."""
    if opened.vocabulary.unit == "byte":
        yield from (line.rstrip(b"\n") for line in stream)
        return
    encoding = opened.card.corpus_config.encoding
    text = io.TextIOWrapper(stream, "utf-8-sig" if encoding == "utf-8" else encoding)
    number = 0
    try:
        for line in text:
            yield line.rstrip("\n")
            number += 1
    except UnicodeError:
        raise CorpusError(f"{file} is not {encoding} after line {number:,}; convert it.") from None
    finally:
        with contextlib.suppress(ValueError):  # the file was closed when the reader of stdout was
            text.detach()


def _watched(
    texts: Iterator[str | bytes], stream: BinaryIO, size: int, display: Display
) -> Iterator[str | bytes]:
    """Show the progress by the part of the file that was read."""
    for number, text in enumerate(texts, 1):
        if number % EVERY == 0:
            display.update("score", min(stream.tell() / size, 1.0), f"{number:,} lines")
        yield text


def _show(one: Any, tsv: bool, as_json: bool) -> None:
    text, mean = one.text, one.bits_per_character
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if as_json:
        values: dict[str, Any] = {"text": text, "characters": one.characters, "bits": one.bits}
        values |= {"bits_per_character": mean}
        if one.labels:
            values["labels"] = {
                x.column: {"value": x.value, "probability": x.probability} for x in one.labels
            }
        click.echo(json.dumps(values))
    elif tsv:
        shown = "" if mean is None else f"{mean:.4f}"
        extra = [f"{_cell(x.value)}\t{x.probability:.4f}" for x in one.labels]
        fields = [str(one.characters), f"{one.bits:.4f}", shown, *extra, _cell(text)]
        click.echo("\t".join(fields))
    else:
        shown = "-" if mean is None else f"{mean:.3f}"
        extra = "".join(f"  {x.probability:4.0%} {x.value:<10}" for x in one.labels)
        line = f"{shown:>8} {one.bits:9.2f} {one.characters:5}{extra}  {text}"
        click.echo(printable(line))


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\r", "\\r")
