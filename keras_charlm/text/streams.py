"""Ids to stateful windows to tf.data.

A stream is a text to be read from left to right. It is cut into as many rows of equal length as
the batch has, and each row into windows of `seq_length` characters: row r of batch k+1 goes on
where row r of batch k ended, so that the recurrent state of a row fits the row's next window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_charlm.errors import CorpusError
from keras_charlm.text.corpus import Lines

if TYPE_CHECKING:
    import tensorflow as tf


class TextStream:
    """A contiguous part of a text.

    Args:
        symbols: Integers (N,), memory-mapped or not.
        ids: Id of each symbol, int32 (A,).
        start, stop: The part, in characters.
    """

    lead = 0  # characters at the beginning that are given, not predicted

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, start: int, stop: int):
        self.symbols, self.ids, self.start, self.length = symbols, ids, start, stop - start

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids from several places, int32 (len(starts), width). Every epoch reads the same text."""
        rows = [self.symbols[self.start + at : self.start + at + width] for at in starts.tolist()]
        return self.ids[np.stack(rows)]


class LineStream:
    """Lines as documents: a newline, then each line with its newline, in an order of the epoch's.

    Args:
        symbols: Integers (N,), with a newline before each line.
        ids: Id of each symbol, int32 (A,).
        lines: Where the lines stand.
        seed: Seed of the order; None keeps the order of `lines` in every epoch.
    """

    lead = 1  # the first newline starts a sample and is not predicted

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, lines: Lines, seed: int | None):
        self.symbols, self.ids, self.lines, self.seed = symbols, ids, lines, seed
        self.length = int(lines.lengths.sum()) + len(lines) + (1 if len(lines) else 0)
        self._epoch, self._starts, self._ends = None, None, None

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids from several places of the epoch's text, int32 (len(starts), width)."""
        self._order(epoch)
        # A block is a line with the newline before it; after the last block comes the first again,
        # whose newline closes the text.
        at = (starts[:, None] + np.arange(width)) % (self.length - 1)
        block = np.searchsorted(self._ends, at, side="right")
        back = self._ends[block] - at  # characters from here to the block's end
        stop = self._starts[block]
        return self.ids[self.symbols[stop - back]]

    def _order(self, epoch: int) -> None:
        epoch = 0 if self.seed is None else epoch
        if epoch == self._epoch:
            return
        lines = self.lines
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(lines))
            lines = lines.take(order)
        self._starts = lines.starts + lines.lengths  # where each block stops in the corpus
        self._ends = np.cumsum(lines.lengths + 1)  # where it stops in the epoch's text
        self._epoch = epoch


@dataclass(frozen=True)
class Windows:
    """The training batches of a stream, by number.

    Args:
        stream: What is read.
        batch_size: Rows (B).
        seq_length: Characters of a window (T).
        seed: Seed of each epoch's offset: windows do not fall on the same places twice.
    """

    stream: TextStream | LineStream
    batch_size: int
    seq_length: int
    seed: int = 0

    @property
    def steps(self) -> int:
        """Batches of an epoch: as many as fit at every offset below a window."""
        room = self.stream.length - 1 - (self.seq_length - 1)
        return max(1, room // (self.batch_size * self.seq_length))

    def offset(self, epoch: int) -> int:
        """Where the epoch's first row begins: anywhere that leaves all its windows inside."""
        slack = self.stream.length - 1 - self.batch_size * self.seq_length * self.steps
        if epoch == 0 or slack <= 0:  # the first epoch begins at the beginning
            return 0
        return int(np.random.default_rng([self.seed, epoch, 1]).integers(slack + 1))

    def batch(self, index: int, part: int = 0, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of the whole training, or one of the equal parts of its rows: inputs and
        targets, int32 (B / parts, T) each. The targets are the inputs one character later, across
        the edges of windows too."""
        epoch, step = divmod(index, self.steps)
        size = self.batch_size // parts
        rows = np.arange(part * size, (part + 1) * size) * (self.steps * self.seq_length)
        starts = self.offset(epoch) + rows + step * self.seq_length
        ids = self.stream.read(starts, self.seq_length + 1, epoch)
        return ids[:, :-1], ids[:, 1:]

    def dataset(
        self, start: int, stop: int, mine: range = range(1), parts: int = 1
    ) -> tf.data.Dataset:
        """Batches [start, stop) of the whole training as a tf.data pipeline.

        Args:
            start, stop: Which batches.
            mine: Which parts of each batch's rows to read: a row has its state on one device, so
                it goes there in every batch.
            parts: Equal parts of a batch, one for each device.

        Returns:
            Elements (inputs, targets), int32 (B / parts, T) each: the parts `mine` of the first
            batch, then those of the second, and so on.
        """
        import tensorflow as tf

        def read(element):
            index, place = divmod(int(element), len(mine))
            return self.batch(index, mine[place], parts)

        def load(element):
            x, y = tf.numpy_function(read, [element], [tf.int32, tf.int32])
            shape = (self.batch_size // parts, self.seq_length)
            return tf.ensure_shape(x, shape), tf.ensure_shape(y, shape)

        # There is nothing to tune here, and letting go of an iterator half way waits for the thread
        # that would, up to a minute.
        options = tf.data.Options()
        options.autotune.enabled = False
        elements = tf.data.Dataset.range(start * len(mine), stop * len(mine))
        return elements.map(load).prefetch(4 * len(mine)).with_options(options)


def fit_windows(
    stream: TextStream | LineStream, batch_size: int, seq_length: int, replicas: int = 1
) -> tuple[int, int]:
    """Batch and window that a text has room for.

    Args:
        stream: The training part.
        batch_size, seq_length: What was asked for.
        replicas: Devices that share a batch; the batch stays a multiple of it.

    Returns:
        (batch_size, seq_length), shrunk where the text is shorter than one batch of windows:
        first the batch, then the window.

    Raises:
        CorpusError: Not even one window per replica fits.
    """
    room = stream.length - 1
    if room >= batch_size * seq_length:
        return batch_size, seq_length
    batch = room // seq_length // replicas * replicas
    if batch >= replicas:
        return batch, seq_length
    window = room // replicas
    if window < 1:
        raise CorpusError(
            f"The training part has {stream.length} characters; {replicas} streams need at least "
            f"{replicas + 1}, so give it more text."
        )
    return replicas, window
