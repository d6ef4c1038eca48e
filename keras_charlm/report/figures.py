"""The data of a report's charts."""

from __future__ import annotations

import math
from typing import Any

from keras_charlm.report import charts
from keras_charlm.saved import bundle
from keras_charlm.saved.description import describe_layers
from keras_charlm.saved.history import History, read_history
from keras_charlm.saved.trained import TrainedModel

Rung = tuple[str, float, str]  # name, bits per character, colour name


def rungs(model: TrainedModel, part: str, counted: dict[int, float]) -> list[Rung]:
    """Bits per character of a uniform guess, of n-grams, and of the network.

    Args:
        model: The model.
        part: The part of the text that was scored.
        counted: Bits per character of n-grams on that part, by order.
    """
    card, symbol, size = model.card, model.vocabulary.unit_name, model.vocabulary.size - 1
    steps = [(f"a uniform guess among {size:,} {symbol}s", math.log2(size), "line")]
    for order, bits in counted.items():
        name = f"single {symbol}s, counted" if order == 1 else f"{order}-grams, counted"
        steps.append((name, bits, "baseline"))
    name = f"this network, {describe_layers(card.model)}"
    return [*steps, (name, card.scores[part]["bits_per_character"], "validation")]


def ladder(steps: list[Rung]) -> Any:
    """The chart of the rungs, as markup."""
    return charts.ladder(
        steps,
        "Bits per character of a uniform guess, n-grams and the network",
        "; ".join(f"{name}: {bits:.3f}" for name, bits, _ in steps),
    )


def curves(model: TrainedModel, history: History, counted: dict[int, float]) -> Any:
    """The chart of a training, as markup.

    Args:
        model: The model.
        history: Its training, epoch by epoch.
        counted: Bits per character of n-grams on the validation part, by order.
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
    data = charts.Curves(
        traced.column("train_bits_per_character"),
        validation,
        traced.column("learning_rate"),
        history.column("characters_per_second"),
        traced.column("seconds"),
        _kept(history, model.card.scores.get("epoch")),
        max([train[1][0], *validation[1][:1]]) if len(train[1]) > 1 else math.inf,
        tuple(bits for order, bits in counted.items() if order > 1),
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
