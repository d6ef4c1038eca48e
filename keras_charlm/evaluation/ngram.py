"""The baseline to compare a network with: a character n-gram model.

Predictions use interpolated modified Kneser-Ney smoothing (Chen and Goodman, "An Empirical Study of
Smoothing Techniques for Language Modeling", 1998, section 3), which ends in a uniform distribution
over the vocabulary. Text is generated from the unsmoothed counts as in Goldberg, "The unreasonable
effectiveness of Character-level Language Models (and why RNNs are still cool)", 2015.

The n-grams ("grams") of length k are a sorted array of 64-bit keys, `context * V + symbol`. The
context is the index of the gram's first k - 1 symbols in the array of grams of length k - 1. Keys
are thus exact, not hashes, and a whole text is looked up at once. A gram takes 20 bytes; counting
takes about 50 bytes more per character of the training text: 100 MB of Python sources up to order
10 have 72 million grams, 1.4 GB, and took 7.1 GB at the peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_charlm.errors import OptionError
from keras_charlm.evaluation.scores import finite, margin

if TYPE_CHECKING:
    from keras_charlm.text.split import Split
    from keras_charlm.text.streams import Stream

MOST_ORDER = 10  # highest order tried
ORDER = 6  # used if there is no validation text to choose it on
_BLOCK = 1 << 20  # characters scored at a time
# For texts too short to estimate discounts from; the defaults of KenLM's --discount_fallback.
_DISCOUNTS = np.array([0, 0.5, 1, 1.5])


@dataclass(frozen=True)
class _Counts:
    """The distinct grams of one length k, G of them.

    Args:
        keys: context * V + symbol, ascending, int64 (G,).
        counts: How often each occurs in the text, uint32 (G,).
        continuations: How many different symbols occur before it; its count if none does, as at
            the beginning of a document. uint32 (G,).
    """

    keys: np.ndarray
    counts: np.ndarray
    continuations: np.ndarray


@dataclass(frozen=True)
class _Level:
    """The grams of one length k: p(symbol | context) = mass + back_off * p(symbol | shorter).

    Args:
        keys, counts: As in `_Counts`.
        mass: Discounted probability of the symbol after its context, float32 (G,).
        back_off: Probability mass freed by the discounts, for each context, float32 (grams of
            length k - 1,); 1 if nothing ever followed.
    """

    keys: np.ndarray
    counts: np.ndarray
    mass: np.ndarray
    back_off: np.ndarray


@dataclass(frozen=True)
class NGram:
    """An n-gram model.

    Args:
        size: Symbols of the vocabulary (V).
        start: Id read before a text's first character, as in the network.
        boundary: Id that ends a document: no context extends across it. None for a single text.
        levels: Grams of length 1, 2, ..., order.
    """

    size: int
    start: int
    boundary: int | None
    levels: tuple[_Level, ...]

    @property
    def order(self) -> int:
        """Length of the longest grams: a character is predicted from the order - 1 before it."""
        return len(self.levels)

    @property
    def grams(self) -> int:
        """Distinct grams of all lengths."""
        return sum(len(level.keys) for level in self.levels)

    def bits(self, ids: np.ndarray) -> np.ndarray:
        """Score each character.

        Args:
            ids: int (N,).

        Returns:
            -log2 p of every character but the first, given those before it, float64 (N - 1,).
        """
        pieces = []
        for at in range(1, len(ids), _BLOCK):
            begin = max(0, at - max(self.order - 1, 0))
            piece = np.asarray(ids[begin : at + _BLOCK], np.int64)
            walk, p = _Walk(piece, self.size, self.boundary), np.full(len(piece), 1 / self.size)
            for level in self.levels:
                p = walk.step(level.keys).smooth(level, p)
            pieces.append(-np.log2(p[at - begin :]))
        return np.concatenate(pieces) if pieces else np.zeros(0)

    def bits_per_character(self, stream: Stream) -> float:
        """Mean of -log2 p over the characters that `Evaluator` scores; NaN if there are none."""
        ids = read(stream, self.start)
        return float(self.bits(ids).mean()) if len(ids) > 1 else float("nan")

    def probabilities(self, context: np.ndarray) -> np.ndarray:
        """The distribution of the next symbol after ids (n,), float64 (V,)."""
        p = np.full(self.size, 1 / self.size)
        for level, node in zip(self.levels, self._nodes(context), strict=False):
            p = p * level.back_off[node]
            here = self._children(level, node)
            p[level.keys[here] - node * self.size] += level.mass[here]
        return p

    def generate(self, length: int, prompt: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
        """Sample symbols from the unsmoothed counts.

        Each is drawn with the frequency with which it followed the last order - 1 symbols, or their
        longest suffix that was followed by anything.

        Args:
            length: Symbols to draw.
            prompt: Ids to continue (n,); by default the start symbol.
            seed: Random seed.

        Returns:
            The symbols drawn, int32 (length,).
        """
        random = np.random.default_rng(seed).random(length)
        text = [self.start] if prompt is None or not len(prompt) else [int(i) for i in prompt]
        begun = len(text)
        for uniform in random:
            nodes = self._nodes(np.array(text[-self.order + 1 :] if self.order > 1 else []))
            level, node = self.levels[len(nodes) - 1], nodes[-1]
            here = self._children(level, node)
            total = np.cumsum(level.counts[here], dtype=np.int64)
            drawn = np.searchsorted(total, uniform * total[-1], side="right")
            text.append(int(level.keys[here][drawn] - node * self.size))
        return np.array(text[begun:], np.int32)

    def _nodes(self, context: np.ndarray) -> list[int]:
        """Suffixes of ids (n,) of length 0, 1, ... that were followed by anything, each as its
        index in the level of its length."""
        context = np.asarray(context, np.int64)[len(context) - min(len(context), self.order - 1) :]
        nodes = [0]
        for length in range(1, len(context) + 1):
            node = 0
            for level, symbol in zip(self.levels, context[-length:], strict=False):
                key = node * self.size + symbol
                node = int(np.searchsorted(level.keys, key))
                if node == len(level.keys) or level.keys[node] != key:
                    return nodes
            here = self._children(self.levels[length], node)
            if here.start == here.stop:
                return nodes
            nodes.append(node)
            if context[-length] == self.boundary:
                return nodes
        return nodes

    def _children(self, level: _Level, node: int) -> slice:
        """The range of the next level's grams that begin with a context."""
        edges = np.array([node, node + 1]) * self.size
        return slice(*np.searchsorted(level.keys, edges).tolist())


class _Walk:
    """All grams of a text, of increasing length, as indices into the levels.

    Args:
        ids: int64 (N,).
        size: Symbols of the vocabulary (V).
        boundary: Id that may only start or end a gram, or None.
    """

    def __init__(self, ids: np.ndarray, size: int, boundary: int | None):
        self.ids, self.size, self.boundary = ids, size, boundary
        self.length = 0
        # Index of the gram that begins at each character; -1 if unknown or past the text's end.
        self.node = np.zeros(len(ids), np.int32)

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Lengthen the grams by one symbol: where they begin (M,), and their keys, int64 (M,)."""
        ids, k = self.ids, self.length
        begins = np.flatnonzero(self.node[: max(len(ids) - k, 0)] >= 0)
        if k >= 2 and self.boundary is not None:  # the symbol that would become an inner one
            begins = begins[ids[begins + k - 1] != self.boundary]
        self.length += 1
        keys = self.node[begins].astype(np.int64)
        keys *= self.size
        keys += ids[begins + k]
        return begins, keys

    def step(self, known: np.ndarray) -> _Step:
        """Lengthen the grams by one symbol and look them up among known keys, int64 (G,)."""
        before = self.node
        begins, keys = self.keys()
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        hit = known[at] == keys
        self.node = np.full(len(self.ids), -1, np.int32)
        self.node[begins] = np.where(hit, at, -1)
        return _Step(begins + self.length - 1, before[begins], at, hit)


@dataclass(frozen=True)
class _Step:
    """Grams of a text that were looked up, all arrays (M,).

    Args:
        ends: Where they end.
        context: Index of their context in the level before.
        gram: Their own index, if known.
        hit: Whether they are known.
    """

    ends: np.ndarray
    context: np.ndarray
    gram: np.ndarray
    hit: np.ndarray

    def smooth(self, level: _Level, p: np.ndarray) -> np.ndarray:
        """Interpolate probabilities given the shorter contexts, float64 (N,), with these grams.

        Returns:
            Probabilities given these contexts, float64 (N,).
        """
        p = p.copy()
        p[self.ends] = (
            np.where(self.hit, level.mass[self.gram], 0)
            + level.back_off[self.context] * p[self.ends]
        )
        return p


def fit(ids: np.ndarray, size: int, order: int, start: int, boundary: int | None = None) -> NGram:
    """Count the n-grams of a text.

    Args:
        ids: int (N,), at least one.
        size: Symbols of the vocabulary (V).
        order: Length of the longest grams.
        start: Id read before a text's first character.
        boundary: Id that ends a document, for a corpus of lines.

    Returns:
        The smoothed model.

    Raises:
        OptionError: The order is below 1, or the text is empty.
    """
    if order < 1 or not len(ids):
        raise OptionError(
            f"The order is {order} and the text has {len(ids)} characters; both must be at least 1."
        )
    counts = _count(ids, size, order, boundary)
    return NGram(size, start, boundary, _smoothed(counts, size))


def count(split: Split, order: int) -> NGram:
    """Count the n-grams of the training part of a corpus.

    Args:
        split: The parts, with the vocabulary of the network.
        order: Length of the longest grams.

    Returns:
        The smoothed model.

    Raises:
        OptionError: The order is below 1.
    """
    start, boundary = _edges(split)
    return fit(read(split.train, None), split.vocabulary.size, order, start, boundary)


def baseline(split: Split, most_order: int = MOST_ORDER) -> NGram:
    """Count the training part of a corpus, up to the order that is best on its validation part.

    Args:
        split: The parts, with the vocabulary of the network to compare with.
        most_order: Highest order tried.

    Returns:
        The model. Without a validation part its order is ORDER, or `most_order` if that is lower.
    """
    size = split.vocabulary.size
    start, boundary = _edges(split)
    counts = _count(read(split.train, None), size, most_order, boundary)
    ids = read(split.validation, start)
    if len(ids) > 1:
        costs = _costs(counts, ids, size, boundary)
        order = 1 + costs.index(min(costs))
    else:
        order = min(ORDER, len(counts))
    return NGram(size, start, boundary, _smoothed(counts[:order], size))


def scores(split: Split, network: dict[str, np.ndarray]) -> list[dict[str, int | float | None]]:
    """Scores of the best n-gram model on the held-out parts, for a network's card.

    Args:
        split: The parts of the corpus.
        network: -log2 p of the network for each character of `validation` and `test`, float (N,);
            without those parts that are empty.

    Returns:
        One row: `order`, the bits per character of `validation` and `test`, and as
        `validation_margin` and `test_margin` the margins of error of their differences to the
        network (see `scores.margin`). None for an empty part, or one too short for a margin.
    """
    counted = baseline(split)
    row: dict[str, int | float | None] = {"order": counted.order}
    for part in ("validation", "test"):
        row[part] = row[f"{part}_margin"] = None
        if part in network:
            bits = counted.bits(read(getattr(split, part), counted.start))
            row[part] = float(bits.mean())
            row[f"{part}_margin"] = finite(margin(bits - network[part]))
    return [row]


def _edges(split: Split) -> tuple[int, int | None]:
    """The id read before a text's first character, and for lines the id that ends one."""
    start = split.vocabulary.id_of(split.start)
    return start, None if split.train_lines is None else start


def read(stream: Stream, start: int | None) -> np.ndarray:
    """All ids of a stream, int32 (N,), preceded by the start id unless the stream contains it."""
    end = stream.epoch_length()
    ids = stream.read(np.array([0]), end)[0] if end else np.zeros(0, np.int32)
    return (
        ids if stream.lead or start is None else np.concatenate([np.array([start], np.int32), ids])
    )


def _count(ids: np.ndarray, size: int, order: int, boundary: int | None) -> list[_Counts]:
    """The grams of ids (N,) of each length up to `order`, or up to the longest that occurs."""
    walk = _Walk(ids, size, boundary)
    levels: list[_Counts] = []
    for _ in range(order):
        before = walk.node
        begins, keys = walk.keys()
        if not len(keys):
            break
        ranks = np.argsort(keys)
        keys = keys[ranks]
        fresh = np.concatenate([[True], keys[1:] != keys[:-1]])
        first = np.flatnonzero(fresh)
        walk.node = np.full(len(ids), -1, np.int32)
        walk.node[begins[ranks]] = np.cumsum(fresh, dtype=np.int32) - 1
        if levels:  # each distinct gram is one more symbol before the gram it ends with
            suffixes = before[begins[ranks[first]] + 1]
            seen = np.bincount(suffixes, minlength=len(levels[-1].keys))
            np.copyto(levels[-1].continuations, seen, where=seen > 0, casting="unsafe")
        counts = np.diff(np.append(first, len(keys))).astype(np.uint32)
        levels.append(_Counts(keys[first], counts, counts.copy()))
    return levels


def _smoothed(levels: list[_Counts], size: int) -> tuple[_Level, ...]:
    """Smooth the longest grams by their counts, and shorter ones by their continuations."""
    contexts = [1, *(len(level.keys) for level in levels)]
    last = len(levels) - 1
    return tuple(
        _level(level, level.counts if i == last else level.continuations, contexts[i], size)
        for i, level in enumerate(levels)
    )


def _level(level: _Counts, counts: np.ndarray, contexts: int, size: int) -> _Level:
    """Discount counts, uint32 (G,), and pass the freed probability to the shorter context.

    Equation 26 of Chen and Goodman; `contexts` is the number of grams of length k - 1.
    """
    context = level.keys // size
    discount = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(context, counts, minlength=contexts)
    left = np.bincount(context, discount, minlength=contexts)
    # If nothing ever followed a context, all probability backs off to the shorter one.
    back_off = np.divide(left, total, out=np.ones(contexts), where=total > 0)
    mass = (counts - discount) / total[context]
    return _Level(level.keys, level.counts, mass.astype(np.float32), back_off.astype(np.float32))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """The discounts of counts of 0, 1, 2, and 3 or more, float64 (4,)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return _DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    # Each must be positive, or nothing is left for symbols that never followed.
    return discounts if (discounts[1:] > 0).all() else _DISCOUNTS


def _costs(levels: list[_Counts], ids: np.ndarray, size: int, boundary: int | None) -> list[float]:
    """Mean bits per character of ids (all but the first) for each order."""
    walk, p = _Walk(ids.astype(np.int64), size, boundary), np.full(len(ids), 1 / size)
    contexts, costs = 1, []
    for level in levels:
        step = walk.step(level.keys)
        top = step.smooth(_level(level, level.counts, contexts, size), p)
        p = step.smooth(_level(level, level.continuations, contexts, size), p)
        costs.append(float(-np.log2(top[1:]).mean()))
        contexts = len(level.keys)
    return costs
