"""Texts with labels to score, and their bits per character by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.errors import OptionError
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.corpus import Lines, prepare
from keras_charlm.text.labelled import LabelIds, LabelledLineStream
from keras_charlm.text.labels import Label
from keras_charlm.text.vocabulary import NEWLINE

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
) -> LabelledLineStream:
    """Lines that all have the same labels.

    Args:
        codes: The code points or bytes of the text (N,).
        model: A model of lines.
        labels: The labels.

    Raises:
        OptionError: The model was not trained on lines.
    """
    if not model.card.lines:
        raise OptionError(
            f"{model.path} was not trained on lines, and only those are scored by label; leave out "
            "--label."
        )
    text = np.concatenate([[NEWLINE], codes, [NEWLINE]]).astype(np.int64)
    ends = np.flatnonzero(text == NEWLINE)
    starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
    kept = lengths > 0
    count = int(kept.sum())
    numbers = np.tile(np.arange(len(labels)), (count, 1))
    lines = Lines(starts[kept], lengths[kept], np.zeros(count, np.uint64), numbers)
    ids = np.array([label.id for label in labels], np.int32)
    lookup = model.vocabulary.lookup(np.arange(int(text.max()) + 1)).astype(np.int32)
    return LabelledLineStream(text, lookup, lines, None, LabelIds(ids, model.vocabulary.size))


def bits_by_label(
    stream: LabelledLineStream, bits: np.ndarray, labels: Sequence[Label]
) -> list[dict[str, Any]]:
    """The loss of the lines of each label.

    Args:
        stream: The lines, in a fixed order.
        bits: -log2 p of each of their characters, newlines included, float (N,).
        labels: The model's labels.

    Returns:
        For each label with lines `column`, `label`, `lines`, `characters`, the `share` of them, and
        `bits_per_character`.
    """
    lengths = stream.lines.lengths + 1
    begins = np.cumsum(lengths) - lengths
    sums = np.add.reduceat(bits.astype(np.float64), begins) if len(lengths) else np.zeros(0)
    ids = stream.label_ids.ids[stream.lines.labels]  # (L, K)
    rows = []
    for label in labels:
        own = (ids == label.id).any(axis=1)
        if not (characters := int(lengths[own].sum())):
            continue
        rows.append(
            {
                "column": label.column,
                "label": label.value,
                "lines": int(own.sum()),
                "characters": characters,
                "share": characters / int(lengths.sum()),
                "bits_per_character": float(sums[own].sum()) / characters,
            }
        )
    return rows
