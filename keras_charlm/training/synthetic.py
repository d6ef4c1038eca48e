"""Synthetic text: more to read in each pass, drawn from n-grams of the training part.

A short text is learned by heart before its regularities are. N-grams, which are counted and not
learned, predict short texts better than a network does, and text that is drawn from them teaches
the network what they know. No text is drawn twice, so none can be learned by heart.

Source: the method is that of Bucila, Caruana and Niculescu-Mizil, "Model Compression", 2006, with
n-grams as the teacher; Xie et al., "Data Noising as Smoothing in Neural Network Language Models",
2017, smooth a network in a similar way.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_charlm.config import FitConfig
from keras_charlm.evaluation import ngram
from keras_charlm.text.split import Split
from keras_charlm.text.streams import SEGMENT, Stream

WINDOWS = 4  # of a row; a new row begins where a paragraph or line does


def possible(split: Split) -> bool:
    """Whether there can be synthetic text: not for files that each have their own labels."""
    return split.train.labelled(1).segments() is None


def find_synthetic(split: Split, fit: FitConfig) -> Synthetic | None:
    """The synthetic text of a training, or None if it has none.

    Args:
        split: The parts of the text.
        fit: The configuration, with all settings resolved.
    """
    if not fit.synthetic or not possible(split):
        return None
    stream = split.train.labelled(SEGMENT * fit.seq_length)
    grams = ngram.baseline(split)
    if split.labels:  # so that what is drawn has labels too
        size = split.vocabulary.size + len(split.labels)
        ids = ngram.read(stream, None)
        grams = ngram.fit(ids, size, grams.order, grams.start, grams.boundary)
    width = WINDOWS * fit.seq_length
    rows = max(1, round(fit.synthetic * (stream.length - stream.lead) / width))
    return Synthetic(grams, stream, rows, width, fit.seed)


class Synthetic:
    """Text drawn anew for each pass, in rows that are read from a zero state each.

    Args:
        grams: The n-grams to draw from.
        stream: The text that they were counted in.
        rows: Rows of a pass (R).
        width: Characters of a row (W).
        seed: Random seed.
    """

    def __init__(self, grams: ngram.NGram, stream: Stream, rows: int, width: int, seed: int):
        self.grams, self.stream, self.seed = grams, stream, seed
        self.rows, self.width = rows, width
        self._sampler = Sampler(grams)
        self.read = functools.lru_cache(2)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        """The text of an epoch, int32 (R, 1 + W); the first id of a row is not to be predicted."""
        random = np.random.default_rng([self.seed, epoch, 4])
        context = self._contexts(epoch, random)
        return np.hstack([context[:, -1:], self._sampler.draw(context, self.width, random)])

    def _contexts(self, epoch: int, random: np.random.Generator) -> np.ndarray:
        """What comes before each row: the characters before a break of the text, int32 (R, C)."""
        breaks = self.stream.breaks(self.grams.start, epoch)
        if self.grams.boundary is not None or not len(breaks):
            return np.full((self.rows, 1), self.grams.start, np.int32)
        width = max(self.grams.order - 1, 1)
        return self.stream.read(random.choice(breaks, self.rows) - width, width, epoch)


class Sampler:
    """Draws from the smoothed distribution of an n-gram model, for many rows at once.

    What is not seen in the training text at all is never drawn: the share of the uniform
    distribution, in which the smoothing ends, is left out.

    Args:
        grams: The model.
    """

    def __init__(self, grams: ngram.NGram):
        self.size, self.levels = grams.size, grams.levels
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
            node, sums = np.maximum(nodes[length], 0), self._sums[length]
            first, last = self._firsts[length][node], self._firsts[length][node + 1]
            seen = sums[last] - sums[first]
            if length == 0:
                uniform = uniform * seen
            open_ = (chosen < 0) & (nodes[length] >= 0) & (last > first)
            hit = open_ & ((uniform < seen) | (length == 0))
            gram = np.searchsorted(sums, sums[first] + uniform, side="right") - 1
            gram = np.clip(gram, first, np.maximum(last - 1, first))
            gram = np.minimum(gram, len(sums) - 2)
            chosen[hit] = self.levels[length].keys[gram[hit]] - node[hit] * self.size
            passed = open_ & ~hit
            uniform = np.where(passed, (uniform - seen) / np.maximum(1 - seen, 1e-12), uniform)
        return chosen
