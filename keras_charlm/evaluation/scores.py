"""How well a model predicts a text, as numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


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
    def of(
        cls, characters: int, bits: float, correct: int, unknown: int = 0, **more: Any
    ) -> Scores:
        """From sums over all characters: of -log2 p, of those that were the likeliest, and of those
        that are unknown."""
        if not characters:
            return cls(0, *[math.nan] * 4, **more)
        mean = bits / characters
        perplexity = 2**mean if mean < 1000 else math.inf
        return cls(
            characters, mean * math.log(2), mean, perplexity, correct / characters, unknown, **more
        )

    def to_dict(self) -> dict:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Evaluation(Scores):
    """The scores of a text, and beside them what else was asked for.

    Attributes:
        text: What was read: a path, or the model's own validation part.
        dynamic: Scores of the network that learns on while it reads; see `dynamic`.
        baseline: `order`, `grams` and `bits_per_character` of a counting model; see `ngram`.
        kinds: Rows of the table of kinds; see `kinds.table`.
        novelty: Of what the model writes; see `novelty.measure`.
    """

    text: str | None = None
    dynamic: Scores | None = None
    baseline: dict[str, Any] | None = None
    kinds: list[dict[str, Any]] | None = None
    novelty: dict[str, Any] | None = None
