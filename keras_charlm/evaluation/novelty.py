"""How much of what a model writes stands in its training text, word for word.

Windows of characters are compared by 64-bit hashes, rolling in the sense that every window of a
block comes from one running sum: the hash of s[i], ..., s[i + L - 1] is the sum of t[s[i + j]] b^j
modulo 2^64 for random numbers t and an odd b. The training text goes by in blocks, so it may be
longer than memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_charlm.text.corpus import Corpus, fingerprints
from keras_charlm.text.split import Split
from keras_charlm.text.streams import LineStream
from keras_charlm.text.vocabulary import NEWLINE

WINDOWS = (20, 50)  # characters


_BLOCK = 1 << 20


_FILTER = 22  # bits of a hash that are looked at before it is searched for


_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


@dataclass(frozen=True)
class TrainingText:
    """A training part as a text to search: of a list, its lines in the order of the file.

    Args:
        corpus: The prepared text.
        split: Its parts.
    """

    corpus: Corpus
    split: Split

    def stream(self):
        train, lines = self.split.train, self.split.train_lines
        if lines is None:
            return train
        lines = lines.take(np.argsort(lines.starts))
        return LineStream(train.symbols, train.ids, lines, seed=None)

    def known(self, lines: list[bytes]) -> np.ndarray:
        """Whether each of some lines is one of the training lines, bool (len(lines),)."""
        return np.isin(fingerprints(lines), self.split.train_lines.fingerprints)

    def place(self, position: int) -> dict[str, int]:
        """Where a character of `stream` stands in the corpus: `offset`, in characters from 0, and
        `line`, from 1."""
        lines = self.split.train_lines
        if lines is not None:
            lines = lines.take(np.argsort(lines.starts))
            ends = np.cumsum(lines.lengths + 1)
            block = int(np.searchsorted(ends, position, side="right"))
            position = int(lines.starts[block] + lines.lengths[block] - (ends[block] - position))
        before = self.corpus.symbols[:position]
        line = sum(
            int(np.count_nonzero(before[at : at + _BLOCK] == NEWLINE))
            for at in range(0, position, _BLOCK)
        )
        first = int(self.corpus.config.lines)  # a list begins with a newline of the program's
        return {"offset": position - first, "line": line + 1 - first}


def measure(training: TrainingText, pieces: list[np.ndarray]) -> dict[str, Any]:
    """Compare texts with the training text.

    Args:
        training: What to search.
        pieces: Texts, each ids (n,) of the model's vocabulary.

    Returns:
        `windows`, for each length the share of all windows of the pieces that stand in the training
        text, or None where no piece is so long; and `longest`, the longest passage of a piece that
        does: `ids`, `characters`, and `offset` and `line` of one place; None if there is none.
    """
    shares: dict[str, float | None] = {}
    for length in WINDOWS:
        hashes = _piece_hashes(pieces, length)
        shares[str(length)] = (
            float(_found(training, hashes, length).mean()) if len(hashes) else None
        )
    # A passage of some length holds passages of all lesser lengths, so bisection finds the longest.
    low, high = 0, max((len(piece) for piece in pieces), default=0)
    longest = None
    while low < high:
        length = (low + high + 1) // 2
        if (match := _match(training, pieces, length)) is None:
            high = length - 1
        else:
            low, longest = length, match
    if longest is not None:
        ids, position = longest
        longest = {"ids": ids, "characters": len(ids), **training.place(position)}
    return {"windows": shares, "longest": longest}


@functools.cache
def _table() -> np.ndarray:
    """A random number for each id below 2^21, which no vocabulary reaches, uint64."""
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
    return np.concatenate([np.zeros(0, np.uint64), *(_hashes(piece, length) for piece in pieces)])


def _training_hashes(training: TrainingText, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Position and hashes of the windows of each block of the training text."""
    stream = training.stream()
    for at in range(0, stream.length - length + 1, _BLOCK):
        width = min(_BLOCK + length - 1, stream.length - at)
        yield at, _hashes(stream.read(np.array([at]), width)[0], length)


def _among(hashes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Indices of the hashes that are among the wanted ones, which are sorted."""
    likely = np.zeros(1 << _FILTER, bool)
    shift = np.uint64(64 - _FILTER)
    likely[wanted >> shift] = True
    at = np.flatnonzero(likely[hashes >> shift])
    found = np.minimum(np.searchsorted(wanted, hashes[at]), len(wanted) - 1)
    return at[wanted[found] == hashes[at]]


def _found(training: TrainingText, hashes: np.ndarray, length: int) -> np.ndarray:
    """Whether each of the hashes is that of a window of the training text, bool (len(hashes),)."""
    wanted, inverse = np.unique(hashes, return_inverse=True)
    there = np.zeros(len(wanted), bool)
    for _, block in _training_hashes(training, length):
        there[np.searchsorted(wanted, block[_among(block, wanted)])] = True
    return there[inverse]


def _match(
    training: TrainingText, pieces: list[np.ndarray], length: int
) -> tuple[np.ndarray, int] | None:
    """A window of the pieces that stands in the training text, and where first."""
    wanted = np.unique(_piece_hashes(pieces, length))
    for at, block in _training_hashes(training, length):
        found = _among(block, wanted)
        if len(found):
            position = at + int(found[0])
            return training.stream().read(np.array([position]), length)[0], position
    return None
