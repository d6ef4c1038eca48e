"""A corpus split into training, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_charlm.text.corpus import Corpus, Lines
from keras_charlm.text.streams import LineStream, TextStream
from keras_charlm.text.vocabulary import NEWLINE, Vocabulary


@dataclass(frozen=True)
class Split:
    """The parts of a corpus.

    Attributes:
        vocabulary: The characters of the training part.
        train, validation, test: The parts.
        start: Code of the character that a model reads first when there is no prompt.
        train_lines: Lines of the training part, if the corpus is read as lines.
    """

    vocabulary: Vocabulary
    train: TextStream | LineStream
    validation: TextStream | LineStream
    test: TextStream | LineStream
    start: int
    train_lines: Lines | None = None


def split_corpus(corpus: Corpus, seed: int = 0) -> Split:
    """Split a corpus into training, validation and test parts, with the first one's vocabulary.

    Text is split contiguously, in this order. Lines are assigned at random, because lists are often
    sorted. All copies of a line go to the same part, which keeps one, or all with `duplicates`.

    Args:
        corpus: A prepared text; its configuration holds the fractions.
        seed: Seed of the assignment of lines, and of their order in each epoch.

    Returns:
        The parts and the vocabulary.

    Raises:
        CorpusError: The training part is too small to learn from.
    """
    return _split_lines(corpus, seed) if corpus.config.records else _split_text(corpus)


def _split_text(corpus: Corpus) -> Split:
    config, size = corpus.config, len(corpus.symbols)
    first, second = _cuts(size, config.val_frac, config.test_frac)
    counts = corpus.counts([(0, first)])
    vocabulary = corpus.vocabulary(counts)
    ids = vocabulary.lookup(corpus.alphabet)
    train, validation, test = (
        TextStream(corpus.symbols, ids, start, stop)
        for start, stop in ((0, first), (first, second), (second, size))
    )
    return Split(vocabulary, train, validation, test, _start_code(corpus, counts, vocabulary))


def _split_lines(corpus: Corpus, seed: int) -> Split:
    config, every = corpus.config, corpus.lines()
    lines = every.distinct()
    random = np.random.default_rng(seed)
    order = random.permutation(len(lines))
    cuts = _cuts(len(lines), config.val_frac, config.test_frac)
    parts = [lines.take(part) for part in np.split(order, cuts)]
    if config.duplicates:
        copies = [np.isin(every.fingerprints, part.fingerprints) for part in parts]
        parts = [every.take(random.permutation(np.flatnonzero(own))) for own in copies]
    counts = _line_counts(corpus, parts[0])
    vocabulary = corpus.vocabulary(counts)
    ids = vocabulary.lookup(corpus.alphabet)
    train, validation, test = (
        LineStream(corpus.symbols, ids, part, seed if part is parts[0] else None) for part in parts
    )
    start = _start_code(corpus, counts, vocabulary)
    return Split(vocabulary, train, validation, test, start, parts[0])


def _cuts(size: int, val_frac: float, test_frac: float) -> tuple[int, int]:
    """Where validation and test begin. A part of a single element is left empty, because it has no
    successor to predict."""
    val, test = (n if n >= 2 else 0 for n in (int(size * val_frac), int(size * test_frac)))
    return size - val - test, size - test


def _line_counts(corpus: Corpus, lines: Lines) -> np.ndarray:
    """How often each symbol occurs in lines with their newlines, int64 (A,)."""
    total = np.zeros(len(corpus.alphabet), np.int64)
    for chunk in range(0, len(lines), 100_000):
        part = lines.take(slice(chunk, chunk + 100_000))
        lengths = part.lengths + 1
        # Positions of all characters, each line with its preceding newline, without a loop.
        at = np.repeat(part.starts - 1 - (np.cumsum(lengths) - lengths), lengths)
        at += np.arange(len(at))
        total += np.bincount(corpus.symbols[at], minlength=len(total))
    return total


def _start_code(corpus: Corpus, counts: np.ndarray, vocabulary: Vocabulary) -> int:
    """The code a model reads first when there is no prompt: the end of a document, in a text a
    newline, or else the character that is most frequent.

    Args:
        corpus: A text.
        counts: Occurrences of each symbol in its training part (A,).
        vocabulary: The vocabulary of the training part.
    """
    if corpus.config.records:
        return corpus.config.end
    if vocabulary.id_of(NEWLINE):
        return NEWLINE
    return int(corpus.alphabet[np.argmax(counts)])
