"""How much of a model's output is copied verbatim from its training text.

Windows of characters are compared by 64-bit rolling hashes (Karp and Rabin, "Efficient Randomized
Pattern-Matching Algorithms", 1987): the hash of s[i], ..., s[i + L - 1] is the sum of
t[s[i + j]] b^j modulo 2^64 for random numbers t and an odd b, so that the hashes of all windows
follow from one running sum. The training text is read in blocks, so it may be larger than memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.corpus import Corpus, Lines
from keras_charlm.text.labelled_files import LabelledFileStream
from keras_charlm.text.likeness import key_fingerprints, line_texts
from keras_charlm.text.sources import Paths
from keras_charlm.text.split import Split
from keras_charlm.text.streams import LineStream, Stream
from keras_charlm.text.vocabulary import NEWLINE

WINDOWS = (20, 50)  # characters
_BLOCK = 1 << 20  # characters
_FILTER = 22  # leading bits of a hash that rule out most windows before the binary search
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


@dataclass(frozen=True)
class TrainingText:
    """A training part as a text to search; lines are in the order of the file.

    Args:
        corpus: The prepared text.
        split: Its parts.
    """

    corpus: Corpus
    split: Split

    @classmethod
    def of(cls, model: TrainedModel, files: Paths = ()) -> TrainingText:
        """The text that a model was trained on; see `TrainedModel.corpus`."""
        return cls(*model.corpus(files))

    @functools.cached_property
    def lines(self) -> Lines | None:
        """The training lines in the order of the file; None if the corpus is not lines."""
        lines = self.split.train_lines
        return None if lines is None else lines.take(np.argsort(lines.starts))

    def stream(self) -> Stream:
        """The training part in the order of the file."""
        train = self.split.train
        if self.lines is None:
            return train
        return LineStream(train.symbols, train.ids, self.lines, seed=None)

    def known(self, lines: list[bytes]) -> np.ndarray:
        """Whether each of some lines is one of the training lines, bool (len(lines),)."""
        if self.lines is None:
            return np.zeros(len(lines), bool)
        texts = line_texts(self.corpus, self.lines)
        return np.isin(key_fingerprints(lines), key_fingerprints(texts))

    def locate(self, position: int) -> dict[str, int]:
        """Find a character of `stream` in the corpus.

        Args:
            position: Its index in the stream.

        Returns:
            `offset`, in characters from 0, and `line`, from 1.
        """
        if (lines := self.lines) is not None:
            ends = np.cumsum(lines.lengths + 1)
            block = int(np.searchsorted(ends, position, side="right"))
            position = int(lines.starts[block] + lines.lengths[block] - (ends[block] - position))
        elif isinstance(self.split.train, LabelledFileStream):
            position = self.split.train.locate(position)
        before = self.corpus.symbols[:position]
        config = self.corpus.config
        breaks = [NEWLINE, config.end] if config.records else [NEWLINE]
        line = sum(
            int(np.isin(before[at : at + _BLOCK], breaks).sum())
            for at in range(0, position, _BLOCK)
        )
        first = int(config.records)  # a list is prepared with an end before it
        return {"offset": position - first, "line": line + 1 - first}


def measure(training: TrainingText, pieces: list[np.ndarray]) -> dict[str, Any]:
    """Compare texts with the training text.

    Args:
        training: The text to search.
        pieces: Texts, each ids (n,) of the model's vocabulary.

    Returns:
        `windows`: for each length the share of all windows of the pieces that occur in the training
        text, or None if no piece is that long. `longest`: the longest passage of a piece that
        occurs there, with its `ids`, `characters`, and the `offset` and `line` of one occurrence;
        None if there is none.
    """
    shares: dict[str, float | None] = {}
    for length in WINDOWS:
        hashes = _piece_hashes(pieces, length)
        shares[str(length)] = (
            float(_occur(training, hashes, length).mean()) if len(hashes) else None
        )
    # A passage contains passages of every smaller length, so bisection finds the longest.
    low, high = 0, max((len(piece) for piece in pieces), default=0)
    longest = None
    while low < high:
        length = (low + high + 1) // 2
        if (match := _match(training, pieces, length)) is None:
            high = length - 1
        else:
            low, longest = length, match
    if longest is None:
        return {"windows": shares, "longest": None}
    ids, position = longest
    passage = {"ids": ids, "characters": len(ids), **training.locate(position)}
    return {"windows": shares, "longest": passage}


@functools.cache
def _table() -> np.ndarray:
    """A random number for each id below 2^21, more than any vocabulary has, uint64 (2^21,)."""
    return np.random.default_rng(0).integers(0, 2**64, 1 << 21, np.uint64)


def _hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """The hash of each window of ids (n,), uint64 (n - length + 1,)."""
    if len(ids) < length:
        return np.zeros(0, np.uint64)
    powers = _powers(len(ids), _BASE)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_table()[ids] * powers)])
    windows = len(ids) - length + 1
    return (sums[length:] - sums[:-length]) * _powers(windows, pow(_BASE, -1, 2**64))


def _powers(count: int, base: int) -> np.ndarray:
    """1, base, base^2, ... modulo 2^64, uint64 (count,)."""
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _piece_hashes(pieces: list[np.ndarray], length: int) -> np.ndarray:
    """The hashes of all windows of all pieces, uint64 (W,)."""
    return np.concatenate([np.zeros(0, np.uint64), *(_hashes(piece, length) for piece in pieces)])


def _training_hashes(training: TrainingText, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """For each block of the training text its position and the hashes of its windows."""
    stream = training.stream()
    for at in range(0, stream.length - length + 1, _BLOCK):
        width = min(_BLOCK + length - 1, stream.length - at)
        yield at, _hashes(stream.read(np.array([at]), width)[0], length)


def _among(hashes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Indices of the hashes (n,) that are in a sorted table (m,), int64."""
    likely = np.zeros(1 << _FILTER, bool)
    shift = np.uint64(64 - _FILTER)
    likely[table >> shift] = True
    at = np.flatnonzero(likely[hashes >> shift])
    nearest = np.minimum(np.searchsorted(table, hashes[at]), len(table) - 1)
    return at[table[nearest] == hashes[at]]


def _occur(training: TrainingText, hashes: np.ndarray, length: int) -> np.ndarray:
    """Whether each hash (n,) is that of a window of the training text, bool (n,)."""
    table, inverse = np.unique(hashes, return_inverse=True)
    seen = np.zeros(len(table), bool)
    for _, block in _training_hashes(training, length):
        seen[np.searchsorted(table, block[_among(block, table)])] = True
    return seen[inverse]


def _match(
    training: TrainingText, pieces: list[np.ndarray], length: int
) -> tuple[np.ndarray, int] | None:
    """A window of the pieces that occurs in the training text, ids (length,), and its position
    there."""
    table = np.unique(_piece_hashes(pieces, length))
    for at, block in _training_hashes(training, length):
        matches = _among(block, table)
        if len(matches):
            position = at + int(matches[0])
            return training.stream().read(np.array([position]), length)[0], position
    return None
