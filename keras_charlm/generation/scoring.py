"""How likely a model finds each of many lines, from its on-device file without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_charlm.display import printable
from keras_charlm.generation.litert import SignatureRunner, score_text
from keras_charlm.notebook import coloured
from keras_charlm.text.labels import Label, columns
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary
from keras_charlm.text.vocabulary import normalize as unicode_normalize


@dataclass(frozen=True)
class LikelyLabel:
    """The likeliest label of a line in a column, and its probability given the line."""

    column: str
    value: str
    probability: float


@dataclass(frozen=True)
class Score:
    """What a model thinks of a line.

    Attributes:
        text: The line, without its newline.
        characters: Its characters; for a model of lines, the newline that ends it included.
        bits: Sum of -log2 p over them.
        unknown: How many are outside the vocabulary.
        labels: The likeliest label of each column.
    """

    text: str | bytes
    characters: int
    bits: float
    unknown: int = 0
    labels: tuple[LikelyLabel, ...] = ()

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
    given: Sequence[Label] = (),
    labels: Sequence[Label] = (),
    even: bool = False,
) -> Iterator[Score]:
    """Score lines one after another, each from a zero state.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        texts: The lines, without newlines.
        lines: Whether the model's documents are lines: then the end of a line counts.
        start: Code of the character that is read before each line.
        normalize: Unicode normalization of the lines.
        given: Labels that all lines have.
        labels: The model's labels. For each column without a given one the likeliest label is
            found by Bayes' rule, with the shares of the labels as their prior probabilities.
        even: Use equal prior probabilities instead.

    Yields:
        A score for each line, in their order; unknown characters count as the unknown symbol.
    """
    reader = _Reader(runner, vocabulary, start, [label.column for label in labels])
    fixed = {label.column: label for label in given}
    open_columns = [group for name, group in columns(labels).items() if name not in fixed]
    for text in texts:
        if isinstance(text, str):
            text = unicode_normalize(text, normalize)
        codes = vocabulary.to_codes(text)
        if lines:
            codes = np.append(codes, start)
        bits = reader.bits(fixed, codes)
        likely = []
        for group in open_columns:
            costs = np.array([reader.bits({**fixed, x.column: x}, codes) for x in group])
            if not even:
                costs -= np.log2([label.share for label in group])
            weights = np.exp2(costs.min() - costs)
            best = int(np.argmin(costs))
            probability = float(weights[best] / weights.sum())
            likely.append(LikelyLabel(group[best].column, group[best].value, probability))
        unknown = int((vocabulary.lookup(codes) == UNKNOWN).sum())
        yield Score(text, len(codes), bits, unknown, tuple(likely))


class _Reader:
    """Scores texts after labels, whose states are kept.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        start: Code that is read first.
        order: Names of the columns, in the order in which their labels are read.
    """

    def __init__(
        self, runner: SignatureRunner, vocabulary: Vocabulary, start: int, order: Sequence[str]
    ):
        self._runner, self._vocabulary, self._start = runner, vocabulary, start
        self._order = list(dict.fromkeys(order))
        self._after: dict[tuple[int, ...], np.ndarray] = {}

    def bits(self, labels: dict[str, Label], codes: np.ndarray) -> float:
        """The sum of -log2 p over codes (n,) after the labels of some columns."""
        read = [labels[name].code for name in self._order if name in labels]
        *before, last = [self._start, *read]
        key = tuple(before)
        if key not in self._after:
            self._after[key] = self._state(key)
        text = np.concatenate([[last], codes]).astype(np.int64)
        return score_text(self._runner, self._vocabulary, text, self._after[key])[1]

    def _state(self, codes: tuple[int, ...]) -> np.ndarray:
        """The state after codes, float32 (1, S)."""
        state = np.zeros((1, self._runner.state_size), np.float32)
        for code in codes:
            state = self._runner("step", text=np.array([code], np.int32), state=state)["state"]
        return state
