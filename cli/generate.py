from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from keras_charlm.config import SampleConfig
from keras_charlm.display import printable
from keras_charlm.errors import OptionError, brief

from .options import file_encoding, given, settings, text_values

if TYPE_CHECKING:
    from keras_charlm.generation.sample import Counts
    from keras_charlm.saved.card import Card

FEWER = 3  # exit status where fewer texts than requested were printed


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
    distinct = config.novel or config.novel_label
    if not (as_json or config.num > 1 or distinct or opened.card.lines):
        pieces = opened.stream(prompt, **options)
        show(normalize(prompt, opened.card.normalize))
        for piece in pieces:
            show(piece)
        show("\n")
        return
    for i, sample in enumerate(opened.samples(prompt, counts, **options)):
        if as_json:
            more = {"seed": sample.seed, "bits_per_character": sample.bits_per_character}
            show(json.dumps({**text_values(sample.whole), **more}))
        else:
            if i and not opened.card.corpus_config.lines:
                show("--------\n")
            show(sample.whole)
        show("\n")
    _tell_counts(opened.card, config, counts)
    if counts.yielded < config.num:
        raise click.exceptions.Exit(FEWER)


def _tell_counts(card: Card, config: SampleConfig, counts: Counts) -> None:
    """Say on stderr how many of the texts were novel, cut or left out, where any were."""
    from keras_charlm.generation.samples import LINE_LENGTH

    drawn = f"{counts.drawn:,} drawn"
    novel = config.novel or config.novel_label
    if novel:
        share = counts.novel / max(counts.drawn, 1)
        click.echo(f"novel: {counts.novel:,} of {drawn} ({share:.1%})", err=True)
    if card.lines and counts.cut and config.length is None:
        limit, why = card.line_limit, f", twice the longest training {card.document}"
        click.echo(
            f"cut: {counts.cut:,} of {drawn} had not ended after "
            f"{limit or LINE_LENGTH:,} characters{why if limit else ''}; --length sets the limit",
            err=True,
        )
    if counts.yielded == config.num:
        return
    if counts.complete:
        click.echo(
            f"fewer: {counts.yielded:,} of {config.num:,}, because no other text fits; loosen a "
            "constraint, or give --repeat",
            err=True,
        )
        return
    if card.lines and not (config.temp or config.repeat):
        reason = f"at temperature 0 every {card.document} is the same"
    else:
        cut = counts.cut if novel else 0
        known = counts.drawn - counts.novel - cut if novel else 0
        reasons = [
            f"{number:,} {why}"
            for number, why in (
                (counts.repeated, "repeated another, which --repeat allows"),
                (known, f"are training {card.document}s"),
                (cut, "were cut"),
            )
            if number
        ]
        reason = f"in {counts.drawn:,} draws {', '.join(reasons) or 'none has any text'}"
    too_short = novel and config.length is not None and counts.cut > counts.drawn / 2
    advice = "a larger --length" if too_short else "a higher --temp"
    click.echo(
        f"fewer: {counts.yielded:,} of {config.num:,}, because {reason}; try {advice}", err=True
    )


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
    encoding, errors = (out.encoding, "replace") if out.isatty() else ("utf-8", "surrogateescape")

    def show(piece: str | bytes) -> None:
        if escape:
            piece = printable(piece)
        if isinstance(piece, str):
            piece = piece.encode(encoding, errors)
        out.buffer.write(piece)
        out.buffer.flush()

    return show
