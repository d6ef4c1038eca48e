"""The data of a report's charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_charlm.report import charts
from keras_charlm.report.facts import measured
from keras_charlm.saved import bundle
from keras_charlm.saved.description import describe_layers
from keras_charlm.saved.history import History, TrainingSample, read_history
from keras_charlm.saved.trained import TrainedModel

Rung = tuple[str, float, float | None, str]  # name, bits per character, margin, colour name


@dataclass(frozen=True)
class Counted:
    """The score of n-grams on a part of the text.

    Args:
        order: Their length.
        bits: Bits per character.
        margin: Margin of error of the difference to the network, see `scores.margin`; or None.
    """

    order: int
    bits: float
    margin: float | None


def counted(baseline: list[dict[str, Any]], part: str | None) -> Counted | None:
    """The score of the best n-grams on a part, from the rows of `ngram.scores`, or None."""
    if not baseline or part is None or baseline[-1][part] is None:
        return None
    row = baseline[-1]  # a model of an older version has a row of single characters first
    return Counted(int(row["order"]), row[part], row.get(f"{part}_margin"))


def even_guess(model: TrainedModel) -> float:
    """Bits per character of a guess among all of the vocabulary but the unknown symbol."""
    return math.log2(model.vocabulary.size - 1)


def rungs(model: TrainedModel, part: str, rival: Counted | None) -> list[Rung]:
    """Bits per character of an even guess, of n-grams, and of the network.

    Args:
        model: The model.
        part: The part of the text that was scored.
        rival: The score of n-grams on that part.
    """
    card, symbol, size = model.card, model.vocabulary.unit_name, model.vocabulary.size - 1
    steps: list[Rung] = [
        (f"an even guess among {size:,} {symbol}s", even_guess(model), None, "line")
    ]
    if rival:
        name = f"counting: {rival.order}-grams of the training text"
        steps.append((name, rival.bits, rival.margin, "baseline"))
    name = f"this network, {describe_layers(card.model)}"
    return [*steps, (name, card.scores[part]["bits_per_character"], None, "validation")]


def ladder(steps: list[Rung]) -> Any:
    """The chart of the rungs, as markup."""
    return charts.ladder(
        steps,
        "Bits per character of an even guess, n-grams and the network",
        "; ".join(f"{name}: {bits:.3f}" for name, bits, _, _ in steps),
    )


def curves(
    model: TrainedModel,
    history: History,
    rival: Counted | None,
    samples: list[TrainingSample],
) -> Any:
    """The chart of a training, as markup.

    Args:
        model: The model.
        history: Its training, epoch by epoch.
        rival: The score of n-grams on the validation part.
        samples: The samples that the page shows.
    """
    train = history.column("train_bits_per_character")
    validation = history.column("val_bits_per_character")
    traced = read_history(model.path, bundle.CURVE) or history  # older models have no curve.csv
    text = f"Training falls from {train[1][0]:.2f} to {train[1][-1]:.2f} bits per character"
    if len(validation[1]):
        text += (
            f", validation from {validation[1][0]:.2f} to {validation[1][-1]:.2f}, "
            f"at best {validation[1].min():.2f}"
        )
    none = np.zeros(0), np.zeros(0)
    data = charts.Curves(
        traced.column("train_bits_per_character"),
        validation,
        traced.column("learning_rate"),
        history.column("characters_per_second") if measured(history) else none,
        traced.column("seconds"),
        even_guess(model),
        _kept(history, model.card.scores.get("epoch")),
        np.array([sample.step for sample in samples], float),
        rival.bits if rival else None,
    )
    return charts.curves(
        data, "The course of the training", f"{text}, over {train[0][-1]:,.0f} batches."
    )


def _kept(history: History, epoch: int | None) -> int | None:
    """The step of the epoch whose model was kept, if it has a validation loss."""
    for row in history.rows:
        step = row["step"]
        if row["epoch"] == epoch and row["val_bits_per_character"] is not None and step is not None:
            return int(step)
    return None
