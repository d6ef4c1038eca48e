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
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def decompress(model: str, file: str, output: str | None, overwrite: bool) -> None:
    """Restore the file that kcharlm compress read, from FILE and the same MODEL; FILE is kept.

    \b
    kcharlm decompress saved_models/shakespeare hamlet.txt.kclm
    """
    from keras_charlm.charlm import load

    opened = load(model)
    with watching("decompress") as watch:
        path, size = opened.decompress_file(file, output, overwrite=overwrite, watch=watch)
    click.echo(f"{path}: {size:,} bytes")
