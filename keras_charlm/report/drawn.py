"""What a model writes at several temperatures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_charlm.saved.trained import TrainedModel

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)
SEED = 1  # fixed, so that the same model gives the same page
LENGTH = 320  # characters of a sample
# Of a list, to see how many lines are new: most lines drawn at each temperature, and about how many
# characters they may have together.
LINES, LINES_LENGTH = 200, 8000


@dataclass(frozen=True)
class Drawn:
    """What the model writes at a temperature.

    Args:
        temp: The temperature.
        texts: Samples, and whether each is new, which is known of a list only.
        bits: Mean of -log2 p of a sample's characters, by the model itself.
        number: Of a list, lines drawn in all.
        novel: Of a list, the share of them that are not in the training text.
        distinct: Of a list, the number of different ones divided by all.
    """

    temp: float
    texts: list[tuple[str, bool]]
    bits: float | None
    number: int = 1
    novel: float | None = None
    distinct: float | None = None


def draw(model: TrainedModel) -> list[Drawn]:
    """Samples at several temperatures, by the on-device file, with fixed seeds."""
    draw_one = _draw_lines if model.card.lines else _draw_text
    return [draw_one(model, temp) for temp in TEMPERATURES]


def _draw_text(model: TrainedModel, temp: float) -> Drawn:
    sample = next(model.samples(temp=temp, length=LENGTH, seed=SEED))
    return Drawn(temp, [(_text(sample.text), True)], sample.bits_per_character)


def _draw_lines(model: TrainedModel, temp: float) -> Drawn:
    part = model.card.split["train"]
    number = min(LINES, max(4, LINES_LENGTH * part["lines"] // part["characters"]))
    samples = list(model.samples(temp=temp, num=number, seed=SEED))
    lines = [(_text(sample.text), not model.known(sample.text)) for sample in samples]
    ends = np.cumsum([len(line) for line, _ in lines])
    shown = max(1, int(np.searchsorted(ends, LENGTH // 3)))
    return Drawn(
        temp,
        lines[:shown],
        float(np.mean([sample.bits_per_character for sample in samples])) if samples else None,
        number,
        sum(new for _, new in lines) / max(len(lines), 1),
        len(set(lines)) / max(len(lines), 1),
    )


def _text(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
