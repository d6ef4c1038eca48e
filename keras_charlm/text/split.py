"""A corpus cut into training, validation and test part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_charlm.text.corpus import Corpus, Lines
from keras_charlm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    pass
from keras_charlm.text.streams import LineStream, TextStream


@dataclass(frozen=True)
class Split:
    """The parts of a corpus; `train_lines` only for lists."""

    vocabulary: Vocabulary
    train: TextStream | LineStream
    validation: TextStream | LineStream
    test: TextStream | LineStream
    start: int
    train_lines: Lines | None = None


def split_corpus(corpus: Corpus, seed: int = 0) -> Split:
    """Cut a corpus into training, validation and test part and take the training part's vocabulary.

    Text is cut contiguously, in this order. Lines are dealt out at random from the seed, for lists
    are often sorted, all copies of a line to the same part; of these one is kept, or with
    `duplicates` each.

    Args:
        corpus: A prepared text; its configuration holds the shares.
        seed: Decides which line goes where, and the order of each epoch.

    Raises:
        CorpusError: The training part is too small to learn from.
    """
    config, size = corpus.config, len(corpus.symbols)
    if config.lines:
        every = corpus.lines()
        lines = every.distinct()
        random = np.random.default_rng(seed)
        order = random.permutation(len(lines))
        cuts = _cuts(len(lines), config.val_frac, config.test_frac)
        parts = [lines.take(part) for part in np.split(order, cuts)]
        if config.duplicates:
            parts = [
                every.take(
                    random.permutation(
                        np.flatnonzero(np.isin(every.fingerprints, part.fingerprints))
                    )
                )
                for part in parts
            ]
        counts = _line_counts(corpus, parts[0])
        vocabulary = corpus.vocabulary(counts)
        ids = vocabulary.lookup(corpus.alphabet)
        streams = [
            LineStream(corpus.symbols, ids, part, seed if i == 0 else None)
            for i, part in enumerate(parts)
        ]
        return Split(vocabulary, *streams, _start(corpus, counts, vocabulary), parts[0])
    first, second = _cuts(size, config.val_frac, config.test_frac)
    counts = corpus.counts([(0, first)])
    vocabulary = corpus.vocabulary(counts)
    ids = vocabulary.lookup(corpus.alphabet)
    streams = [
        TextStream(corpus.symbols, ids, a, b)
        for a, b in ((0, first), (first, second), (second, size))
    ]
    return Split(vocabulary, *streams, _start(corpus, counts, vocabulary))


def _cuts(size: int, val_frac: float, test_frac: float) -> tuple[int, int]:
    """Where validation and test begin. A part of fewer than two gets none: it has no next one."""
    val, test = (n if n >= 2 else 0 for n in (int(size * val_frac), int(size * test_frac)))
    return size - val - test, size - test


def _line_counts(corpus: Corpus, lines: Lines) -> np.ndarray:
    """Counts over lines with their newlines, int64 (A,)."""
    total = np.zeros(len(corpus.alphabet), np.int64)
    for chunk in range(0, len(lines), 100_000):
        part = lines.take(slice(chunk, chunk + 100_000))
        lengths = part.lengths + 1
        # Positions of all characters of all blocks, without a loop over lines.
        at = np.repeat(part.starts - 1 - (np.cumsum(lengths) - lengths), lengths)
        at += np.arange(len(at))
        total += np.bincount(corpus.symbols[at], minlength=len(total))
    return total


def _start(corpus: Corpus, counts: np.ndarray, vocabulary: Vocabulary) -> int:
    """The code a model reads first when there is no prompt: a newline, or else the character that
    is most frequent."""
    if vocabulary.id_of(10):
        return 10
    return int(corpus.alphabet[np.argmax(counts)])
