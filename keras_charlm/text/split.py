"""A corpus split into training, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_charlm.text.corpus import Corpus, Lines
from keras_charlm.text.labelled import LabelIds, LabelledLineStream
from keras_charlm.text.labelled_files import LabelledFileStream
from keras_charlm.text.labels import FIRST_CODE, Label, make_labels
from keras_charlm.text.streams import LineStream, Stream, TextStream
from keras_charlm.text.vocabulary import NEWLINE, Vocabulary


@dataclass(frozen=True)
class Split:
    """The parts of a corpus.

    Attributes:
        vocabulary: The characters of the training part.
        train, validation, test: The parts.
        start: Code of the character that a model reads first when there is no prompt.
        train_lines: Lines of the training part, if the corpus is read as lines.
        labels: The labels of the training part.
    """

    vocabulary: Vocabulary
    train: Stream
    validation: Stream
    test: Stream
    start: int
    train_lines: Lines | None = None
    labels: tuple[Label, ...] = ()


def split_corpus(corpus: Corpus, seed: int = 0, label_dropout: float = 0.0) -> Split:
    """Split a corpus into training, validation and test parts, with the first one's vocabulary.

    Text is split contiguously, in this order. Lines are assigned at random, because lists are often
    sorted. All copies of a line go to the same part, which keeps one, or all with `duplicates`.

    Args:
        corpus: A prepared text; its configuration holds the fractions.
        seed: Seed of the assignment of lines, and of their order in each epoch.
        label_dropout: Fraction of the labels of the training part that are left out.

    Returns:
        The parts and the vocabulary.

    Raises:
        CorpusError: The training part is too small to learn from.
    """
    if corpus.config.records:
        return _split_lines(corpus, seed, label_dropout)
    if corpus.labels:
        return _split_labelled_files(corpus, seed, label_dropout)
    return _split_text(corpus)


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


def _split_labelled_files(corpus: Corpus, seed: int, label_dropout: float) -> Split:
    """Split each file contiguously, so that every label is in every part."""
    config = corpus.config
    marks = _labels_at(corpus)  # each before a file
    starts, stops = marks + 1, np.append(marks[1:], len(corpus.symbols))
    numbers = corpus.alphabet[corpus.symbols[marks]][:, None] - FIRST_CODE  # (F, 1)
    sizes = stops - starts
    ends = np.array([_cuts(n, config.val_frac, config.test_frac) for n in sizes.tolist()])
    bounds = [starts, *(starts + ends.T), stops]
    counts = corpus.counts(zip(starts.tolist(), bounds[1].tolist(), strict=True))
    vocabulary = corpus.vocabulary(counts)
    start, size = _start_code(corpus, counts, vocabulary), vocabulary.size
    labels, label_ids = make_labels(corpus.labels, corpus.columns, numbers, ends[:, 0], size)
    ids = vocabulary.lookup(corpus.alphabet)
    parts = []
    for first, stop, own_seed, dropout in zip(
        bounds, bounds[1:], (seed, None, None), (label_dropout, 0.0, 0.0), strict=False
    ):
        own = stop > first
        parts.append(
            LabelledFileStream(
                corpus.symbols,
                ids,
                first[own],
                stop[own],
                numbers[own],
                LabelIds(label_ids, size, dropout),
                vocabulary.id_of(start),
                own_seed,
            )
        )
    vocabulary = replace(vocabulary, labels=len(labels))
    train, validation, test = parts
    return Split(vocabulary, train, validation, test, start, labels=labels)


def _labels_at(corpus: Corpus) -> np.ndarray:
    """Positions of the labels in a corpus, int64 (n,)."""
    is_label, block = corpus.alphabet >= FIRST_CODE, 1 << 20
    return np.concatenate(
        [
            at + np.flatnonzero(is_label[corpus.symbols[at : at + block]])
            for at in range(0, len(corpus.symbols), block)
        ]
    )


def _split_lines(corpus: Corpus, seed: int, label_dropout: float) -> Split:
    config, every = corpus.config, corpus.lines()
    lines = every.distinct()
    if not config.duplicates:
        every = every.distinct(by_label=True)
    random = np.random.default_rng(seed)
    order = random.permutation(len(lines))
    cuts = _cuts(len(lines), config.val_frac, config.test_frac)
    parts = [lines.take(part) for part in np.split(order, cuts)]
    if len(every) > len(lines):
        copies = [np.isin(every.fingerprints, part.fingerprints) for part in parts]
        parts = [every.take(random.permutation(np.flatnonzero(own))) for own in copies]
    counts = _line_counts(corpus, parts[0])
    vocabulary = corpus.vocabulary(counts)
    start = _start_code(corpus, counts, vocabulary)
    ids = vocabulary.lookup(corpus.alphabet)
    if not corpus.labels:
        train, validation, test = (
            LineStream(corpus.symbols, ids, part, seed if part is parts[0] else None)
            for part in parts
        )
        return Split(vocabulary, train, validation, test, start, parts[0])
    size = vocabulary.size
    labels, label_ids = make_labels(
        corpus.labels, corpus.columns, parts[0].labels, np.ones(len(parts[0])), size
    )
    train, validation, test = (
        LabelledLineStream(corpus.symbols, ids, part, own_seed, LabelIds(label_ids, size, dropout))
        for part, own_seed, dropout in zip(
            parts, (seed, None, None), (label_dropout, 0.0, 0.0), strict=True
        )
    )
    vocabulary = replace(vocabulary, labels=len(labels))
    return Split(vocabulary, train, validation, test, start, parts[0], labels)


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
        lengths = part.lengths
        # Positions of all characters of the lines, without a loop.
        at = np.repeat(part.starts - (np.cumsum(lengths) - lengths), lengths)
        at += np.arange(len(at))
        total += np.bincount(corpus.symbols[at], minlength=len(total))
        total[corpus.config.end] += len(part)
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
