"""How likely a model finds each of many lines, from its on-device file without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_charlm.display import printable
from keras_charlm.generation.litert import SignatureRunner, score_text
from keras_charlm.notebook import coloured
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary
from keras_charlm.text.vocabulary import normalize as unicode_normalize


@dataclass(frozen=True)
class Score:
    """What a model thinks of a line.

    Attributes:
        text: The line, without its newline.
        characters: Its characters; for a model of lines, the newline that ends it included.
        bits: Sum of -log2 p over them.
        unknown: How many are outside the vocabulary.
    """

    text: str | bytes
    characters: int
    bits: float
    unknown: int = 0

    @property
    def bits_per_character(self) -> float | None:
        """Mean of -log2 p; None for an empty text."""
        return self.bits / self.characters if self.characters else None


@dataclass(frozen=True)
class Surprise:
    """How surprising each character of a text is to a model.

    Attributes:
        text: The text, normalized like the model's corpus.
        bits: -log2 p of each character, float32 (N,).
    """

    text: str | bytes
    bits: np.ndarray

    def html(self) -> str:
        """The text as HTML, the redder the more surprising."""
        text = self.text.decode("latin-1") if isinstance(self.text, bytes) else self.text
        return coloured([printable(character) for character in text], self.bits.tolist())

    def _repr_html_(self) -> str:
        return self.html()


def score_lines(
    runner: SignatureRunner,
    vocabulary: Vocabulary,
    texts: Iterable[str | bytes],
    *,
    lines: bool,
    start: int,
    normalize: str = "nfc",
) -> Iterator[Score]:
    """Score lines one after another, each from a zero state.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        texts: The lines, without newlines.
        lines: Whether the model's documents are lines: then the end of a line counts.
        start: Code of the character that is read before each line.
        normalize: Unicode normalization of the lines.

    Yields:
        A score for each line, in their order; unknown characters count as the unknown symbol.
    """
    for text in texts:
        if isinstance(text, str):
            text = unicode_normalize(text, normalize)
        codes = np.concatenate([[start], vocabulary.to_codes(text), [start] if lines else []])
        characters, bits, _ = score_text(runner, vocabulary, codes.astype(np.int64))
        unknown = int((vocabulary.lookup(codes[1:].astype(np.int64)) == UNKNOWN).sum())
        yield Score(text, characters, bits, unknown)
