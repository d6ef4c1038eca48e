"""Bits per character over a whole text, with the state carried from its beginning."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_charlm import layers
from keras_charlm import model as network
from keras_charlm.scores import Scores
from keras_charlm.streams import LineStream, TextStream
from keras_charlm.vocabulary import UNKNOWN

# A long text is read in parallel rows. Each row but the first starts with a clean state, so it
# first reads the WARM_UP characters before it, unscored. LSTMs remember less than that: on
# tinyshakespeare the sixth digit is that of a single row.
WARM_UP = 256
_MOST_ROWS = 128
_WINDOW = 128  # characters of a row at once; with many rows fewer, for the memory of the logits
_AT_ONCE = 8192  # of all rows; a window of eights, which the layers take eight at a time


class Evaluator:
    """Scores texts with a model, compiling once for each shape it meets.

    Args:
        model: A network of `model.build`; its own states are not touched.
        start: Id read before the first character of a text.
    """

    def __init__(self, model: keras.Model, start: int):
        self.start = start
        self._zero_states = functools.partial(network.zero_states, model)
        self._read = _reader(model)

    def __call__(self, stream: TextStream | LineStream, rows: int | None = None) -> Scores:
        """Score every character of a text given all before it, without dropout.

        Args:
            stream: The text; all its characters are scored (of a list, all but the first newline).
            rows: Parallel rows; by default as many as make the warm-up cost at most a third. One
                row carries the state through the whole text exactly.

        Returns:
            The scores; of an empty text NaN.
        """
        return Scores.of(*self.total(stream, rows))

    def total(self, stream: TextStream | LineStream, rows: int | None = None,
              part: int = 0, parts: int = 1) -> tuple[int, float, int, int]:
        """The same as a number of characters, the sum of -log2 p over them, and how many of them
        were the likeliest and how many are unknown; of all rows or, of so many parts, of one: what
        the parts sum to is the whole."""
        count, nats, hits, unknown = 0, 0.0, 0, 0
        for _, loss, right, strange in self._windows(stream, rows, part, parts):
            count += len(loss)
            nats += float(loss.sum(dtype=np.float64))
            hits += int(right.sum())
            unknown += int(strange.sum())
        return count, nats / math.log(2), hits, unknown

    def characters(self, stream: TextStream | LineStream,
                   rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same, character by character.

        Returns:
            -log2 p of each, float32 (N,), and whether it was the likeliest, bool (N,).
        """
        size = max(stream.length - stream.lead, 0)
        bits, hits = np.zeros(size, np.float32), np.zeros(size, bool)
        for position, loss, right, _ in self._windows(stream, rows):
            bits[position], hits[position] = loss / np.float32(math.log(2)), right
        return bits, hits

    def _windows(self, stream: TextStream | LineStream, rows: int | None,
                 part: int = 0, parts: int = 1) -> Iterator[tuple[np.ndarray, ...]]:
        """Positions, nats, hits and unknowns of the characters scored, (n,) each, by windows."""
        size = stream.length - stream.lead
        if size <= 0:
            return
        if rows is None:
            rows = min(max(size // (4 * WARM_UP), 1), _MOST_ROWS)
        warm_up = WARM_UP if rows > 1 else 0
        # Row r reads [r * share, r * share + warm_up + share) and scores what lies behind its
        # warm-up; the first row scores its warm-up too, which starts at the true beginning.
        share = -(-(size - warm_up) // rows)
        mine = np.arange(part, rows, parts)
        if not len(mine):
            return
        begins = mine * share
        window = min(_WINDOW, _AT_ONCE // len(mine) // 8 * 8, warm_up + share)
        states = self._zero_states(len(mine))
        for at in range(0, warm_up + share, window):
            position = (begins + at)[:, None] + np.arange(window)  # (rows, window)
            scored = (position < size) & (np.arange(at, at + window) < warm_up + share)
            scored[mine > 0, : max(0, warm_up - at)] = False
            ids = _ids(stream, position, self.start)  # (rows, window + 1)
            loss, right, states = self._read(
                tf.constant(ids[:, :-1]), tf.constant(ids[:, 1:]), states)
            yield (position[scored], loss.numpy()[scored], right.numpy()[scored],
                   ids[:, 1:][scored] == UNKNOWN)


def _reader(model: keras.Model):
    """A compiled window: (inputs, targets (B, T), states) to (nats, hits (B, T), states)."""

    @tf.function(autograph=False)
    def read(inputs, targets, states):
        logits, states = network.run(model, inputs, states)
        nats = layers.cross_entropy(targets, logits)  # (B, T)
        return nats, layers.likeliest(logits) == targets, states

    return read


def _ids(stream: TextStream | LineStream, position: np.ndarray, start: int) -> np.ndarray:
    """The characters at the positions and the one before them, int32 (rows, window + 1). Positions
    behind the end read the last characters again; they are not scored."""
    last = stream.length - stream.lead - 1
    width = min(position.shape[1] + 1, last + 1)
    first = np.clip(position[:, 0] - 1, 0, last + 1 - width)
    text = stream.read(first + stream.lead, width)
    at = np.clip(np.concatenate([position[:, :1] - 1, position], axis=1), 0, last) - first[:, None]
    ids = np.take_along_axis(text, np.clip(at, 0, width - 1), axis=1)
    ids[position[:, 0] == 0, 0] = start
    return ids
