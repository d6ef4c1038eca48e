"""How well a model predicts a text, as numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Scores:
    """How well a model predicts a text."""

    characters: int
    nats_per_character: float
    bits_per_character: float
    perplexity: float
    accuracy: float

    @classmethod
    def of(cls, characters: int, bits: float, correct: int) -> Scores:
        """From sums over all characters: of -log2 p, and of those that were the likeliest."""
        if not characters:
            return cls(0, *[math.nan] * 4)
        mean = bits / characters
        perplexity = 2**mean if mean < 1000 else math.inf
        return cls(characters, mean * math.log(2), mean, perplexity, correct / characters)

    def to_dict(self) -> dict:
        return asdict(self)
