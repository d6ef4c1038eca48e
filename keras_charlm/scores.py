"""How well a model predicts a text, as numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Scores:
    """How well a model predicts a text.

    Attributes:
        characters: How many were predicted.
        unknown: How many of them the model has never seen; they count as its unknown symbol.
    """

    characters: int
    nats_per_character: float
    bits_per_character: float
    perplexity: float
    accuracy: float
    unknown: int = 0

    @classmethod
    def of(cls, characters: int, bits: float, correct: int, unknown: int = 0) -> Scores:
        """From sums over all characters: of -log2 p, of those that were the likeliest, and of those
        that are unknown."""
        if not characters:
            return cls(0, *[math.nan] * 4)
        mean = bits / characters
        perplexity = 2**mean if mean < 1000 else math.inf
        return cls(characters, mean * math.log(2), mean, perplexity, correct / characters, unknown)

    def to_dict(self) -> dict:
        return asdict(self)
