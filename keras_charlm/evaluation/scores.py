"""Scores of a model on a text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


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
        baseline: `order`, `grams` and `bits_per_character` of an n-gram model; see `ngram`.
        kinds: Rows of the loss by kind of character; see `kinds.table`.
        novelty: How much of the model's output is copied; see `novelty.measure`.
    """

    text: str | None = None
    windows: Scores | None = None
    dynamic: Scores | None = None
    baseline: dict[str, Any] | None = None
    kinds: list[dict[str, Any]] | None = None
    novelty: dict[str, Any] | None = None
