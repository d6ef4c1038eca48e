from __future__ import annotations

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
    help="The file to write.  [default: FILE without .kclm]",
)
@click.option("--overwrite", is_flag=True, help="Replace what is in --output.")
def decompress(model, file, output, overwrite):
    """Give back what kcharlm compress made FILE of with the same MODEL; FILE stays.

    \b
    kcharlm decompress saved_models/shakespeare hamlet.txt.kclm
    """
    from keras_charlm.charlm import load
    from keras_charlm.evaluation.compression import decompress_file

    opened = load(model)
    with watching("decompress") as watch:
        path, size = decompress_file(opened, file, output, overwrite=overwrite, watch=watch)
    click.echo(f"{path}: {size:,} bytes")
