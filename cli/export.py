from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from keras_charlm.config import CONSTRAINTS, ExportConfig, SampleConfig
from keras_charlm.display import command, printable

from .options import given, output_option, settings


@click.command()
@click.argument("model")
@settings(ExportConfig)
@settings(SampleConfig, only=CONSTRAINTS)
@output_option(
    "the model's name, in the current folder",
    what="file or folder",
    replaced="Replace an existing --output once the export has passed its check.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as a JSON object.")
def export(model: str, output: str | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Export MODEL for a phone, a browser or a server, check what was written, and report on it.

    \b
    kcharlm export names --to tflite -o names.tflite
    kcharlm export names --to tflite --quantize int8
    kcharlm export names --to tflite --budget 300KB
    kcharlm export names --to web --single-file
    kcharlm export names --to android
    kcharlm export names --to android --apk
    kcharlm export names --to tflite --ends-with a
    kcharlm export names --to rule --ends-with a -o a.rule

    With constraints, the on-device file draws only texts that fit; --to rule writes them alone.
    """
    options = given(options)
    kind = options.get("to")
    # Report a mistake before the model is opened.
    ExportConfig(**{name: options[name] for name in options.keys() - set(CONSTRAINTS)})
    from keras_charlm.export import export

    report = export.export(model, output, overwrite=overwrite, **options)
    if as_json:
        click.echo(json.dumps(report))
        return
    path = Path(output or report["file"])
    click.echo(printable(export.summary(report)), err=True)
    click.echo(printable(f"{'next':<26}{_next(path, kind)}"), err=True)


def _next(path: Path, kind: str | None) -> str:
    """What to do with an export."""
    if kind == "web" and path.is_file():
        return f"open {command(path)} in a browser, or send it to someone"
    if kind == "web":
        return (
            f"{command('python', '-m', 'http.server', '--directory', path)}, then open "
            "http://localhost:8000"
        )
    if kind == "rule":
        return "give it to the on-device file as docs/mobile.md describes"
    if kind == "android" and path.is_file():
        return f"{command('adb', 'install', path)}, or open the file on the device"
    if kind == "android":
        return f"open {path} in Android Studio; README.md there says more"
    if kind == "savedmodel":
        return f"{path / 'README.md'} says how to serve it"
    if kind == "onnx":
        return f"onnxruntime.InferenceSession({str(path)!r}), in any program with ONNX Runtime"
    if kind == "keras":
        return f"keras.models.load_model({str(path)!r}), in any program with Keras"
    return command("kcharlm", "generate", path)
