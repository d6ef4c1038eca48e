from __future__ import annotations

from typing import Any

import click

from keras_charlm.config import ExportConfig
from keras_charlm.display import printable

from .options import given, load_tensorflow, output_option, settings


@click.command()
@click.argument("model")
@settings(ExportConfig)
@output_option(
    "the model's name, in the current folder",
    what="file or folder",
    replaced="Replace an existing --output once the export has passed its check.",
)
def export(model: str, output: str | None, overwrite: bool, **options: Any) -> None:
    """Export MODEL for a phone, a browser or a server, check what was written, and report on it.

    \b
    kcharlm export names --to tflite -o names.tflite
    kcharlm export names --to tflite --quantize int8
    kcharlm export names --to tflite --budget 300KB
    """
    options = given(options)
    ExportConfig(**options)  # report a mistake before TensorFlow loads, which takes seconds
    load_tensorflow()
    from keras_charlm.export import export

    report = export.export(model, output, overwrite=overwrite, **options)
    click.echo(printable(export.summary(report)), err=True)
