from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from keras_charlm.config import SampleConfig
from keras_charlm.display import printable
from keras_charlm.errors import OptionError, brief

from .options import file_encoding, given, settings


@click.command()
@click.argument("model", required=False)
@click.argument("text", nargs=-1, metavar="")
@click.option("-p", "--prompt", default="", help="Text to continue.")
@click.option(
    "--prompt-file",
    type=click.Path(),
    help="File with the text to continue, read like the model's corpus; - for stdin.",
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="Encoding of --prompt-file.  [default: that of the model's corpus]",
)
@settings(SampleConfig)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print each sample as a JSON object: text, seed, bits_per_character.",
)
@click.option("--raw", is_flag=True, help="Print control characters to a terminal unescaped.")
def generate(
    model: str | None,
    text: tuple[str, ...],
    prompt: str,
    prompt_file: str | None,
    encoding: str | None,
    as_json: bool,
    raw: bool,
    **options: Any,
) -> None:
    """Generate text with MODEL: a folder, a name under saved_models/, or a .tflite file.

    Without MODEL, use the newest model under saved_models/, or else the bundled name generator.

    \b
    kcharlm generate --temp 0.8
    kcharlm generate saved_models/shakespeare --prompt "ROMEO:" --length 1000
    kcharlm generate names --num 20 --novel --seed 1
    """
    if text:
        raise OptionError(
            f"{brief(repr(' '.join(text)))} stands after the model, where generate takes only "
            "options; to continue a text, give it with --prompt."
        )
    from keras_charlm.charlm import load
    from keras_charlm.generation.samples import Counts
    from keras_charlm.text.vocabulary import normalize

    opened = load(model)
    if prompt_file or encoding:
        prompt = _read_prompt(opened, prompt, prompt_file, encoding)
    if model is None:
        click.echo(f"model: {printable(str(opened.path))}", err=True)
    options, counts = given(options), Counts()
    show = _printer(raw)
    config = SampleConfig(**options)
    if as_json:
        for sample in opened.samples(prompt, counts, **options):
            whole = sample.whole
            if isinstance(whole, bytes):
                whole = whole.decode("utf-8", "backslashreplace")
            bits = sample.bits_per_character
            show(json.dumps({"text": whole, "seed": sample.seed, "bits_per_character": bits}))
            show("\n")
    elif config.num > 1 or config.novel or config.novel_label or opened.card.lines:
        for i, sample in enumerate(opened.samples(prompt, counts, **options)):
            if i and not opened.card.corpus_config.lines:
                show("--------\n")
            show(sample.whole)
            show("\n")
    else:
        pieces = opened.stream(prompt, **options)
        show(normalize(prompt, opened.card.normalize))
        for piece in pieces:
            show(piece)
        show("\n")
    if config.novel or config.novel_label:
        share = counts.novel / max(counts.drawn, 1)
        click.echo(f"novel: {counts.novel:,} of {counts.drawn:,} drawn ({share:.1%})", err=True)


def _read_prompt(opened: Any, prompt: str, file: str | None, encoding: str | None) -> Any:
    """The prompt: that of the file, if there is one."""
    if prompt and file:
        raise OptionError("Both --prompt and --prompt-file were given; give one.")
    if file:
        return opened.read_prompt(file, file_encoding(encoding, opened.vocabulary.unit))
    click.echo("--encoding has no effect without --prompt-file.", err=True)
    return prompt


def _printer(raw: bool) -> Callable[[str | bytes], None]:
    """Return a function that writes a piece of text to stdout and flushes it.

    Args:
        raw: Do not escape control characters on a terminal.
    """
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
            # The reader has closed the pipe, as `| head` does. Python flushes stdout at exit, and
            # would report the error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            raise click.exceptions.Exit(0) from None

    return show
