"""From ids to stateful windows, and to tf.data.

A stream is a text that is read from left to right. It is split into B rows of equal length for
batches of B rows, and each row into windows of `seq_length` characters: row r of batch k+1
continues row r of batch k, so that the recurrent state of a row fits the row's next window.
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

    Attributes:
        length: Characters.
    """

    lead = 0  # characters at the beginning that are read but not predicted

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, start: int, stop: int):
        self.symbols, self.ids, self.start, self.length = symbols, ids, start, stop - start

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids of the `width` characters from each of `starts` (R,), int32 (R, width).

        The text is the same in every epoch.
        """
        rows = [self.symbols[self.start + at : self.start + at + width] for at in starts.tolist()]
        return self.ids[np.stack(rows)]


class LineStream:
    """Lines as documents: a newline, then each line with its newline, reordered every epoch.

    Args:
        symbols: Integers (N,), with a newline before each line.
        ids: Id of each symbol, int32 (A,).
        lines: The lines to read.
        seed: Seed of the order; None keeps the order of `lines` in every epoch.

    Attributes:
        length: Characters of an epoch's text, all newlines included.
    """

    lead = 1  # the first newline starts a sample and is not predicted

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, lines: Lines, seed: int | None):
        self.symbols, self.ids, self.lines, self.seed = symbols, ids, lines, seed
        self.length = int(lines.lengths.sum()) + len(lines) + (1 if len(lines) else 0)
        # The last epoch read, and where each of its blocks ends in the corpus (L,) and in the
        # epoch's text (L,). A block is a line with the newline before it.
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids of the `width` characters from each of `starts` (R,), int32 (R, width)."""
        stops, ends = self._blocks(epoch)
        # After the last block the first one follows again: its newline ends the text.
        at = (starts[:, None] + np.arange(width)) % (self.length - 1)  # (R, width)
        block = np.searchsorted(ends, at, side="right")
        return self.ids[self.symbols[stops[block] - (ends[block] - at)]]

    def _blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the epoch's blocks end in the corpus and in the epoch's text, int64 (L,) each."""
        epoch = 0 if self.seed is None else epoch
        if self._order is None or self._order[0] != epoch:
            lines = self.lines
            if self.seed is not None:
                random = np.random.default_rng([self.seed, epoch])
                lines = lines.take(random.permutation(len(lines)))
            self._order = epoch, lines.starts + lines.lengths, np.cumsum(lines.lengths + 1)
        return self._order[1:]


@dataclass(frozen=True)
class Windows:
    """The training batches of a stream, by number.

    Args:
        stream: The text.
        batch_size: Rows (B).
        seq_length: Characters of a window (T).
        seed: Seed of the random offset at which the windows of each epoch start.
    """

    stream: TextStream | LineStream
    batch_size: int
    seq_length: int
    seed: int = 0

    @property
    def steps(self) -> int:
        """Batches of an epoch: as many as fit for every offset smaller than a window."""
        room = self.stream.length - 1 - (self.seq_length - 1)
        return max(1, room // (self.batch_size * self.seq_length))

    def offset(self, epoch: int) -> int:
        """Where the epoch's first row begins, such that the whole epoch fits after it."""
        slack = self.stream.length - 1 - self.batch_size * self.seq_length * self.steps
        if epoch == 0 or slack <= 0:  # the first epoch starts at the beginning
            return 0
        return int(np.random.default_rng([self.seed, epoch, 1]).integers(slack + 1))

    def batch(self, index: int, part: int = 0, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """A batch, or one of the equal parts of its rows.

        Args:
            index: Number of the batch in the whole training.
            part, parts: Index of the part, and the number of parts.

        Returns:
            Inputs and targets, int32 (B / parts, T) each. The targets are the inputs shifted by one
            character, also across window boundaries.
        """
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
            mine: Which parts of each batch's rows to read. A row's recurrent state is on one
                device, so the row goes to that device in every batch.
            parts: Equal parts of a batch, one for each device.

        Returns:
            Elements (inputs, targets), int32 (B / parts, T) each: the parts `mine` of the first
            batch, then those of the second, and so on.
        """
        import tensorflow as tf

        def read(element: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            index, own = divmod(int(element), len(mine))
            return self.batch(index, mine[own], parts)

        def load(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = tf.numpy_function(read, [element], [tf.int32, tf.int32])
            shape = (self.batch_size // parts, self.seq_length)
            return tf.ensure_shape(x, shape), tf.ensure_shape(y, shape)

        # There is nothing to autotune, and an iterator that is abandoned early waits up to a minute
        # for the autotune thread.
        options = tf.data.Options()
        options.autotune.enabled = False
        elements = tf.data.Dataset.range(start * len(mine), stop * len(mine))
        return elements.map(load).prefetch(4 * len(mine)).with_options(options)


def fit_windows(
    stream: TextStream | LineStream, batch_size: int, seq_length: int, replicas: int = 1
) -> tuple[int, int]:
    """The batch size and window that fit a text.

    Args:
        stream: The training part.
        batch_size, seq_length: Rows and characters requested.
        replicas: Devices that share a batch; the batch stays a multiple of them.

    Returns:
        (batch_size, seq_length), reduced if the text is shorter than one batch of windows: first
        the batch, then the window.

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
