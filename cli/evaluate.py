from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_charlm.config import EvaluateConfig

from .options import (
    encoding_option,
    file_encoding,
    given,
    load_tensorflow,
    settings,
    warn_of_unknown,
    watching,
)

if TYPE_CHECKING:
    from keras_charlm.evaluation.scores import Evaluation


@click.command()
@click.argument("model")
@click.argument("file", required=False)
@settings(EvaluateConfig)
@click.option(
    "--corpus",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="A file that the model was trained on, if the training text is needed and is no longer "
    "in the cache; may be repeated.",
)
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: str,
    file: str | None,
    corpus: tuple[str, ...],
    encoding: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score how well MODEL predicts FILE (- for stdin), in one pass over the whole text.

    Without FILE, the validation part of MODEL's training corpus is scored.

    \b
    kcharlm evaluate saved_models/shakespeare other.txt
    kcharlm evaluate saved_models/shakespeare --baseline ngram --dynamic --by kind
    kcharlm evaluate shakespeare.tflite other.txt --json
    """
    from keras_charlm.charlm import load

    options = given(options)
    EvaluateConfig(**options)  # report a mistake before TensorFlow loads, which takes seconds
    opened = load(model)
    text = None
    if file:  # report a mistake in it early too
        text = opened.read(Path(file), file_encoding(encoding, opened.vocabulary.unit))
    elif encoding:
        click.echo("--encoding has no effect without FILE.", err=True)
    if not opened.on_device:
        load_tensorflow()
    with watching("evaluate") as watch:
        found = opened.evaluate(text, corpus=corpus, watch=watch, **options)
    warn_of_unknown(found.unknown, found.characters, opened.vocabulary.unit_name)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    for line in _lines(found, opened.vocabulary.unit_name):
        click.echo(line)


def _lines(found: Evaluation, unit: str) -> Iterator[str]:
    """Format the scores for the terminal."""
    from keras_charlm.display import printable

    yield f"text                {printable(found.text or '')}"
    yield f"{unit + 's':<20}{found.characters:,}"
    if found.unknown:
        yield f"{'unknown':<20}{found.unknown:,} (not in the training text)"
    for name, digits in (("nats_per_character", 4), ("bits_per_character", 4), ("perplexity", 3)):
        label = name.replace("_per_character", f" per {unit}")
        yield f"{label:<20}{getattr(found, name):.{digits}f}"
    yield f"accuracy            {found.accuracy:.2%}"
    if found.windows:
        yield (
            f"{'windows':<20}{found.windows.bits_per_character:.4f} bits per {unit} "
            f"({found.windows.nats_per_character:.4f} nats), each from a zero state"
        )
    if found.dynamic:
        yield (
            f"dynamic             {found.dynamic.bits_per_character:.4f} bits per {unit}, "
            f"accuracy {found.dynamic.accuracy:.2%}, learning while it reads"
        )
    if found.baseline:
        yield f"{str(found.baseline['order']) + '-grams':<20}{_baseline(found, unit)}"
    if found.kinds:
        yield ""
        yield from _kinds(found.kinds)
    if found.labels:
        yield ""
        yield from _labels(found.labels)
    if found.novelty:
        yield ""
        yield from _novelty(found.novelty)


def _baseline(found: Evaluation, unit: str) -> str:
    """Describe the score of n-grams, and whether it differs from the model's beyond the margin."""
    counted = found.baseline or {}
    bits, margin = counted["bits_per_character"], counted["margin"]
    if bits is None:
        return "no score"
    verdict = "no clear difference from the model"
    if margin is not None and abs(bits - found.bits_per_character) > margin:
        verdict = f"{'worse' if bits > found.bits_per_character else 'better'} than the model"
    error = "" if margin is None else f" +- {margin:.4f}"
    return f"{bits:.4f}{error} bits per {unit}, {verdict}, by {counted['grams']:,} grams"


def _kinds(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Format the table of the loss by kind of character."""
    others = [name for name in ("dynamic", "baseline") if f"{name}_bits_per_character" in rows[0]]
    shown = {"dynamic": "dynamic", "baseline": "n-grams"}
    yield (
        f"{'kind':<42}{'characters':>12}{'share':>8}{'bits':>8}"
        + "".join(f"{shown[name]:>9}" for name in others)
        + f"{'of loss':>9}"
    )
    for row in rows:
        yield (
            f"{row['kind']:<42}{row['characters']:>12,}{row['share']:>8.1%}"
            f"{row['bits_per_character']:>8.3f}"
            + "".join(f"{row[f'{name}_bits_per_character']:>9.3f}" for name in others)
            + f"{row['share_of_loss']:>9.1%}"
        )


def _labels(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Format the table of the loss by label."""
    from keras_charlm.display import printable

    yield f"{'label':<32}{'examples':>10}{'characters':>12}{'share':>8}{'bits':>8}"
    for row in rows:
        yield (
            f"{printable(row['column'] + '=' + row['label']):<32}{row['examples']:>10,}"
            f"{row['characters']:>12,}{row['share']:>8.1%}{row['bits_per_character']:>8.3f}"
        )


def _novelty(found: dict[str, Any]) -> Iterator[str]:
    """Format the table of how much is copied from the training text."""
    from keras_charlm.display import printable

    both = found["drawn"], found["real"]
    yield f"{'in the training text':<32}{'drawn':>12}{'real':>12}"
    yield f"{'characters':<32}" + "".join(f"{side['characters']:>12,}" for side in both)
    shares = [
        (f"windows of {length}", [side["windows"][length] for side in both])
        for length in both[0]["windows"]
    ]
    if "lines" in both[0]:
        shares.insert(0, ("whole lines", [side["lines"] for side in both]))
    for label, values in shares:
        yield f"{label:<32}" + "".join(
            f"{'-' if value is None else f'{value:.2%}':>12}" for value in values
        )
    yield f"{'longest passage':<32}" + "".join(
        f"{side['longest']['characters'] if side['longest'] else 0:>12,}" for side in both
    )
    for label, side in zip(("drawn", "real"), both, strict=True):
        if longest := side["longest"]:
            text = printable(longest["text"]).replace("\n", "\u2424").replace("\t", "\u2409")
            yield (
                f"{label}: line {longest['line']:,}, offset {longest['offset']:,}: "
                f"{text[:200]}{'...' if len(text) > 200 else ''}"
            )
