"""Files with a label as a whole: read in pieces that each begin with the start symbol and labels.

They are not the documents of a list (`records`): nothing ends them, and each is split.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_charlm.text.labelled import LabelIds
from keras_charlm.text.streams import TextStream

PIECE = 8192  # characters of a piece when texts are scored


class LabelledFileStream(TextStream):
    """Parts of several files, one after another, of which each has labels.

    `labelled` is their text with the labels, all other methods are of the text without them.

    Args:
        symbols: Integers (N,), memory-mapped or not.
        ids: Id of each symbol, int32 (A,).
        starts, stops: The part of each file, int64 (F,).
        labels: Number of the label of each file in each column, int64 (F, K).
        label_ids: How the labels are read.
        start: Id that is read before a text.
        seed: Seed of where pieces begin in each epoch; None cuts into equal pieces.
    """

    def __init__(
        self,
        symbols: np.ndarray,
        ids: np.ndarray,
        starts: np.ndarray,
        stops: np.ndarray,
        labels: np.ndarray,
        label_ids: LabelIds,
        start: int,
        seed: int | None = None,
    ):
        super().__init__(symbols, ids, 0, int((stops - starts).sum()))
        self.starts, self.stops, self.labels = starts, stops, labels
        self.label_ids, self.first, self.seed = label_ids, start, seed
        self.ends = np.cumsum(stops - starts)
        self._in_files: tuple[int, list[np.ndarray]] | None = None

    def labelled(self, width: int = PIECE) -> TextStream:
        return _Pieces(self, width)

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Characters of each file, int64 (F,), and the ids of its labels, int32 (F, K)."""
        return self.stops - self.starts, self.label_ids.ids[self.labels]

    def locate(self, position: int) -> int:
        """Where a character of this text is in the corpus, in symbols."""
        file = int(np.searchsorted(self.ends, position, side="right"))
        return int(self.stops[file] - (self.ends[file] - position))

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        at = starts[:, None] + np.arange(width)  # (R, width)
        inside = np.clip(at, 0, max(self.length - 1, 0))
        file = np.searchsorted(self.ends, inside, side="right")
        ids = self.ids[self.symbols[self.stops[file] - (self.ends[file] - inside)]]
        return np.where(at == inside, ids, 0)

    def breaks(self, start: int, epoch: int = 0) -> np.ndarray:
        before = self.ends - (self.stops - self.starts)
        return np.concatenate(
            [own + at for own, at in zip(self._breaks_of_all(start), before, strict=True)]
        )

    def cuts(self, width: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut the files into pieces of about `width` characters.

        Returns:
            Where each piece begins in the corpus, its characters, and the number of its file,
            int64 (P,) each. Their number is the same in every epoch.
        """
        random = None if self.seed is None else np.random.default_rng([self.seed, epoch, 3])
        begins, files = [], []
        for n, breaks in enumerate(self._breaks_of_all(self.first)):
            size = int(self.stops[n] - self.starts[n])
            count = max(1, round(size / width))
            offset = 0.5 if random is None else random.random()
            wanted = ((np.arange(1, count) - offset) * size / count).astype(np.int64)
            near = np.append(breaks, 2 * size)[np.searchsorted(breaks, wanted)]
            at = np.where(near - wanted < size / count / 2, near, wanted)
            begins.append(self.starts[n] + np.append(0, np.maximum(at, 1)))
            files.append(np.full(count, n))
        first, number = np.concatenate(begins), np.concatenate(files)
        first = np.minimum(np.sort(first), self.stops[number])
        ends = np.append(first[1:], self.stops[-1])
        ends = np.minimum(ends, self.stops[number])
        return first, np.maximum(ends - first, 0), number

    def _breaks_of_all(self, start: int) -> list[np.ndarray]:
        """Where paragraphs begin in each file, counted from its beginning."""
        if self._in_files is None or self._in_files[0] != start:
            bounds = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
            texts = [TextStream(self.symbols, self.ids, *own) for own in bounds]
            self._in_files = start, [text.breaks(start) for text in texts]
        return self._in_files[1]


class _Pieces(TextStream):
    """The text of files cut into pieces, each after the start symbol and its labels.

    Args:
        plain: The files.
        width: Characters of a piece, about.
    """

    lead = 1

    def __init__(self, plain: LabelledFileStream, width: int):
        count = len(plain.cuts(width, 0)[0]) if len(plain.starts) else 0
        blocks = plain.length + count * (1 + plain.labels.shape[1])
        super().__init__(plain.symbols, plain.ids, 0, blocks)
        self.plain, self.width = plain, width
        self.first_label = plain.label_ids.first
        self._of = functools.lru_cache(2)(self._cut)

    def _cut(self, epoch: int) -> _Epoch:
        plain, ids = self.plain, self.plain.label_ids
        begins, sizes, file = plain.cuts(self.width, epoch)
        labels = ids.ids[plain.labels[file]]  # (P, K)
        kept = labels >= 0
        if ids.dropout:
            random = np.random.default_rng([plain.seed or 0, epoch, 2])
            kept &= random.random(kept.shape) >= ids.dropout
        return _Epoch(begins, sizes, labels, kept)

    def epoch_length(self, epoch: int = 0) -> int:
        ends = self._of(self._number(epoch)).ends
        return int(ends[-1]) if len(ends) else 0

    def label_positions(self, epoch: int = 0) -> np.ndarray:
        """Positions of the labels and of all start symbols but the first, int64 (n,)."""
        cut = self._of(self._number(epoch))
        counts = cut.counts + 1
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return (np.repeat(cut.starts, counts) + offsets)[1:]

    def segments(self, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Position of each piece's first label or character, and its characters with the labels."""
        cut = self._of(self._number(epoch))
        return cut.starts + 1, cut.ends - cut.starts - 1

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        cut = self._of(self._number(epoch))
        at = np.clip(starts[:, None] + np.arange(width), 0, cut.ends[-1] - 1)  # (R, width)
        piece = np.searchsorted(cut.ends, at, side="right")
        offset = at - cut.starts[piece] - 1  # -1 at the start symbol
        label, last = cut.label_starts[piece] + offset, len(self.symbols) - 1
        symbol = np.clip(cut.begins[piece] + offset - cut.counts[piece], 0, last)
        ids = self.ids[self.symbols[symbol]]
        if len(cut.labels):
            own = cut.labels[np.clip(label, 0, len(cut.labels) - 1)]
            ids = np.where(offset < cut.counts[piece], own, ids)
        return np.where(offset < 0, self.plain.first, ids).astype(np.int32)

    def _number(self, epoch: int) -> int:
        return 0 if self.plain.seed is None else epoch


class _Epoch:
    """The pieces of an epoch and their positions in its text.

    Attributes:
        begins: Where each piece begins in the corpus (P,).
        counts: Labels before it (P,).
        labels: Ids of the labels of all pieces (n,); those of a piece begin at `label_starts` (P,).
        starts, ends: Where it begins, with its start symbol, and ends in the text (P,).
    """

    def __init__(self, begins: np.ndarray, sizes: np.ndarray, labels: np.ndarray, kept: np.ndarray):
        self.begins, self.counts, self.labels = begins, kept.sum(axis=1), labels[kept]
        self.label_starts = np.cumsum(self.counts) - self.counts
        lengths = sizes + self.counts + 1
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
