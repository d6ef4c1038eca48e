from __future__ import annotations

import json
from pathlib import Path

import click

from .options import load_tensorflow


@click.command()
@click.argument("model")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(model, file, as_json):
    """Score how well MODEL predicts FILE (- for stdin), over the whole text, the state carried.

    \b
    kcharlm evaluate saved_models/shakespeare other.txt
    kcharlm evaluate shakespeare.tflite other.txt --json
    """
    from keras_charlm.charlm import load

    opened = load(model)
    if not opened.on_device:
        load_tensorflow()
    scores = opened.evaluate(Path(file)).to_dict()
    if as_json:
        click.echo(json.dumps(scores))
        return
    unit = opened.vocabulary.unit_name
    click.echo(f"{unit + 's':<20}{scores['characters']:,}")
    if unknown := scores["unknown"]:
        click.echo(f"{'unknown':<20}{unknown:,} (training never had them)")
    for name, digits in (("nats_per_character", 4), ("bits_per_character", 4), ("perplexity", 3)):
        label = name.replace("_per_character", f" per {unit}")
        click.echo(f"{label:<20}{scores[name]:.{digits}f}")
    click.echo(f"{'accuracy':<20}{scores['accuracy']:.2%}")
