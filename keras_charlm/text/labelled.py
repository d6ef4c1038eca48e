"""Texts with labels: a stream of them as the network reads it, with each label as a symbol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_charlm.text.corpus import Lines
from keras_charlm.text.streams import NO_LABEL, LineStream


@dataclass(frozen=True)
class LabelIds:
    """How labels are read.

    Attributes:
        ids: Id of each label of a corpus, int32 (J,); -1 for one that is not read.
        first: The first id of a label.
        dropout: Fraction of the labels that are left out, others in each epoch.
    """

    ids: np.ndarray
    first: int = NO_LABEL
    dropout: float = 0.0


class LabelledLineStream(LineStream):
    """Lines of which each has labels; `labelled` is their text with the labels, others without.

    Args:
        symbols, ids, lines, seed: As for `LineStream`.
        label_ids: How the labels are read.
    """

    def __init__(
        self,
        symbols: np.ndarray,
        ids: np.ndarray,
        lines: Lines,
        seed: int | None,
        label_ids: LabelIds,
    ):
        super().__init__(symbols, ids, lines, seed)
        self.label_ids = label_ids

    def labelled(self, width: int = 0) -> LineStream:
        """The lines with their labels."""
        return _WithLabels(self)

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Characters of each line with its newline, int64 (L,), and ids of its labels (L, K)."""
        return self.lines.lengths + 1, self.label_ids.ids[self.lines.labels]

    def fingerprints(self) -> np.ndarray:
        """The distinct lines: fingerprint and ids of the labels of each, uint64 (L, 1 + K)."""
        ids = np.maximum(self.label_ids.ids[self.lines.labels], 0).astype(np.uint64)
        return np.unique(np.column_stack([self.lines.fingerprints, ids]), axis=0)


class _Blocks:
    """The blocks of an epoch's text, each a newline, labels and a line.

    Args:
        lines: The lines in the order of the epoch.
        labels: Ids of the labels, int32 (L, K).
        kept: Which of them are read, bool (L, K).

    Attributes:
        stops: Where each line ends in the corpus, int64 (L,).
        lengths: Characters of each line, int64 (L,).
        labels: Ids of the labels that are read, int32 (n,).
        counts: Their number in each block, int64 (L,).
        ends, label_ends: The sums of the blocks' lengths and of `counts` up to each, int64 (L,).
    """

    def __init__(self, lines: Lines, labels: np.ndarray, kept: np.ndarray):
        self.stops, self.lengths = lines.starts + lines.lengths, lines.lengths
        self.labels, self.counts = labels[kept], kept.sum(axis=1)
        self.ends = np.cumsum(self.lengths + self.counts + 1)
        self.label_ends = np.cumsum(self.counts)


class _WithLabels(LineStream):
    """The text of labelled lines in which the labels of each line come after its newline.

    Attributes:
        length: Characters of an epoch's text, newlines and labels included, if none is left out.
    """

    def __init__(self, plain: LabelledLineStream):
        super().__init__(plain.symbols, plain.ids, plain.lines, plain.seed)
        self.label_ids = plain.label_ids
        self.first_label = plain.label_ids.first
        self.length += plain.lines.labels.size
        self._last: tuple[int, _Blocks] | None = None  # the last epoch read

    def epoch_length(self, epoch: int = 0) -> int:
        ends = self._of(epoch).ends
        return int(ends[-1]) + 1 if len(ends) else 0

    def read(self, starts: np.ndarray, width: int, epoch: int = 0) -> np.ndarray:
        blocks = self._of(epoch)
        # After the last block the first one follows again: its newline ends the text.
        at = (starts[:, None] + np.arange(width)) % blocks.ends[-1]  # (R, width)
        block = np.searchsorted(blocks.ends, at, side="right")
        back = blocks.ends[block] - at  # 1 at a block's last character
        ids = self.ids[self.symbols[blocks.stops[block] - back]]
        after_label = back - blocks.lengths[block]  # 1 at the last label
        if len(blocks.labels):
            label = np.clip(blocks.label_ends[block] - after_label, 0, len(blocks.labels) - 1)
            ids = np.where(after_label > 0, blocks.labels[label], ids)
        ends = self.ids[self.symbols[blocks.stops[block]]]
        return np.where(after_label > blocks.counts[block], ends, ids)

    def breaks(self, start: int, epoch: int = 0) -> np.ndarray:
        ends = self._of(epoch).ends
        return np.concatenate([[1], ends[:-1] + 1])

    def label_positions(self, epoch: int = 0) -> np.ndarray:
        blocks = self._of(epoch)
        begins = blocks.ends - blocks.lengths - blocks.label_ends  # with a label each before it
        return np.repeat(begins, blocks.counts) + np.arange(len(blocks.labels))

    def _of(self, epoch: int) -> _Blocks:
        epoch = 0 if self.seed is None else epoch
        if self._last is None or self._last[0] != epoch:
            lines, dropout = self.in_order(epoch), self.label_ids.dropout
            labels = self.label_ids.ids[lines.labels]  # (L, K)
            kept = labels >= 0
            if dropout:
                random = np.random.default_rng([self.seed or 0, epoch, 2])
                kept &= random.random(kept.shape) >= dropout
            self._last = epoch, _Blocks(lines, labels, kept)
        return self._last[1]
