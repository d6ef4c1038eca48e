from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from keras_charlm.display import printable

if TYPE_CHECKING:
    from keras_charlm.saved.bundle import Bundle


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole configuration as JSON.")
def info(model: str | None, as_json: bool) -> None:
    """Show what MODEL is: configuration, scores, corpus, size, versions.

    Without MODEL, show the newest, and list the bundled models.

    \b
    kcharlm info saved_models/shakespeare
    kcharlm info --json
    """
    from keras_charlm.saved.bundle import DeviceFile, open_bundle, shipped

    opened = open_bundle(model)
    if as_json:
        values = opened.card.to_dict()
        if isinstance(opened, DeviceFile):
            values |= {"quantize": opened.quantize, "license": opened.license}
            values["constraints"] = opened.constraints
        text = json.dumps(values, indent=1, ensure_ascii=False)
        click.echo(printable(text) if sys.stdout and sys.stdout.isatty() else text)
        return
    for label, value in _rows(opened):
        click.echo(printable(f"{label:<12}{value}"))
    if model is None:
        for name, home in shipped().items():
            about = open_bundle(home).card
            text = f"{about.corpus['name']}, {about.parameters:,} parameters"
            click.echo(printable(f"{'bundled':<12}{name}: {text}"))


def _rows(opened: Bundle) -> Iterator[tuple[str, object]]:
    """The rows to print, as labels and values."""
    from keras_charlm.saved import description
    from keras_charlm.saved.description import describe_labels
    from keras_charlm.text.labels import columns

    card, unit = opened.card, opened.vocabulary.unit_name
    corpus, fit = card.corpus, card.fit
    text = description.describe_text(
        unit, corpus["characters"], corpus["bytes"], opened.vocabulary.size - 1
    )
    reading = description.describe_reading(card.corpus_config)
    yield "model", opened.path
    yield (
        "trained",
        card.created + ("" if card.finished else "  (unfinished: --resume continues it)"),
    )
    if card.base:
        yield "begun from", card.base
    yield "network", description.describe_network(card.model, card.parameters)
    yield "corpus", f"{corpus['name']}: {text}, {reading}"
    for column, labels in columns(card.labels).items():
        yield "label", f"{column}: {describe_labels(labels)}"
    yield "sha256", corpus["sha256"]
    yield "split", description.describe_split(card.split, unit, card.document)
    yield (
        "training",
        f"{description.describe_optimizer(fit)}, batch {description.describe_batch(fit, unit)}, "
        f"seed {fit.seed}, best epoch {card.scores.get('epoch')}",
    )
    for part in ("validation", "test"):
        if scores := card.scores.get(part):
            yield (
                part,
                f"{scores['bits_per_character']:.4f} bits per {unit} "
                f"({scores['nats_per_character']:.4f} nats)",
            )
    yield from _files(opened)
    yield "versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())


def _files(opened: Bundle) -> Iterator[tuple[str, str]]:
    """How the weights are stored, and which files exist or are missing."""
    from keras_charlm.saved.bundle import DeviceFile

    alone = isinstance(opened, DeviceFile)
    quantize = opened.quantize if alone else opened.card.fit.quantize
    yield "weights", {"none": "float32"}.get(quantize, quantize)
    if alone and opened.license:
        yield "license", opened.license
    if alone and opened.constraints:
        yield "draws only", opened.constraints
    files = [opened.path] if alone else opened.path.iterdir()
    for path in sorted(p for p in files if p.is_file()):
        yield "file", f"{path.name} {path.stat().st_size:,} bytes"
    if not alone:
        for name in (name for name in opened.card.files if not (opened.path / name).exists()):
            yield "missing", f"{name}; copy the model again, or train it again"
