"""A drawn text, and what is the same for all texts that are drawn for a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """A drawn text.

    Attributes:
        text: The continuation, without the prompt and without the final stop text or newline.
        prompt: The normalized prompt.
        seed: The seed that reproduces the text.
        bits_per_character: Mean of -log2 p over the characters drawn, including the stop text or
            newline, with the probabilities at temperature 1; None if nothing was drawn.
        ended: Whether the text ended by itself or with the stop text; otherwise it was cut where
            it reached the requested length.
    """

    text: str | bytes
    prompt: str | bytes
    seed: int
    bits_per_character: float | None
    ended: bool = True

    @property
    def whole(self) -> str | bytes:
        """The prompt and its continuation."""
        prompt: Any = self.prompt  # of the same type as the text
        return prompt + self.text


@dataclass
class Counts:
    """Counters that `draw_samples` updates while it runs."""

    drawn: int = 0  # samples that were not empty
    novel: int = 0  # those of them that are not in the training text
    cut: int = 0  # lines that reached the longest length before they ended
    repeated: int = 0  # lines like one that was yielded before
    yielded: int = 0  # samples that fit all conditions
    complete: bool = False  # no other line fits the constraints


@dataclass(frozen=True)
class Task:
    """The inputs that are the same in all calls for a prompt and a configuration."""

    prompt: str | bytes
    last: int  # the prompt's last code, not yet read
    state: np.ndarray  # (1, S), after reading all codes before it
    seed: int
    length: int
    stop: str | bytes  # ends a sample; empty for none, or where the network itself stops
    settings: dict[str, np.ndarray]
    usual: int | None = None  # longest line that is usual; None if a length was given
