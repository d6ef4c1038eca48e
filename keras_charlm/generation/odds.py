"""Estimates of how often a text fits, from the characters that a model writes when it is free."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from keras_charlm.generation.constraints import Rule

MOST_SYMBOLS = 512  # of a vocabulary of which pairs are counted
MOST_ENTRIES = 1_000_000  # of a table with a column for each symbol
LEAST = 1e-9  # what may fit must stay possible
SMOOTHING = 20.0  # characters that single frequencies add to those after each character


def count_pairs(texts: Iterable[np.ndarray], size: int, end: int | None) -> np.ndarray:
    """Count the symbols that follow each symbol.

    Args:
        texts: Ids of texts (n,).
        size: Symbols of the vocabulary (V).
        end: Id of the symbol that begins and ends a text, if one does.

    Returns:
        float64 (V, V), or (1, V) for a large vocabulary: how often each symbol follows any.
    """
    counts = np.zeros((size if size <= MOST_SYMBOLS else 1, size))
    border = [] if end is None else [end]
    for text in texts:
        ids = np.concatenate([border, text, border]).astype(int)
        np.add.at(counts, (ids[:-1] % len(counts), ids[1:]), 1)
    return counts


class Odds:
    """How often a text fits if each character depends only on the one before it.

    Args:
        rule: What a text has to fit.
        counts: How often symbols follow each symbol, float64 (V, V), or any symbol, (1, V).
        end: Id of the symbol that ends a text; None if only the length does.
    """

    def __init__(self, rule: Rule, counts: np.ndarray, end: int | None):
        moves, classes = rule.automaton.moves, rule.automaton.classes
        self._end, self._longest = end, rule.longest
        single = counts.sum(axis=0) + LEAST
        single /= single.sum()
        if len(counts) > 1 and rule.may_end.size * len(classes) <= MOST_ENTRIES:
            likely = (counts + SMOOTHING * single) / (counts.sum(1, keepdims=True) + SMOOTHING)
            self._after, self._before = moves[:, classes], np.arange(len(classes))
        else:  # (S, V) and (V,)
            likely, self._after = single[None], moves[:, classes]
            self._before = np.zeros(len(classes), int)
        ends = np.ones(len(likely)) if end is None else likely[:, end]
        likely = np.where(classes, likely, 0.0)
        steps, before = self._after, self._before
        if len(likely) == 1:  # symbols of a class are alike
            by_class = np.bincount(classes, likely[0], moves.shape[1])
            likely, steps, before = by_class[None], moves, np.zeros(moves.shape[1], int)
        # By the characters so far, the state and the last symbol, float64 (L + 1, S, V or 1).
        self._chances = rule.may_end[:, :, None] * ends
        for n in reversed(range(rule.longest)):
            further = self._chances[n + 1][steps, before] @ likely.T
            self._chances[n] += np.where(rule.open_until[n, :, None], further, 0.0)
        np.maximum(self._chances, LEAST * rule.open_until[:, :, None], out=self._chances)

    def after(self, n: int, state: int, last: int) -> np.ndarray:
        """The odds after each symbol, relative to those before it, float64 (V,).

        Args:
            n: Characters so far.
            state: State of the rule's automaton.
            last: Id of the last symbol.
        """
        odds = self._chances[min(n + 1, self._longest)][self._after[state], self._before]
        if self._end is not None:
            odds[self._end] = 1.0
        return odds / self._chances[n, state, self._before[last]]
