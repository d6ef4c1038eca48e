from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import click

from keras_charlm.config import SampleConfig
from keras_charlm.display import printable
from keras_charlm.errors import OptionError, PromptError

from .options import given, settings


@click.command()
@click.argument("model", required=False)
@click.option("-p", "--prompt", default="", help="Text to go on from.")
@click.option(
    "--prompt-file", type=click.Path(), help="File with the text to go on from; - for stdin."
)
@settings(SampleConfig)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a sample: text, seed, bits_per_character.",
)
@click.option("--raw", is_flag=True, help="Print control characters to a terminal as they are.")
def generate(model, prompt, prompt_file, as_json, raw, **options):
    """Draw text from MODEL: a folder, a name under saved_models/, or a .tflite file.

    Without MODEL: the newest one there, or else the shipped name generator.

    \b
    kcharlm generate --temp 0.8
    kcharlm generate saved_models/shakespeare --prompt "ROMEO:" --length 1000
    kcharlm generate names --num 20 --novel --seed 1
    """
    from keras_charlm.charlm import load
    from keras_charlm.generation.samples import Counts
    from keras_charlm.text.vocabulary import normalize

    if prompt_file:
        if prompt:
            raise OptionError("Both --prompt and --prompt-file were given; give one.")
        prompt = _read(prompt_file)
    opened = load(model)
    if model is None:
        click.echo(f"model: {printable(str(opened.path))}", err=True)
    options, counts = given(options), Counts()
    show = _printer(opened.vocabulary.unit == "byte", raw)
    config = SampleConfig(**options)
    if as_json:
        for sample in opened.samples(prompt, counts, **options):
            text = sample.prompt + sample.text
            if isinstance(text, bytes):
                text = text.decode("utf-8", "backslashreplace")
            show(
                json.dumps(
                    {
                        "text": text,
                        "seed": sample.seed,
                        "bits_per_character": sample.bits_per_character,
                    }
                )
                + "\n"
            )
    elif config.num > 1 or config.novel or opened.card.lines:
        for i, sample in enumerate(opened.samples(prompt, counts, **options)):
            if i and not opened.card.lines:
                show("--------\n")
            show(sample.prompt + sample.text)
            show("\n")
    else:
        pieces = opened.stream(prompt, **options)
        show(normalize(prompt, opened.card.normalize))
        for piece in pieces:
            show(piece)
        show("\n")
    if config.novel:
        share = counts.novel / max(counts.drawn, 1)
        click.echo(f"novel: {counts.novel:,} of {counts.drawn:,} drawn ({share:.1%})", err=True)


def _read(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8").replace("\r\n", "\n")  # as fit does, unless told not to
    except OSError as error:
        raise PromptError(
            f"The prompt file {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError(
            f"The prompt file {path} is not UTF-8 (byte {error.start:,}); convert it."
        ) from error


def _printer(is_bytes: bool, raw: bool):
    """A function that writes a piece of text to stdout at once."""
    out = sys.stdout
    if out is None:
        raise OSError(errno.EBADF, "it is closed")
    escape = out.isatty() and not raw

    def show(piece: str | bytes) -> None:
        if escape:
            piece = printable(piece)
        data = piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
        try:
            out.buffer.write(data)
            out.buffer.flush()
        except BrokenPipeError:
            # The reader has enough (`| head`). Python would complain when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            raise click.exceptions.Exit(0) from None

    return show
