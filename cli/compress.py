from __future__ import annotations

import json

import click

from keras_charlm.display import printable

from .options import encoding_option, file_encoding, output_option, warn_of_unknown, watching


@click.command()
@click.argument("model")
@click.argument("file")
@output_option("FILE.kclm")
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="Label of FILE, or of each of its lines for a model of lines, as VALUE or COLUMN=VALUE; "
    "may be repeated for several columns.",
)
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compress(
    model: str,
    file: str,
    output: str | None,
    overwrite: bool,
    labels: tuple[str, ...],
    encoding: str | None,
    as_json: bool,
) -> None:
    """Compress FILE, of any kind, with the probabilities of MODEL; FILE is kept.

    \b
    kcharlm compress saved_models/shakespeare hamlet.txt
    kcharlm decompress saved_models/shakespeare hamlet.txt.kclm -o hamlet-again.txt
    """
    from keras_charlm.charlm import load

    opened = load(model)
    encoding = file_encoding(encoding, opened.vocabulary.unit)
    with watching("compress") as watch:
        path, figures = opened.compress_file(
            file, output, overwrite=overwrite, watch=watch, labels=labels, encoding=encoding
        )
    warn_of_unknown(figures.unknown, figures.characters, opened.vocabulary.unit_name)
    if as_json:
        click.echo(json.dumps({"output": str(path), **figures.to_dict()}))
        return
    shown = printable(str(path))
    click.echo(f"{shown}: {figures.compressed_bytes:,} bytes for {figures.bytes:,}")
    if figures.stored:
        click.echo("The model predicts this content badly, so it is stored uncompressed.")
    elif figures.characters:
        unknown = (
            f"; {figures.unknown:,} of them are not in its vocabulary" if figures.unknown else ""
        )
        click.echo(
            f"{figures.written_bits_per_character:.4f} bits per character written, "
            f"{figures.bits_per_character:.4f} by the model{unknown}"
        )
