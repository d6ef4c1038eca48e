"""Bits per character over a whole text, with the recurrent state carried from its beginning."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.evaluation.scores import Scores, Tally
from keras_charlm.network import model as network
from keras_charlm.network import recurrent
from keras_charlm.network.cores import by_core
from keras_charlm.network.dispatch import fused
from keras_charlm.network.layers import likeliest
from keras_charlm.network.names import EMBEDDING, LOGITS
from keras_charlm.text.streams import Stream
from keras_charlm.text.vocabulary import UNKNOWN

# A long text is read in parallel rows. Each row but the first starts from a zero state, so it
# first reads the WARM_UP characters before it, unscored. LSTMs hardly remember more than that: on
# tinyshakespeare 2x256 units score 0.000006 bits higher than in a single row.
WARM_UP = 128

_MOST_ROWS = 128

# Maximum characters of a row in one window. Windows are multiples of eight characters, because a
# layer's time loop unrolls up to ten steps, and their number must divide the window.
_WINDOW = 256

# Maximum characters of all rows in one window if the output of each layer is kept in memory.
_MOST_IN_MEMORY = 8192

States = list[list[tf.Tensor]]  # per recurrent layer its states, (B, H) each


class Evaluator:
    """Scores texts with a model, compiling once for each input shape.

    Args:
        model: A network of `model.build`; its own states are not changed.
        start: Id read before the first character of a text.
    """

    def __init__(self, model: keras.Model, start: int):
        self.start = start
        self._zero_states = functools.partial(network.zero_states, model)
        self._most = _MOST_ROWS * _WINDOW if _by_steps(model) else _MOST_IN_MEMORY
        self._read = _reader(model)

    def __call__(self, stream: Stream, rows: int | None = None) -> Scores:
        """Score every character of a text given all before it, without dropout.

        Args:
            stream: The text; all its characters are scored (for lines, all but the first newline).
            rows: Parallel rows; by default as many as keep the warm-up below a quarter of the text.
                One row carries the state through the whole text exactly.

        Returns:
            The scores; NaN for an empty text.
        """
        return self.total(stream, rows).scores()

    def total(
        self,
        stream: Stream,
        rows: int | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> Tally:
        """Sums over every character of a text, or over those of some rows.

        Args:
            stream: The text.
            rows: Parallel rows, as in a call.
            part: Index of the part to score: every `parts`-th row, starting with this one.
            parts: Number of parts; their sums add up to those of the whole text.
        """
        count, nats, correct, unknown = 0, 0.0, 0, 0
        for _, losses, hits, strange in self._windows(stream, rows, part, parts):
            count += len(losses)
            nats += float(losses.sum(dtype=np.float64))
            correct += int(hits.sum())
            unknown += int(strange.sum())
        return Tally(count, nats / math.log(2), correct, unknown)

    def windows(self, stream: Stream, width: int) -> Tally:
        """Sums over a text that is read in windows, each from a zero state.

        A window's first character is predicted from the one before it, as in the validation of
        transformers with a context of `width` characters.

        Args:
            stream: The text.
            width: Characters of a window; the last one may be shorter.
        """
        stream, tally = stream.labelled(), Tally()
        size = stream.epoch_length() - stream.lead
        starts = np.arange(0, max(size, 0), width)
        for begins in np.split(starts, range(_MOST_ROWS, len(starts), _MOST_ROWS)):
            positions = begins[:, None] + np.arange(width)  # (rows, width)
            ids = _ids(stream, positions, self.start)  # (rows, width + 1)
            scored = (positions < size) & (ids[:, 1:] < stream.first_label)
            inputs, targets = tf.constant(ids[:, :-1]), tf.constant(_predicted(stream, ids[:, 1:]))
            nats, hits, _ = self._read(inputs, targets, self._zero_states(len(begins)))
            strange = int((ids[:, 1:][scored] == UNKNOWN).sum())
            bits = nats.numpy()[scored] / math.log(2)
            tally += Tally.of(bits, hits.numpy()[scored], strange)
        return tally

    def characters(self, stream: Stream, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Score each of the N characters of a text.

        Args:
            stream, rows: As in a call.

        Returns:
            -log2 p of each, float32 (N,), and whether the model ranked it first, bool (N,).
        """
        stream = stream.labelled()
        size = max(stream.epoch_length() - stream.lead, 0)
        bits, correct = np.zeros(size, np.float32), np.zeros(size, bool)
        for positions, losses, hits, _ in self._windows(stream, rows):
            bits[positions], correct[positions] = losses / np.float32(math.log(2)), hits
        marks = stream.label_positions() - stream.lead
        return np.delete(bits, marks), np.delete(correct, marks)

    def _windows(
        self, stream: Stream, rows: int | None, part: int = 0, parts: int = 1
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Score the text window by window.

        Yields:
            For each scored character its position, int, its nats, float32, whether the model
            ranked it first, bool, and whether it is unknown, bool, (n,) each.
        """
        stream = stream.labelled()
        if stream.epoch_length() <= stream.lead:
            return
        for begins, first, stops in _rows(stream, rows, part, parts):
            length = int((stops - begins).max())
            windows = -(-length // max(min(_WINDOW, self._most // len(begins)), 1))
            window = -(-length // (8 * windows)) * 8
            states = self._zero_states(len(begins))
            for at in range(0, length, window):
                positions = (begins + at)[:, None] + np.arange(window)  # (rows, window)
                scored = (positions >= first[:, None]) & (positions < stops[:, None])
                ids = _ids(stream, positions, self.start)  # (rows, window + 1)
                inputs, targets = ids[:, :-1], ids[:, 1:]
                scored &= targets < stream.first_label
                targets = _predicted(stream, targets)
                nats, hits, states = self._read(tf.constant(inputs), tf.constant(targets), states)
                yield (
                    positions[scored],
                    nats.numpy()[scored],
                    hits.numpy()[scored],
                    targets[scored] == UNKNOWN,
                )


def _rows(
    stream: Stream, rows: int | None, part: int, parts: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Divide a text among the rows of batches, which begin with a zero state.

    Args:
        stream: The text.
        rows, part, parts: As for `Evaluator.total`.

    Yields:
        For each batch where its rows begin to read, where they begin to score, and where they
        stop, int (B,) each.
    """
    if segments := stream.segments():
        begins, sizes = segments[0] - stream.lead, segments[1]
        order = np.argsort(-sizes, kind="stable")[part::parts]
        for own in np.split(order, range(_MOST_ROWS, len(order), _MOST_ROWS)):
            if len(own):
                yield begins[own], begins[own], begins[own] + sizes[own]
        return
    size = stream.epoch_length() - stream.lead
    if rows is None:
        rows = min(max(size // (4 * WARM_UP), 1), _MOST_ROWS)
    warm_up = WARM_UP if rows > 1 else 0
    # Row r reads [r * share, r * share + warm_up + share) and scores what follows its warm-up;
    # the first row scores its warm-up too, because it starts at the true beginning.
    share = -(-(size - warm_up) // rows)
    own = np.arange(part, rows, parts)
    if len(own):
        begins = own * share
        first = np.where(own > 0, begins + warm_up, 0)
        yield begins, first, np.minimum(begins + warm_up + share, size)


def _predicted(stream: Stream, targets: np.ndarray) -> np.ndarray:
    """Targets that have logits: those in place of labels are not scored."""
    return np.where(targets < stream.first_label, targets, UNKNOWN)


def _by_steps(model: keras.Model) -> bool:
    """Whether one XLA program can run all layers of the network in each time step."""
    return all(map(recurrent.has_stepper, network.recurrent_layers(model)))


def _reader(model: keras.Model) -> Callable[..., tuple[tf.Tensor, tf.Tensor, States]]:
    """Compile the scoring of a window.

    Returns:
        A function from (inputs, targets (B, T), states) to (nats, hits (B, T), states).
    """

    @tf.function(autograph=False)
    def read(inputs, targets, states):
        if _by_steps(model):
            nats, hits, *after = by_core(
                _stepwise(model, states), inputs, targets, *tf.nest.flatten(states)
            )
            return nats, hits, tf.nest.pack_sequence_as(states, after)
        logits, states = network.run(model, inputs, states)
        nats = network.loss()(targets, logits)  # (B, T)
        return nats, likeliest(logits) == targets, states

    return read


def _stepwise(model: keras.Model, states: States) -> Callable[..., list[tf.Tensor]]:
    """Score some rows by a loop over time within one XLA program.

    The output of each layer is used within the step, so it stays in the processor's cache.

    Args:
        model: The network.
        states: Any states of the network, for their structure.

    Returns:
        A function from (inputs, targets (rows, T), *states (rows, H) each) to the list of nats
        and hits (rows, T) and the new states.
    """
    vectors = tf.transpose(model.get_layer(EMBEDDING).vectors())  # (D, V)
    steps = [recurrent.stepper(layer) for layer in network.recurrent_layers(model)]
    kernel, bias = model.get_layer(LOGITS).affine()
    kernel, bias = tf.transpose(kernel), bias[:, None]  # (V, H), (V, 1)
    size = kernel.shape[0]
    symbols = tf.range(size)[:, None]

    @fused
    def program(inputs, targets, state):  # (T, B), (T, B), (number of states, H, B)
        times, rows = inputs.shape

        def iteration(t, state, nats, hits):
            x, after = tf.gather(vectors, inputs[t], axis=1), []  # (D, B)
            before = tf.nest.pack_sequence_as(states, tf.unstack(state))
            for step, values in zip(steps, before, strict=True):
                after.append(step(x, values))
                x = after[-1][0]
            logits = kernel @ x + bias  # (V, B)
            target = tf.reduce_sum(tf.where(symbols == targets[t], logits, 0), 0)
            nats = nats.write(t, tf.reduce_logsumexp(logits, 0) - target)
            best = tf.where(logits == tf.reduce_max(logits, 0), symbols, size)
            hits = hits.write(t, tf.reduce_min(best, 0) == targets[t])  # XLA's argmax is slow
            return t + 1, tf.stack(tf.nest.flatten(after)), nats, hits

        empty = (
            tf.TensorArray(dtype, times, element_shape=(rows,)) for dtype in (tf.float32, tf.bool)
        )
        _, state, nats, hits = tf.while_loop(lambda t, *_: t < times, iteration, (0, state, *empty))
        return nats.stack(), hits.stack(), state

    def share(inputs, targets, *before):
        # One array, because XLA runs parts of a program with many arguments in a single thread
        # that the programs of all cores share.
        state = tf.stack([tf.transpose(values) for values in before])
        nats, hits, state = program(tf.transpose(inputs), tf.transpose(targets), state)
        return [tf.transpose(result) for result in (nats, hits, *tf.unstack(state))]

    return share


def _ids(stream: Stream, positions: np.ndarray, start: int) -> np.ndarray:
    """Read the characters at some positions of a text, and in each row the one before them.

    Args:
        stream: The text.
        positions: int (rows, window), consecutive in each row. Positions past the end of the text
            repeat its last characters; they are not scored.
        start: Id read before the first character.

    Returns:
        Ids int32 (rows, window + 1).
    """
    last = stream.epoch_length() - stream.lead - 1
    width = min(positions.shape[1] + 1, last + 1)
    first = np.clip(positions[:, 0] - 1, 0, last + 1 - width)
    text = stream.read(first + stream.lead, width)
    at = np.concatenate([positions[:, :1] - 1, positions], axis=1)
    at = np.clip(at, 0, last) - first[:, None]
    ids = np.take_along_axis(text, np.clip(at, 0, width - 1), axis=1)
    ids[positions[:, 0] == 0, 0] = start
    return ids
