"""Texts with labels to score, and their bits per character by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.corpus import Lines, prepare
from keras_charlm.text.labelled import LabelIds, LabelledLineStream
from keras_charlm.text.labelled_files import LabelledFileStream
from keras_charlm.text.labels import Label

Labelled = (LabelledLineStream, LabelledFileStream)  # the streams with labels

TABLES = (".csv", ".tsv", ".tab")  # suffixes of files with a header and columns


def labelled_table(path: Path, model: TrainedModel) -> LabelledLineStream:
    """The rows of a table as lines with their labels; labels that are new to the model are not
    read.

    Raises:
        CorpusError: It cannot be read, or a column is missing.
    """
    corpus = prepare([path], model.card.corpus_config)
    known = {(label.column, label.value): label.id for label in model.card.labels}
    ids = np.array([known.get(name, -1) for name in corpus.labels], np.int32)
    lookup = model.vocabulary.lookup(corpus.alphabet).astype(np.int32)
    label_ids = LabelIds(ids, model.vocabulary.size)
    return LabelledLineStream(corpus.symbols, lookup, corpus.lines(), None, label_ids)


def labelled_text(
    codes: np.ndarray, model: TrainedModel, labels: Sequence[Label]
) -> LabelledLineStream | LabelledFileStream:
    """A text whose lines or documents all have the same labels, or which has them as a whole.

    Args:
        codes: The code points or bytes of the text (N,).
        model: The model.
        labels: The labels.
    """
    label_ids = LabelIds(np.array([x.id for x in labels], np.int32), model.vocabulary.size)
    if not model.card.lines:
        lookup = model.vocabulary.lookup(np.arange(int(codes.max(initial=0)) + 1)).astype(np.int32)
        whole = np.array([0]), np.array([len(codes)]), np.arange(len(labels))[None]
        return LabelledFileStream(codes, lookup, *whole, label_ids, model.start)
    end = model.card.corpus_config.end
    text = np.concatenate([[end], codes, [end]]).astype(np.int64)
    ends = np.flatnonzero(text == end)
    starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
    kept = lengths > 0
    count = int(kept.sum())
    numbers = np.tile(np.arange(len(labels)), (count, 1))
    lines = Lines(starts[kept], lengths[kept], np.zeros(count, np.uint64), numbers)
    lookup = model.vocabulary.lookup(np.arange(int(text.max()) + 1)).astype(np.int32)
    return LabelledLineStream(text, lookup, lines, None, label_ids)


def bits_by_label(
    lengths: np.ndarray, ids: np.ndarray, bits: np.ndarray, labels: Sequence[Label]
) -> list[dict[str, Any]]:
    """The loss of the lines, documents or files of each label.

    Args:
        lengths: Characters of each, int (N,).
        ids: Ids of its labels, int (N, K).
        bits: -log2 p of each of their characters, one after another, float.
        labels: The model's labels.

    Returns:
        For each label that occurs `column`, `label`, `examples`, `characters`, the `share` of them,
        and `bits_per_character`.
    """
    begins = np.cumsum(lengths) - lengths
    sums = np.add.reduceat(bits.astype(np.float64), begins) if len(lengths) else np.zeros(0)
    rows = []
    for label in labels:
        own = (ids == label.id).any(axis=1)
        if not (characters := int(lengths[own].sum())):
            continue
        rows.append(
            {
                "column": label.column,
                "label": label.value,
                "examples": int(own.sum()),
                "characters": characters,
                "share": characters / int(lengths.sum()),
                "bits_per_character": float(sums[own].sum()) / characters,
            }
        )
    return rows
