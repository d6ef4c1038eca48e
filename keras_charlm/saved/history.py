"""The record of a training: history.csv, curve.csv and samples.txt, read."""

from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_charlm.errors import BundleError
from keras_charlm.files import regular
from keras_charlm.saved import bundle

_MOST = 1e15  # above any step, time, speed or loss that a training can come to


# The titles that training writes into samples.txt.
_TITLE = re.compile(
    r"^==== (?:epoch (?P<epoch>\d{1,15}), )?step (?P<step>\d{1,15}), "
    r"(?:training loss|train) (?P<train>\d{1,9}\.\d+)(?:  val (?P<validation>\d{1,9}\.\d+))? "
    r"bits per character ====\n",
    re.M,
)


@dataclass(frozen=True)
class History:
    """The rows of history.csv or curve.csv."""

    rows: list[dict[str, float | None]]

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of the rows that have one."""
        pairs = [(row["step"], row[name]) for row in self.rows if row[name] is not None]
        steps, values = np.array(pairs, float).reshape(-1, 2).T
        return steps, values

    @property
    def seconds(self) -> float:
        return self.rows[-1]["seconds"] or 0.0

    @property
    def speed(self) -> float:
        """Median of the epochs, in characters a second; 0 where no epoch took long enough."""
        return float(np.median(self.column("characters_per_second")[1]))


def read_history(folder: Path, name: str = bundle.HISTORY) -> History | None:
    """The history of a training, or None where the folder has none."""
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        with regular(path).open(encoding="utf-8", newline="") as file:
            rows = [
                {column: _value(column, row.get(column)) for column in bundle.COLUMNS[name]}
                for row in csv.DictReader(file)
            ]
        return History(rows) if rows else None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise BundleError(
            f"{path} cannot be read ({error}); copy the model again, or remove this "
            "file for a report without it."
        ) from error


def _value(column: str, text: str | None) -> float | None:
    value = int(text or "") if column in ("epoch", "step") else float(text or "nan")
    if 0 <= value < _MOST:
        return value
    # There is no such part, or the network overflowed.
    if column == "val_bits_per_character" and not math.isfinite(value):
        return None
    raise ValueError(f"its {column} is {text!r}")


@dataclass(frozen=True)
class TrainingSample:
    """A sample from the training, and how good the model was."""

    step: int
    epoch: int | None
    train: float
    validation: float | None
    text: str


def read_samples(folder: Path) -> list[TrainingSample]:
    """What samples.txt holds. A sample may look like a title itself: steps rise, or it is none."""
    try:
        path = regular(folder / bundle.SAMPLES)
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, BundleError):
        return []
    titles: list[re.Match] = []
    for match in _TITLE.finditer(text):
        before = titles[-1]["step"] if titles else 0
        if int(match["step"]) >= int(before):
            titles.append(match)
    ends = [*(match.start() for match in titles), len(text)][1:]
    return [
        TrainingSample(
            int(m["step"]),
            int(m["epoch"]) if m["epoch"] else None,
            float(m["train"]),
            float(m["validation"]) if m["validation"] else None,
            text[m.end() : end].removesuffix("\n\n"),
        )
        for m, end in zip(titles, ends, strict=True)
    ]
