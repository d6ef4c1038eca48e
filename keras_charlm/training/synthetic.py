"""Synthetic text: more to read in each pass, drawn from n-grams of the training part.

A short text is learned by heart before its regularities are. N-grams, which are counted and not
learned, predict short texts better than a network does, and text that is drawn from them teaches
the network what they know. It is drawn anew in each pass, so that none of it is learned by heart.

Source: the method is that of Bucila, Caruana and Niculescu-Mizil, "Model Compression", 2006, with
n-grams as the teacher; Xie et al., "Data Noising as Smoothing in Neural Network Language Models",
2017, smooth a network in a similar way.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from keras_charlm.config import FitConfig
from keras_charlm.evaluation import ngram
from keras_charlm.text.labelled_files import LabelledFileStream
from keras_charlm.text.split import Split
from keras_charlm.text.streams import SEGMENT, Stream

WINDOWS = 4  # of a row; a new row begins where a paragraph or line does
_FEWEST = 100  # lines with a label that are counted by themselves


def possible(split: Split) -> bool:
    """Whether there can be synthetic text: not for files that each have their own labels."""
    return not isinstance(split.train, LabelledFileStream)


def find_synthetic(split: Split, fit: FitConfig) -> Synthetic | None:
    """The synthetic text of a training, or None if it has none.

    Args:
        split: The parts of the text.
        fit: The configuration, with all settings resolved.
    """
    if not fit.synthetic or not possible(split):
        return None
    stream = split.train.labelled(SEGMENT * fit.seq_length)
    width = WINDOWS * fit.seq_length
    wanted = fit.synthetic * (stream.length - stream.lead) / width
    sources = [(grams, math.ceil(wanted * share)) for grams, share in _sources(split, stream)]
    return Synthetic(sources, stream, width, fit.seed)


def _sources(split: Split, stream: Stream) -> list[tuple[ngram.NGram, float]]:
    """The n-grams to draw from, each with its share of what is drawn.

    N-grams forget a label after a few characters. Where there are labels, the lines of each are
    therefore counted by themselves, so that what is drawn for a label is like its lines throughout;
    text without labels is drawn for labels of few lines.
    """
    grams = ngram.baseline(split)
    if not split.labels:
        return [(grams, 1.0)]
    ids = ngram.read(stream, None)
    begins = np.flatnonzero(ids == grams.start)
    lines: dict[bytes, list[np.ndarray]] = {}
    for first, last in itertools.pairwise(begins):
        line = ids[first:last]
        lines.setdefault(line[line >= stream.first_label].tobytes(), []).append(line)
    size, sources, rest = split.vocabulary.size + len(split.labels), [], 1.0
    for labels, own in lines.items():
        if labels and len(own) >= _FEWEST:
            text = np.concatenate([*own, [grams.start]])
            order = grams.order + len(labels) // ids.itemsize
            share = len(own) / (len(begins) - 1)
            sources.append((ngram.fit(text, size, order, grams.start, grams.boundary), share))
            rest -= share
    return [*sources, (grams, rest)]


class Synthetic:
    """Text drawn anew for each pass, in rows that are read from a zero state each.

    Args:
        sources: The n-grams to draw from, and the rows of a pass that are drawn from each.
        stream: The text that they were counted in.
        width: Characters of a row (W).
        seed: Random seed.

    Attributes:
        rows: Rows of a pass (R).
    """

    def __init__(
        self, sources: Sequence[tuple[ngram.NGram, int]], stream: Stream, width: int, seed: int
    ):
        self.stream, self.width, self.seed = stream, width, seed
        self.rows = sum(rows for _, rows in sources)
        self._samplers = [(Sampler(grams), rows) for grams, rows in sources]
        self.read = functools.lru_cache(2)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        """The text of an epoch, int32 (R, 1 + W); the first id of a row is not to be predicted."""
        random = np.random.default_rng([self.seed, epoch, 4])
        parts = []
        for sampler, rows in self._samplers:
            context = self._contexts(sampler.grams, rows, epoch, random)
            parts.append(np.hstack([context[:, -1:], sampler.draw(context, self.width, random)]))
        return np.concatenate(parts)

    def _contexts(
        self, grams: ngram.NGram, rows: int, epoch: int, random: np.random.Generator
    ) -> np.ndarray:
        """What comes before each row: the characters before a break of the text, (rows, C)."""
        start = np.full((rows, 1), grams.start, np.int32)
        if grams.boundary is not None:  # a line does not depend on the one before
            return start
        breaks = self.stream.breaks(grams.start, epoch)
        if not len(breaks):
            return start
        width = max(grams.order - 1, 1)
        return self.stream.read(random.choice(breaks, rows) - width, width, epoch)


class Sampler:
    """Draws from the smoothed distribution of an n-gram model, for many rows at once.

    What is not seen in the training text at all is never drawn: the share of the uniform
    distribution, in which the smoothing ends, is left out.

    Args:
        grams: The model.
    """

    def __init__(self, grams: ngram.NGram):
        self.grams, self.size, self.levels = grams, grams.size, grams.levels
        counts = [1, *(len(level.keys) for level in grams.levels)]
        # For each level: where the grams of each context begin, int64 (contexts + 1,), and the
        # sum of the masses before each gram, float64 (G + 1,).
        self._firsts = [
            np.searchsorted(level.keys, np.arange(count + 1) * self.size)
            for level, count in zip(self.levels, counts, strict=False)
        ]
        self._sums = [
            np.concatenate([[0], np.cumsum(level.mass, dtype=np.float64)]) for level in self.levels
        ]

    def draw(self, context: np.ndarray, width: int, random: np.random.Generator) -> np.ndarray:
        """Continue each row of ids, int (R, C), by `width` symbols, int32 (R, width)."""
        nodes = [np.zeros(len(context), np.int64)]
        for symbols in context.T:
            nodes = self._follow(nodes, symbols)
        text = np.empty((len(context), width), np.int32)
        for at in range(width):
            text[:, at] = self._choose(nodes, random.random(len(context)))
            nodes = self._follow(nodes, text[:, at])
        return text

    def _follow(self, nodes: list[np.ndarray], symbols: np.ndarray) -> list[np.ndarray]:
        """The contexts after one more symbol (R,): for each length the index of the last so many
        symbols among the grams of that length, int64 (R,), or -1 if there is no such gram."""
        longer = [nodes[0]]
        for level, node in zip(self.levels[:-1], nodes, strict=False):
            key = node * self.size + symbols
            at = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            longer.append(np.where((node >= 0) & (level.keys[at] == key), at, -1))
        return longer

    def _choose(self, nodes: list[np.ndarray], uniform: np.ndarray) -> np.ndarray:
        """Choose the next symbol (R,): one that followed the longest context, or by the share of
        its back-off one that followed the next shorter one, and so on."""
        chosen = np.full(len(uniform), -1, np.int64)
        for length in reversed(range(len(nodes))):
            firsts, sums, node = self._firsts[length], self._sums[length], nodes[length]
            first, last = firsts[node], firsts[node + 1]
            seen = sums[last] - sums[first]
            undecided = (chosen < 0) & (node >= 0) & (last > first)
            if length == 0:  # there is nothing shorter
                uniform = uniform * seen
            here = undecided & ((uniform < seen) | (length == 0))
            gram = np.searchsorted(sums, (sums[first] + uniform)[here], side="right") - 1
            gram = np.clip(gram, first[here], last[here] - 1)  # rounding may leave the range
            chosen[here] = self.levels[length].keys[gram] - node[here] * self.size
            left = (uniform - seen) / np.maximum(1 - seen, 1e-12)
            uniform = np.where(undecided & ~here, left, uniform)
        return chosen
