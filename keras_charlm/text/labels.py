"""Labels: what is known about a text beforehand, such as the gender or language of a name.

A label is a symbol of the input only. It is read before the text and never predicted, so sampling
cannot draw it. Its code follows the last Unicode code point, and its id the last character's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_charlm.errors import CorpusError, OptionError, brief

FIRST_CODE = 0x110000  # code of the first label, one beyond the last code point
FILE = "file"  # the column of --label-by-file
MOST = 1000  # labels of a model; a column with more is hardly a label

_SHOWN = 30  # labels that an error lists


@dataclass(frozen=True)
class Label:
    """A value of a column of labels.

    Attributes:
        column: Name of the column.
        value: The value.
        share: Share of the training examples that have it.
        id: Its id, a row of the embedding.
        code: Its code in the input of the on-device file.
    """

    column: str
    value: str
    share: float
    id: int
    code: int


def columns(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """The labels of each column, in order."""
    grouped: dict[str, list[Label]] = {}
    for label in labels:
        grouped.setdefault(label.column, []).append(label)
    return grouped


def choose(labels: Sequence[Label], requested: Iterable[str]) -> tuple[Label, ...]:
    """Find labels by value, or by COLUMN=VALUE.

    Args:
        labels: The labels of a model.
        requested: At most one of each column.

    Returns:
        The labels, in the order of the columns.

    Raises:
        OptionError: There is no such label, or it is in several columns, or two are of one column.
    """
    chosen: dict[str, Label] = {}
    for text in requested:
        matching = [x for x in labels if text in (x.value, f"{x.column}={x.value}")]
        if not matching:
            raise OptionError(f"The model has no label {brief(repr(text))}; {_available(labels)}.")
        if len(matching) > 1:
            names = " or ".join(f"{x.column}={x.value}" for x in matching)
            raise OptionError(
                f"The label {brief(repr(text))} is in several columns; write {brief(names)}."
            )
        label = matching[0]
        if label.column in chosen:
            raise OptionError(
                f"The labels {brief(repr(chosen[label.column].value))} and "
                f"{brief(repr(label.value))} are both of the column {brief(label.column)}; give "
                "one of them."
            )
        chosen[label.column] = label
    return tuple(chosen[name] for name in columns(labels) if name in chosen)


def _available(labels: Sequence[Label]) -> str:
    if not labels:
        return "it was trained without labels"
    names = brief(", ".join(label.value for label in labels[:_SHOWN]))
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"it has {names}{more}"


class Coder:
    """Numbers labels in the order of their first appearance.

    Attributes:
        columns: Names of the columns.
        known: Number of each (column, value).
    """

    def __init__(self, columns: Sequence[str]):
        self.columns = tuple(columns)
        self.known: dict[tuple[str, str], int] = {}

    def codes(self, values: Sequence[str], where: str) -> list[int]:
        """Codes of the labels of a text.

        Args:
            values: Its value in each column.
            where: The text's file and line, for errors.

        Raises:
            CorpusError: A value is empty, or there are too many different ones.
        """
        codes = []
        for column, value in zip(self.columns, values, strict=True):
            if not value:
                raise CorpusError(
                    f"{where} has an empty label in the column {brief(column)}; fill it."
                )
            number = self.known.setdefault((column, value), len(self.known))
            if number >= MOST:
                raise CorpusError(
                    f"{where} has the label {brief(repr(value))}, and at most {MOST:,} different "
                    f"labels are possible; is the column {brief(column)} a label that many texts "
                    "share?"
                )
            codes.append(FIRST_CODE + number)
        return codes


def make_labels(
    names: Sequence[tuple[str, str]],
    columns: Sequence[str],
    numbers: np.ndarray,
    weights: np.ndarray,
    first_id: int,
) -> tuple[tuple[Label, ...], np.ndarray]:
    """Give ids to the labels that occur in the training part.

    Args:
        names: Column and value of each label of the corpus.
        columns: The columns in order.
        numbers: Labels of each training example, int (L, K).
        weights: Weight of each example in the shares (L,).
        first_id: The first id.

    Returns:
        The labels in the order of their ids, and the id of each label of the corpus, int32; -1 for
        one that the training part lacks.
    """
    counts = np.zeros(len(names))
    for column in numbers.T:
        np.add.at(counts, column, weights)
    order = sorted(
        np.flatnonzero(counts).tolist(), key=lambda n: (columns.index(names[n][0]), names[n][1])
    )
    ids = np.full(len(names), -1, np.int32)
    ids[order] = np.arange(first_id, first_id + len(order))
    total = float(weights.sum())
    labels = tuple(
        Label(names[n][0], names[n][1], float(counts[n]) / total, first_id + i, FIRST_CODE + i)
        for i, n in enumerate(order)
    )
    return labels, ids
