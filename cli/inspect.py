from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from keras_charlm.config import InspectConfig
from keras_charlm.display import printable

from .options import (
    encoding_option,
    file_encoding,
    given,
    output_option,
    settings,
    warn_of_unknown,
)


@click.command()
@click.argument("model")
@click.argument("file")
@output_option("the model's name, in the current folder", what="page", metavar="PAGE")
@click.option(
    "--probe",
    multiple=True,
    metavar="REGEX",
    help="Also look for cells that follow what this matches; may be repeated.",
)
@click.option(
    "--ablate",
    multiple=True,
    metavar="LAYER:CELL",
    help="Hold this cell at zero and show what that costs; may be repeated.",
)
@settings(InspectConfig)
@click.option(
    "--npz", type=click.Path(), metavar="PATH", help="Write all activations as a NumPy archive."
)
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(
    model: str,
    file: str,
    output: str | None,
    overwrite: bool,
    probe: tuple[str, ...],
    ablate: tuple[str, ...],
    npz: str | None,
    encoding: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a page that shows which cells of MODEL follow which features of FILE (- for stdin).

    With --json or --npz, the page is written only if --output is given.

    \b
    kcharlm inspect saved_models/shakespeare other.txt
    kcharlm inspect code main.c --probe '\\bif\\b.*' --ablate 1:37
    kcharlm inspect code main.c --json
    """
    from keras_charlm.charlm import load
    from keras_charlm.files import check_output, writing
    from keras_charlm.inspection import page
    from keras_charlm.inspection.activations import activations
    from keras_charlm.inspection.inspect import summary

    opened = load(model)
    if not output and not (as_json or npz):
        output = f"{opened.card.name}.html"
    if overwrite and not (output or npz):
        click.echo("--overwrite has no effect without --output or --npz.", err=True)
    for path in filter(None, (output, npz)):
        check_output(Path(path), overwrite)
    text = opened.read(Path(file), file_encoding(encoding, opened.vocabulary.unit))
    found = opened.inspect(text, probe=probe, ablate=ablate, **given(options))
    warn_of_unknown(found.unknown, len(found.codes), opened.vocabulary.unit_name)
    if found.left_out:
        click.echo(
            f"Read the first {len(found.codes):,} characters; {found.left_out:,} were left "
            "out (--characters reads more).",
            err=True,
        )
    if npz:
        with writing(Path(npz)):
            text = opened.vocabulary.from_codes(found.codes)
            activations(opened, text, labels=found.config.labels).save(npz)
    if output:
        written = page.write(found, output, overwrite=overwrite)
        click.echo(printable(page.summary(output, written)), err=True)
    click.echo(printable(json.dumps(found.to_dict()) if as_json else summary(found)))
