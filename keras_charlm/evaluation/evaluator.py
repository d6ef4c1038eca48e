"""Bits per character over a whole text, with the state carried from its beginning."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.evaluation.scores import Scores
from keras_charlm.network import layers, recurrent
from keras_charlm.network import model as network
from keras_charlm.network.cells import fused
from keras_charlm.network.cores import by_core
from keras_charlm.text.streams import LineStream, TextStream
from keras_charlm.text.vocabulary import UNKNOWN

# A long text is read in parallel rows. Each row but the first starts with a clean state, so it
# first reads the WARM_UP characters before it, unscored. LSTMs hardly remember more than that: on
# tinyshakespeare 2x256 units score 0.000006 bits more than in a single row.
WARM_UP = 128


_MOST_ROWS = 128


# Characters of a row read at once, in eights, which the layers take eight at a time.
_WINDOW = 256


# Characters of all rows at once where what each layer gives is in memory.
_AT_ONCE = 8192


class Evaluator:
    """Scores texts with a model, compiling once for each shape it meets.

    Args:
        model: A network of `model.build`; its own states are not touched.
        start: Id read before the first character of a text.
    """

    def __init__(self, model: keras.Model, start: int):
        self.start = start
        self._zero_states = functools.partial(network.zero_states, model)
        self._at_once = _MOST_ROWS * _WINDOW if _by_steps(model) else _AT_ONCE
        self._read = _reader(model)

    def __call__(self, stream: TextStream | LineStream, rows: int | None = None) -> Scores:
        """Score every character of a text given all before it, without dropout.

        Args:
            stream: The text; all its characters are scored (of a list, all but the first newline).
            rows: Parallel rows; by default as many as make the warm-up cost at most a quarter. One
                row carries the state through the whole text exactly.

        Returns:
            The scores; of an empty text NaN.
        """
        return Scores.of(*self.total(stream, rows))

    def total(
        self,
        stream: TextStream | LineStream,
        rows: int | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> tuple[int, float, int, int]:
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

    def characters(
        self, stream: TextStream | LineStream, rows: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, character by character.

        Returns:
            -log2 p of each, float32 (N,), and whether it was the likeliest, bool (N,).
        """
        size = max(stream.length - stream.lead, 0)
        bits, hits = np.zeros(size, np.float32), np.zeros(size, bool)
        for position, loss, right, _ in self._windows(stream, rows):
            bits[position], hits[position] = loss / np.float32(math.log(2)), right
        return bits, hits

    def _windows(
        self, stream: TextStream | LineStream, rows: int | None, part: int = 0, parts: int = 1
    ) -> Iterator[tuple[np.ndarray, ...]]:
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
        length = warm_up + share
        turns = -(-length // min(_WINDOW, self._at_once // len(mine)))
        window = -(-length // (8 * turns)) * 8
        states = self._zero_states(len(mine))
        for at in range(0, length, window):
            position = (begins + at)[:, None] + np.arange(window)  # (rows, window)
            scored = (position < size) & (np.arange(at, at + window) < length)
            scored[mine > 0, : max(0, warm_up - at)] = False
            ids = _ids(stream, position, self.start)  # (rows, window + 1)
            loss, right, states = self._read(
                tf.constant(ids[:, :-1]), tf.constant(ids[:, 1:]), states
            )
            yield (
                position[scored],
                loss.numpy()[scored],
                right.numpy()[scored],
                ids[:, 1:][scored] == UNKNOWN,
            )


def _by_steps(model: keras.Model) -> bool:
    """Whether a text is read step by step, all layers in each, by one program."""
    return all(map(recurrent.steps, network.recurrent_layers(model)))


def _reader(model: keras.Model):
    """A compiled window: (inputs, targets (B, T), states) to (nats, hits (B, T), states)."""

    @tf.function(autograph=False)
    def read(inputs, targets, states):
        if _by_steps(model):
            nats, hits, *after = by_core(
                _program(model, states), inputs, targets, *tf.nest.flatten(states)
            )
            return nats, hits, tf.nest.pack_sequence_as(states, after)
        logits, states = network.run(model, inputs, states)
        nats = layers.cross_entropy(targets, logits)  # (B, T)
        return nats, layers.likeliest(logits) == targets, states

    return read


def _program(model: keras.Model, states: list[list[tf.Tensor]]):
    """The same of some rows, with the states as single arguments and results, by a loop over time
    in a program of XLA: what a layer gives is used within the step and stays in the cache."""
    vectors = tf.transpose(model.get_layer(network.EMBEDDING).vectors())  # (D, V)
    steps = [recurrent.stepper(layer) for layer in network.recurrent_layers(model)]
    kernel, bias = model.get_layer(network.LOGITS).affine()
    kernel, bias = tf.transpose(kernel), bias[:, None]  # (V, H), (V, 1)
    size = kernel.shape[0]
    symbols = tf.range(size)[:, None]

    @fused
    def program(inputs, targets, state):  # (T, B), (T, B), (number of states, H, B)
        times, rows = inputs.shape

        def turn(t, state, nats, hits):
            x, after = tf.gather(vectors, inputs[t], axis=1), []  # (D, B)
            before = tf.nest.pack_sequence_as(states, tf.unstack(state))
            for step, values in zip(steps, before, strict=True):
                after.append(step(x, values))
                x = after[-1][0]
            logits = kernel @ x + bias  # (V, B)
            right = tf.reduce_sum(tf.where(symbols == targets[t], logits, 0), 0)
            nats = nats.write(t, tf.reduce_logsumexp(logits, 0) - right)
            likeliest = tf.where(logits == tf.reduce_max(logits, 0), symbols, size)
            hits = hits.write(t, tf.reduce_min(likeliest, 0) == targets[t])  # XLA's argmax is slow
            return t + 1, tf.stack(tf.nest.flatten(after)), nats, hits

        empty = (
            tf.TensorArray(dtype, times, element_shape=(rows,)) for dtype in (tf.float32, tf.bool)
        )
        _, state, nats, hits = tf.while_loop(lambda t, *_: t < times, turn, (0, state, *empty))
        return nats.stack(), hits.stack(), state

    def share(inputs, targets, *before):
        # One array, as XLA moves a program that begins with many to the thread of all programs.
        state = tf.stack([tf.transpose(values) for values in before])
        nats, hits, state = program(tf.transpose(inputs), tf.transpose(targets), state)
        return [tf.transpose(found) for found in (nats, hits, *tf.unstack(state))]

    return share


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
