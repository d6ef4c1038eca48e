"""From ids to stateful windows, and to tf.data.

In each pass a text is cut into segments of about `SEGMENT` windows that begin where a paragraph or
line begins, and the segments are shuffled. They fill the B rows of the batches: row r of batch k+1
continues row r of batch k, so that the recurrent state of a row fits the row's next window, except
where a segment begins: there the row begins with a zero state, as a generated text does.
"""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keras_charlm.errors import CorpusError
from keras_charlm.text.corpus import Lines

if TYPE_CHECKING:
    import tensorflow as tf

SEGMENT = 32  # windows of a segment, about

_LEAST = 8  # windows of a row: a text that is too short for this has fewer rows

_MOST_BREAKS = 1_000_000  # places where segments may begin, to limit the memory for them

_BLOCK = 1 << 20  # characters searched for them at once
_FAR = 2000  # characters; if paragraphs are longer on average, segments begin at lines

NO_TARGET = -1  # in place of a target at a label, and where a window goes past its segment's end
NO_LABEL = 2**31 - 1  # more than any id


class Stream(abc.ABC):
    """A text as training and scoring read it; without labels, unless a subclass adds them.

    Args:
        symbols: Integers (N,), memory-mapped or not.
        ids: Id of each symbol, int32 (A,).
        length: Characters of an epoch's text, those that are only read included.

    Attributes:
        lead: Characters at the beginning that are read but not predicted.
        first_label: Ids from this one on are labels: read but not predicted.
    """

    lead = 0
    first_label = NO_LABEL

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, length: int):
        self.symbols, self.ids, self.length = symbols, ids, length

    def labelled(self, width: int = 0) -> Stream:
        """The text with its labels.

        Args:
            width: Characters of the pieces that begin with the labels, about.
        """
        return self

    def segments(self, epoch: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
        """Position and size of the segments that the text consists of; None for any."""
        return None

    def epoch_length(self, epoch: int = 0) -> int:
        """Length of an epoch's text; without labels it is the same in every epoch."""
        return self.length

    def label_positions(self, epoch: int = 0) -> np.ndarray:
        """Positions of the labels in an epoch's text, int64 (n,)."""
        return np.zeros(0, np.int64)

    @abc.abstractmethod
    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids of the `width` characters from each of `starts` (R,), int32 (R, width)."""

    @abc.abstractmethod
    def breaks(self, start: int, epoch: int = 0) -> np.ndarray:
        """Where segments may begin, int64 (n,), ascending.

        Args:
            start: Id of the character that begins a text.
            epoch: Of the training.
        """


class TextStream(Stream):
    """A contiguous part of a text.

    Args:
        symbols: Integers (N,), memory-mapped or not.
        ids: Id of each symbol, int32 (A,).
        start, stop: The part, in characters.

    Attributes:
        length: Characters.
    """

    def __init__(self, symbols: np.ndarray, ids: np.ndarray, start: int, stop: int):
        super().__init__(symbols, ids, stop - start)
        self.start = start
        self._breaks: tuple[int, np.ndarray] | None = None

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        """Ids of the `width` characters from each of `starts` (R,), int32 (R, width).

        Outside of the text they are 0. The text is the same in every epoch.
        """
        ids = np.zeros((len(starts), width), np.int32)
        for row, at in zip(ids, starts.tolist(), strict=True):
            first, last = max(at, 0), min(at + width, self.length)
            if last > first:
                part = self.symbols[self.start + first : self.start + last]
                row[first - at : last - at] = self.ids[part]
        return ids

    def breaks(self, start: int, epoch: int = 0) -> np.ndarray:
        """Where paragraphs begin: after a blank line if there are enough, or else after a newline.

        Args:
            start: Id of the newline; in a text without one, of the character in its place.
            epoch: They are the same in every epoch.

        Returns:
            Positions, int64 (n,), ascending.
        """
        if self._breaks is None or self._breaks[0] != start:
            self._breaks = start, self._find_breaks(start)
        return self._breaks[1]

    def _find_breaks(self, start: int) -> np.ndarray:
        found: dict[bool, list[np.ndarray]] = {True: [], False: []}
        code = np.flatnonzero(self.ids == start)
        if not len(code):
            return np.zeros(0, np.int64)
        for at in range(0, self.length, _BLOCK):
            first = max(at - 2, 0)
            part = self.symbols[self.start + first : self.start + min(at + _BLOCK, self.length)]
            newline = part == code[0] if len(code) == 1 else np.isin(part, code)
            after = newline[1:-1] & ~newline[2:]  # the third of three characters begins a line
            for blank in found:
                here = after & newline[:-2] if blank else after
                found[blank].append(np.flatnonzero(here) + first + 2)
        paragraphs, lines = (np.concatenate(found[blank]) for blank in (True, False))
        breaks = paragraphs if len(paragraphs) > self.length // _FAR else lines
        return breaks[:: -(-len(breaks) // _MOST_BREAKS)] if len(breaks) else breaks


class LineStream(Stream):
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
        length = int(lines.lengths.sum()) + len(lines) + (1 if len(lines) else 0)
        super().__init__(symbols, ids, length)
        self.lines, self.seed = lines, seed
        # The last epoch read, and where each of its blocks ends in the corpus (L,) and in the
        # epoch's text (L,). A block is a line with the newline before it.
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        stops, ends = self._blocks(epoch)
        # After the last block the first one follows again: its newline ends the text.
        at = (starts[:, None] + np.arange(width)) % (self.length - 1)  # (R, width)
        block = np.searchsorted(ends, at, side="right")
        begins = at == np.where(block, ends[block - 1], 0)
        # Labels may be between the newline and its line, so the one after the line is read.
        back = np.where(begins, 0, ends[block] - at)
        return self.ids[self.symbols[stops[block] - back]]

    def breaks(self, start: int, epoch: int = 0) -> np.ndarray:
        """Where the lines of an epoch's text begin, int64 (L,); `start` is not used."""
        _, ends = self._blocks(epoch)
        return np.concatenate([[1], ends[:-1] + 1])

    def in_order(self, epoch: int) -> Lines:
        """The lines in the order of an epoch."""
        if self.seed is None:
            return self.lines
        random = np.random.default_rng([self.seed, epoch])
        return self.lines.take(random.permutation(len(self.lines)))

    def _blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the epoch's blocks end in the corpus and in the epoch's text, int64 (L,) each."""
        epoch = 0 if self.seed is None else epoch
        if self._order is None or self._order[0] != epoch:
            lines = self.in_order(epoch)
            self._order = epoch, lines.starts + lines.lengths, np.cumsum(lines.lengths + 1)
        return self._order[1:]


@dataclass(frozen=True)
class Layout:
    """The segments of one pass, in the order in which they are read.

    Attributes:
        starts: First target of each segment, int64 (n,).
        sizes: Targets of each segment, int64 (n,).
        windows: Windows up to the end of each segment, int64 (n,).
        turn: Number of the window in which row 0 begins.
        label_positions: Positions of the labels, which are not targets, int64 (m,), ascending.
    """

    starts: np.ndarray
    sizes: np.ndarray
    windows: np.ndarray
    turn: int
    label_positions: np.ndarray

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """Targets up to the end of each segment, int64 (n,)."""
        return np.cumsum(self._count(self.starts, self.sizes))

    def _count(self, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Targets among the `sizes` characters from each of `starts`, int64 (n,)."""
        return (
            sizes
            - np.diff(np.searchsorted(self.label_positions, [starts, starts + sizes]), axis=0)[0]
        )

    def find(self, window: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where windows are in the text.

        Args:
            window: Their numbers, int (R,).
            width: Characters of a window.

        Returns:
            The position of each window's first character to predict, the number of its
            characters, labels included, 0 after the last segment, and how many characters of the
            segment come before it; int64 (R,) each.
        """
        segment, done = self._within(window, width)
        return self.starts[segment] + done, np.clip(self.sizes[segment] - done, 0, width), done

    def done(self, window: np.ndarray, width: int) -> np.ndarray:
        """Targets in all windows before these (R,), int64 (R,)."""
        segment, done = self._within(window, width)
        before = np.where(segment, self.targets[segment - 1], 0)
        sizes = np.minimum(done, self.sizes[segment])
        return before + self._count(self.starts[segment], sizes)

    def _within(self, window: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The segment of each window, and how many of its characters come before the window, (R,)
        each; a window after the last segment is counted to it."""
        segment = np.minimum(np.searchsorted(self.windows, window, "right"), len(self.starts) - 1)
        return segment, (window - np.where(segment, self.windows[segment - 1], 0)) * width


class SyntheticText(Protocol):
    """Text that is read in each pass besides the stream's, in rows from a zero state each.

    Attributes:
        rows: Rows of a pass (R).
        width: Targets of a row (W).
    """

    rows: int
    width: int

    def read(self, epoch: int) -> np.ndarray:
        """The ids of an epoch, int32 (R, 1 + W); the first of a row is only read."""
        ...


class Windows:
    """The training batches of a stream, by number.

    In each pass every character is a target once; the first of a text is predicted from the start
    symbol and a zero state.

    Args:
        stream: The text.
        batch_size: Rows (B).
        seq_length: Characters of a window (T).
        seed: Seed of the cuts and of the order of the segments in each epoch.
        start: Id read before the first character of a text.
        synthetic: Text to read besides the stream's.

    Attributes:
        size: Most characters of the stream in a pass, labels included.
        steps: Batches of a pass.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        seq_length: int,
        seed: int = 0,
        start: int = 0,
        synthetic: SyntheticText | None = None,
    ):
        self.stream, self.synthetic = stream.labelled(SEGMENT * seq_length), synthetic
        self.batch_size, self.seq_length = batch_size, seq_length
        self.seed, self.start = seed, start
        self.size = self.stream.length - self.stream.lead
        self._cuts = max(1, round(self.size / (SEGMENT * seq_length))) - 1
        # Each segment's last window is half empty on average; this leaves room for a little more.
        spare = self._cuts / 2 + math.sqrt(self._cuts / 3)
        if fixed := self.stream.segments():
            spare = len(fixed[0])
        room = math.ceil(self.size / seq_length) + spare
        further = synthetic.rows * math.ceil(synthetic.width / seq_length) if synthetic else 0
        self.steps = math.ceil((room + further) / batch_size)
        self._room = batch_size * self.steps - further  # windows for the stream's segments
        self._layout = functools.lru_cache(2)(self._lay_out)

    def _lay_out(self, epoch: int) -> Layout:
        """Cut the text into the segments of an epoch, and shuffle them."""
        random = np.random.default_rng([self.seed, epoch, 1])
        begins, sizes = self.stream.segments(epoch) or self._choose(epoch, random)
        labels = self.stream.label_positions(epoch)
        if self.synthetic:
            end, text = self.stream.epoch_length(epoch), self.synthetic.read(epoch)
            rows = end + np.arange(self.synthetic.rows) * text.shape[1]
            begins = np.concatenate([begins, rows + 1])
            sizes = np.concatenate([sizes, np.full(self.synthetic.rows, self.synthetic.width)])
            drawn = end + np.flatnonzero(text.ravel() >= self.stream.first_label)
            labels = np.concatenate([labels, drawn])
        order = random.permutation(len(begins))
        windows = np.cumsum(-(-sizes // self.seq_length)[order])
        turn = int(random.integers(self.batch_size * self.steps))
        return Layout(begins[order], sizes[order], windows, turn, labels)

    def _choose(self, epoch: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Choose segments that begin at breaks; returns their positions and sizes."""
        end, cuts = self.stream.epoch_length(epoch), self._cuts
        width = (end - self.stream.lead) / (cuts + 1)
        wanted = self.stream.lead + (np.arange(1, cuts + 1) - random.random()) * width
        breaks = self.stream.breaks(self.start, epoch)
        wanted = np.maximum(wanted.astype(np.int64), self.stream.lead + 1)
        at = np.searchsorted(breaks, wanted)
        near = np.append(breaks, 2 * end)[at]
        near = np.where(near - wanted < width / 2, near, wanted)
        begins = np.unique(np.concatenate([[self.stream.lead], near]))
        while True:
            sizes = np.diff(begins, append=end)
            counts = -(-sizes // self.seq_length)
            if counts.sum() <= self._room:
                return begins, sizes
            begins = np.delete(begins, random.integers(1, len(begins)))

    def _numbers(self, epoch: int, step: int, rows: np.ndarray) -> np.ndarray:
        """Numbers of the windows of some rows (R,) in a batch, int64 (R,)."""
        room = self.batch_size * self.steps
        return (self._layout(epoch).turn + rows * self.steps + step) % room

    def batch(
        self, index: int, part: int = 0, parts: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch, or one of the equal parts of its rows.

        Args:
            index: Number of the batch in the whole training.
            part, parts: Index of the part, and the number of parts.

        Returns:
            Inputs and targets, int32 (B / parts, T) each, and which rows begin with a zero state,
            bool (B / parts,). The targets are the inputs shifted by one character, also across
            window boundaries, and NO_TARGET at labels and past a segment's end.
        """
        epoch, step = divmod(index, self.steps)
        size, width = self.batch_size // parts, self.seq_length
        rows = np.arange(part * size, (part + 1) * size)
        at, counts, before = self._layout(epoch).find(self._numbers(epoch, step, rows), width)
        ids = self._read(at - 1, width + 1, epoch)
        ids[at == 0, 0] = self.start
        predicted = (np.arange(width) < counts[:, None]) & (ids[:, 1:] < self.stream.first_label)
        targets = np.where(predicted, ids[:, 1:], NO_TARGET)
        return ids[:, :-1], targets, (before == 0) | (step == 0)

    def _read(self, starts: np.ndarray, width: int, epoch: int) -> np.ndarray:
        """Ids of the `width` characters from each of `starts` (R,), of which those past the
        stream's end are in the rows of the synthetic text; int32 (R, width)."""
        if not self.synthetic:
            return self.stream.read(starts, width, epoch)
        end, ids = self.stream.epoch_length(epoch), np.zeros((len(starts), width), np.int32)
        own = starts < end
        ids[own] = self.stream.read(starts[own], width, epoch)
        text = self.synthetic.read(epoch).ravel()
        at = (starts[~own] - end)[:, None] + np.arange(width)
        ids[~own] = text[np.minimum(at, len(text) - 1)]
        return ids

    def targets(self, epoch: int, steps: int) -> int:
        """Number of targets in the first `steps` batches of an epoch."""
        layout, width = self._layout(epoch), self.seq_length
        room = self.batch_size * self.steps
        first = self._numbers(epoch, 0, np.arange(self.batch_size))
        ends = first + steps  # a row that goes past the last window continues with the first
        done = layout.done(np.minimum(ends, room), width) - layout.done(first, width)
        return int((done + layout.done(np.maximum(ends - room, 0), width)).sum())

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
            Elements (inputs, targets, begins) as of `batch`: the parts `mine` of the first batch,
            then those of the second, and so on.
        """
        import tensorflow as tf

        def read(element: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            index, own = divmod(int(element), len(mine))
            return self.batch(index, mine[own], parts)

        def load(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            x, y, begins = tf.numpy_function(read, [element], [tf.int32, tf.int32, tf.bool])
            shape = (self.batch_size // parts, self.seq_length)
            ensure = tf.ensure_shape
            return ensure(x, shape), ensure(y, shape), ensure(begins, shape[:1])

        # There is nothing to autotune, and an iterator that is abandoned early waits up to a minute
        # for the autotune thread.
        options = tf.data.Options()
        options.autotune.enabled = False
        elements = tf.data.Dataset.range(start * len(mine), stop * len(mine))
        return elements.map(load).prefetch(4 * len(mine)).with_options(options)


def fit_windows(
    stream: Stream, batch_size: int, seq_length: int, replicas: int = 1
) -> tuple[int, int]:
    """The batch size and window that fit a text.

    Args:
        stream: The training part.
        batch_size, seq_length: Rows and characters requested.
        replicas: Devices that share a batch; the batch stays a multiple of them.

    Returns:
        (batch_size, seq_length): fewer rows if they would have less than `_LEAST` windows each, and
        a shorter window for a text that is shorter than one window for each device.

    Raises:
        CorpusError: Not even one character per replica is left.
    """
    size = stream.length - stream.lead
    if size < replicas:
        raise CorpusError(
            f"The training part has {size} characters; {replicas} streams need at least "
            f"{replicas}, so give it more text."
        )
    window = min(seq_length, max(1, size // replicas))
    rows = size // (_LEAST * window) // replicas * replicas
    return min(batch_size, max(rows, replicas)), window
