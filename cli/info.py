from __future__ import annotations

import json
import sys

import click

from keras_charlm.display import printable


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole configuration as JSON.")
def info(model, as_json):
    """Show what MODEL is: configuration, scores, corpus, size, versions.

    \b
    kcharlm info saved_models/shakespeare
    kcharlm info --json
    """
    from keras_charlm.saved.bundle import open_bundle

    opened = open_bundle(model)
    card = opened.card
    if as_json:
        values = card.to_dict()
        if opened.path.is_file():
            values |= {"quantize": opened.quantize, "license": opened.license}
        text = json.dumps(values, indent=1, ensure_ascii=False)
        click.echo(printable(text) if sys.stdout and sys.stdout.isatty() else text)
        return
    for label, value in _rows(opened, card):
        click.echo(printable(f"{label:<12}{value}"))


def _rows(opened, card):
    shape, fit, corpus = card.model, card.fit, card.corpus
    yield "model", opened.path
    yield "trained", card.created + ("" if card.finished else "  (not finished: --resume goes on)")
    yield (
        "network",
        (
            f"{shape.layers} x {shape.units} {shape.cell}, "
            f"{f'embedding {shape.embedding}' if shape.embedding else 'one-hot'}, "
            f"dropout {shape.dropout:g}, {card.parameters:,} parameters"
        ),
    )
    unit = opened.vocabulary.unit_name
    yield (
        "corpus",
        (
            f"{corpus['name']}: {corpus['characters']:,} {unit}s in {corpus['bytes']:,} "
            f"bytes, {opened.vocabulary.size - 1} distinct"
            + (", one document a line" if card.lines else "")
        ),
    )
    yield "sha256", corpus["sha256"]
    yield "split", ", ".join(f"{part} {v['characters']:,}" for part, v in card.split.items())
    yield (
        "training",
        (
            f"{fit.optimizer} {fit.learning_rate:g}, {fit.schedule}, batch "
            f"{fit.batch_size} x {fit.seq_length}, seed {fit.seed}, best epoch "
            f"{card.scores.get('epoch')}"
        ),
    )
    for part in ("validation", "test"):
        if scores := card.scores.get(part):
            yield (
                part,
                (
                    f"{scores['bits_per_character']:.4f} bits per {unit} "
                    f"({scores['nats_per_character']:.4f} nats)"
                ),
            )
    alone = opened.path.is_file()
    quantize = opened.quantize if alone else fit.quantize
    yield "weights", {"none": "float32"}.get(quantize, quantize)
    if alone and opened.license:
        yield "license", opened.license
    files = [opened.path] if alone else opened.path.iterdir()
    for path in sorted(p for p in files if p.is_file()):
        yield "file", f"{path.name} {path.stat().st_size:,} bytes"
    if not alone:
        for name in (name for name in card.files if not (opened.path / name).exists()):
            yield "missing", f"{name}; copy the model again, or train it anew"
    yield "versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())
