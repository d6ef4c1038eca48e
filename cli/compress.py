from __future__ import annotations

import json

import click

from .options import watching


@click.command()
@click.argument("model")
@click.argument("file")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="PATH",
    help="The file to write.  [default: FILE.kclm]",
)
@click.option("--overwrite", is_flag=True, help="Replace what is in --output.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compress(model, file, output, overwrite, as_json):
    """Make FILE, any file, as small as MODEL predicts it; FILE stays.

    \b
    kcharlm compress saved_models/shakespeare hamlet.txt
    kcharlm decompress saved_models/shakespeare hamlet.txt.kclm -o hamlet-again.txt
    """
    from keras_charlm.charlm import load
    from keras_charlm.evaluation.compression import compress_file

    opened = load(model)
    with watching("compress") as watch:
        path, report = compress_file(opened, file, output, overwrite=overwrite, watch=watch)
    if as_json:
        click.echo(json.dumps({"output": str(path), **report.to_dict()}))
        return
    click.echo(f"{path}: {report.compressed_bytes:,} bytes for {report.bytes:,}")
    if report.stored:
        click.echo("The model does not know such content: it is stored as it is.")
    elif report.characters:
        unknown = f"; it does not know {report.unknown:,} of them" if report.unknown else ""
        click.echo(
            f"{report.written_bits_per_character:.4f} bits per character written, "
            f"{report.bits_per_character:.4f} by the model{unknown}"
        )
