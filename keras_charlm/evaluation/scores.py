"""Scores of a model on a text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_charlm.notebook import table

# Blocks of a margin of error: as many of 1,000 characters as there are, in a short text up to 30
# of at least 10 characters, and never fewer than 5.
_BLOCK, _SHORT_BLOCK, _BLOCKS, _FEWEST = 1000, 10, 30, 5


def margin(bits: np.ndarray) -> float:
    """Half of the 95% confidence interval of a mean over the characters of a text.

    To compare two models on a text, give the differences of their bits: most of what makes a
    text hard is hard for both models, so the margin of the difference is the smaller one.

    Neighbouring characters are correlated, so their number overstates how much is known. The text
    is divided into consecutive blocks, long enough that their means are nearly independent, and
    the error is that of the mean of the blocks, with Student's t (the method of batch means: Law,
    "Simulation Modeling and Analysis", chapter 9).

    Args:
        bits: -log2 p of each character in the text's order, or a difference of two models' bits,
            float (N,).

    Returns:
        The margin in bits per character; infinite if there are fewer than 50 characters.
    """
    size = len(bits)
    blocks = max(min(_BLOCKS, size // _SHORT_BLOCK), size // _BLOCK)
    if blocks < _FEWEST:
        return math.inf
    edges = np.linspace(0, size, blocks + 1).astype(int)
    excess = np.asarray(bits, np.float64) - np.mean(bits, dtype=np.float64)
    sums = np.add.reduceat(excess, edges[:-1])  # (blocks,)
    error = math.sqrt(blocks / (blocks - 1) * float(sums @ sums)) / size
    return _student(blocks - 1) * error


def finite(value: float) -> float | None:
    """A value for JSON, which has no infinity: None if it is not finite."""
    return value if math.isfinite(value) else None


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t, within 0.3% from 4 degrees of freedom on (Abramowitz and
    Stegun, "Handbook of Mathematical Functions", 26.7.5)."""
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


@dataclass(frozen=True)
class Tally:
    """Sums over the characters of a text; the tallies of its parts add up to that of the whole.

    Attributes:
        characters: How many were predicted.
        bits: The sum of -log2 p over them.
        correct: How many of them the model ranked first.
        unknown: How many are outside the vocabulary; they are read as the unknown symbol.
    """

    characters: int = 0
    bits: float = 0.0
    correct: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, bits: np.ndarray, correct: np.ndarray, unknown: int = 0) -> Tally:
        """Sum over single characters.

        Args:
            bits: -log2 p of each, float (N,).
            correct: Whether the model ranked each first, bool (N,).
            unknown: How many are outside the vocabulary.
        """
        return cls(len(bits), float(bits.sum(dtype=np.float64)), int(correct.sum()), unknown)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.characters + other.characters,
            self.bits + other.bits,
            self.correct + other.correct,
            self.unknown + other.unknown,
        )

    @property
    def bits_per_character(self) -> float:
        """The mean of -log2 p; NaN for no characters."""
        return self.bits / self.characters if self.characters else math.nan

    def scores(self) -> Scores:
        """The means; NaN for no characters."""
        if not self.characters:
            return Scores(0, math.nan, math.nan, math.nan, math.nan)
        mean = self.bits_per_character
        return Scores(
            self.characters,
            mean * math.log(2),
            mean,
            2**mean if mean < 1000 else math.inf,
            self.correct / self.characters,
            self.unknown,
        )


@dataclass(frozen=True)
class Scores:
    """How well a model predicts a text.

    Attributes:
        characters: How many were predicted.
        nats_per_character: The mean of -ln p over them.
        bits_per_character: The mean of -log2 p.
        perplexity: 2 to the power of the bits per character.
        accuracy: The share of the characters that the model ranked first.
        unknown: How many are outside the vocabulary; they are read as the unknown symbol.
    """

    characters: int
    nats_per_character: float
    bits_per_character: float
    perplexity: float
    accuracy: float
    unknown: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The scores as a JSON object, without those not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Evaluation(Scores):
    """The scores of a text, and whatever else was requested.

    Attributes:
        text: Name of the text: a path, or the model's own validation part.
        windows: Scores of the text in windows that each begin with a zero state.
        dynamic: Scores of the network that keeps training while it reads; see `dynamic`.
        baseline: `order`, `grams` and `bits_per_character` of an n-gram model (see `ngram`), and
            the `margin` of the difference between it and this model, None for a text too short
            to tell.
        kinds: Rows of the loss by kind of character; see `kinds.table`.
        labels: Rows of the loss by label; see `labels.bits_by_label`.
        novelty: How much of the model's output is copied; see `novelty.measure`.
    """

    text: str | None = None
    windows: Scores | None = None
    dynamic: Scores | None = None
    baseline: dict[str, Any] | None = None
    kinds: list[dict[str, Any]] | None = None
    labels: list[dict[str, Any]] | None = None
    novelty: dict[str, Any] | None = None

    def _repr_html_(self) -> str:
        """Tables for a notebook."""
        values = self.to_dict()
        title, rows = str(values.pop("text", "")), list[tuple[str, object]]()
        kinds = values.pop("kinds", ())
        for name, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            rows += [
                (f"{name} {part}".strip().replace("_", " "), _shown(number))
                for part, number in parts
                if number is not None and not isinstance(number, (dict, list))
            ]
        page = table(rows, title)
        if kinds:
            page += table([list(kinds[0]), *([_shown(v) for v in row.values()] for row in kinds)])
        return page


def _shown(value: object) -> object:
    """A value as a table shows it."""
    return f"{value:,.4f}" if isinstance(value, float) else value
