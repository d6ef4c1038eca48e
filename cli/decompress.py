from __future__ import annotations

import click

from keras_charlm.display import printable

from .options import output_option, watching


@click.command()
@click.argument("model")
@click.argument("file")
@output_option("FILE without .kclm")
def decompress(model: str, file: str, output: str | None, overwrite: bool) -> None:
    """Restore the file that kcharlm compress read, from FILE and the same MODEL; FILE is kept.

    \b
    kcharlm decompress saved_models/shakespeare hamlet.txt.kclm
    """
    from keras_charlm.charlm import load

    opened = load(model)
    with watching("decompress") as watch:
        path, size = opened.decompress_file(file, output, overwrite=overwrite, watch=watch)
    click.echo(printable(f"{path}: {size:,} bytes"))
