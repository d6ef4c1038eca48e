"""Samples of a model at several temperatures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_charlm.generation.sample import Sample
from keras_charlm.saved.trained import TrainedModel

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)
SEED = 1  # fixed, so that the same model gives the same page
LENGTH = 320  # characters of a sample, before it is cut at the end of a line
# The sample at the top of the page; far from SEED, because line number i has the seed SEED + i.
FIRST_TEMP, FIRST_SEED, FIRST_LENGTH, FIRST_LINES = 0.8, 1000, 480, 12
# For a model of lines: maximum lines drawn at each temperature, to measure how many are new, and
# about how many characters they may have in all.
LINES, LINES_LENGTH = 200, 8000
LABEL_LINES, MOST_LABELS = 8, 50  # lines drawn for each label, and labels shown


@dataclass(frozen=True)
class Drawn:
    """The model's samples at a temperature.

    Args:
        temp: The temperature.
        texts: Samples, and whether each is new, which is known for lines only.
        bits: Mean of the model's own -log2 p over a sample's characters.
        number: For lines, the number drawn.
        novel: For lines, the share that is not in the training text.
        distinct: For lines, the share that is distinct.
    """

    temp: float
    texts: list[tuple[str, bool]]
    bits: float | None
    number: int = 1
    novel: float | None = None
    distinct: float | None = None


def draw(model: TrainedModel) -> list[Drawn]:
    """Draw samples at several temperatures with the on-device file and fixed seeds.

    Args:
        model: The model.

    Returns:
        One entry for each of `TEMPERATURES`.
    """
    draw_one = _draw_lines if model.card.lines else _draw_text
    return [draw_one(model, temp) for temp in TEMPERATURES]


def first(model: TrainedModel) -> list[tuple[str, bool]]:
    """Draw the sample at the top of the page: a text, or some lines.

    Args:
        model: The model.

    Returns:
        The texts, and whether each is new, as in `Drawn`.
    """
    if model.card.lines:
        samples = model.samples(num=FIRST_LINES, temp=FIRST_TEMP, seed=FIRST_SEED)
        return _lines(model, samples)
    sample = next(model.samples(length=FIRST_LENGTH, temp=FIRST_TEMP, seed=FIRST_SEED))
    return [(cut(_text(sample.text)), True)]


def by_label(model: TrainedModel) -> list[dict[str, Any]]:
    """Each label with its share, its scores and samples; empty for a model without labels.

    Returns:
        For each label `column`, `value`, `share`, `bits` on the test part, or else on the
        validation part, None without lines there, and `texts` as in `Drawn`.
    """
    parts = model.card.scores.get("labels", {})
    rows = parts.get("test") or parts.get("validation") or []
    bits = {(row["column"], row["label"]): row["bits_per_character"] for row in rows}
    found = []
    for label in model.card.labels[:MOST_LABELS]:
        samples = model.samples(
            num=LABEL_LINES if model.card.lines else 1,
            length=None if model.card.lines else LENGTH,
            temp=FIRST_TEMP,
            seed=SEED,
            labels=[f"{label.column}={label.value}"],
        )
        found.append(
            {
                "column": label.column,
                "value": label.value,
                "share": label.share,
                "bits": bits.get((label.column, label.value)),
                "texts": [
                    (cut(_text(s.text)), True)
                    if not model.card.lines
                    else (_text(s.text), not model.known(s.text))
                    for s in samples
                ],
            }
        )
    return found


def cut(text: str) -> str:
    """Cut a text of a fixed length where its last line ends, or else its last word.

    At least half of the text remains. It ends with a paragraph if one ends in the last quarter, so
    that no title or name of a speaker is left without what it introduces.
    """
    for mark, least in (("\n\n", 3 * len(text) // 4), ("\n", len(text) // 2)):
        end = text.rfind(mark, least)
        if end >= 0:
            return text[:end].rstrip("\n")
    end = text.rfind(" ", len(text) // 2)
    return text if end < 0 else text[:end] + " \u2026"


def _draw_text(model: TrainedModel, temp: float) -> Drawn:
    sample = next(model.samples(temp=temp, length=LENGTH, seed=SEED))
    return Drawn(temp, [(cut(_text(sample.text)), True)], sample.bits_per_character)


def _draw_lines(model: TrainedModel, temp: float) -> Drawn:
    part = model.card.split["train"]
    number = min(LINES, max(4, LINES_LENGTH * part["lines"] // part["characters"]))
    samples = list(model.samples(temp=temp, num=number, seed=SEED, repeat=True))
    bits = [each for sample in samples if (each := sample.bits_per_character) is not None]
    lines = _lines(model, samples)
    ends = np.cumsum([len(line) for line, _ in lines])
    shown = max(1, int(np.searchsorted(ends, LENGTH // 3)))
    return Drawn(
        temp,
        lines[:shown],
        float(np.mean(bits)) if bits else None,
        number,
        sum(new for _, new in lines) / max(len(lines), 1),
        len(set(lines)) / max(len(lines), 1),
    )


def _lines(model: TrainedModel, samples: Iterable[Sample]) -> list[tuple[str, bool]]:
    """Drawn lines, and whether each is whole and new."""
    return [
        (_text(sample.text), sample.ended and not model.known(sample.text)) for sample in samples
    ]


def _text(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
