"""The record of a training: history.csv, curve.csv and samples.jsonl, written and read."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.errors import BundleError
from keras_charlm.files import regular, write_file
from keras_charlm.saved.bundle import CURVE, HISTORY, SAMPLES, SAMPLES_TEXT

COLUMNS = {
    HISTORY: (
        "epoch",
        "step",
        "seconds",
        "train_bits_per_character",
        "val_bits_per_character",
        "learning_rate",
        "characters_per_second",
    ),  # one row per epoch
    CURVE: ("step", "seconds", "train_bits_per_character", "learning_rate"),  # within epochs too
}

_MOST = 1e15  # above any step, time, speed or loss of a training


@dataclass(frozen=True)
class History:
    """The rows of history.csv or curve.csv: values by column, None if missing."""

    rows: list[dict[str, float | None]]

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a column, float64 (N,) each, without missing values."""
        pairs = [(row["step"], row[name]) for row in self.rows if row[name] is not None]
        steps, values = np.array(pairs, float).reshape(-1, 2).T
        return steps, values

    def by_epoch(self) -> dict[str, list[float]]:
        """Values of each epoch under the names that Keras gives them, losses in nats; NaN where
        one is missing, and no `val_loss` where all are."""
        names = {
            "loss": ("train_bits_per_character", math.log(2)),
            "val_loss": ("val_bits_per_character", math.log(2)),
            "learning_rate": ("learning_rate", 1.0),
        }
        values = {
            name: [math.nan if (v := row[column]) is None else v * unit for row in self.rows]
            for name, (column, unit) in names.items()
        }
        return {name: column for name, column in values.items() if not all(map(math.isnan, column))}

    @property
    def seconds(self) -> float:
        """Duration of the training in seconds."""
        return self.rows[-1]["seconds"] or 0.0

    @property
    def speed(self) -> float:
        """Median of the epochs, in characters per second; 0 if no epoch was long enough."""
        return float(np.median(self.column("characters_per_second")[1]))


def write_history(folder: Path, name: str, rows: Sequence[Sequence[Any]]) -> None:
    """Write history.csv or curve.csv.

    Args:
        folder: Folder of the file.
        name: One of the keys of `COLUMNS`.
        rows: Values in the order of its columns.
    """
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([COLUMNS[name], *rows])
    write_file(folder / name, table.getvalue())


def read_history(folder: Path, name: str = HISTORY) -> History | None:
    """Read history.csv or curve.csv; None if the folder has none.

    Raises:
        BundleError: The file cannot be read, or has invalid values.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        with regular(path).open(encoding="utf-8", newline="") as file:
            rows = [
                {column: _number(column, row.get(column)) for column in COLUMNS[name]}
                for row in csv.DictReader(file)
            ]
        return History(rows) if rows else None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise _damaged(path, error) from error


def _number(column: str, text: str | None) -> float | None:
    value = int(text or "") if column in ("epoch", "step") else float(text or "nan")
    if 0 <= value < _MOST:
        return value
    # There is no validation part, or the network overflowed.
    if column == "val_bits_per_character" and not math.isfinite(value):
        return None
    raise ValueError(f"its {column} is {text!r}")


@dataclass(frozen=True)
class TrainingSample:
    """A sample drawn during the training, and the loss at that moment.

    Args:
        step: Batches done.
        epoch: The epoch that had just ended; None within an epoch.
        train: Mean training loss of the epoch so far, bits per character.
        validation: Validation loss, bits per character; None if there is none.
        text: The text; a byte model's is decoded as UTF-8.
    """

    step: int
    epoch: int | None
    train: float
    validation: float | None
    text: str

    def __post_init__(self) -> None:
        """Reject values from a damaged file."""
        counts = [self.step, *([] if self.epoch is None else [self.epoch])]
        losses = [self.train, *([] if self.validation is None else [self.validation])]
        if not (
            all(type(n) is int and 0 <= n < _MOST for n in counts)
            and all(type(n) is float and 0 <= n < _MOST for n in losses)
            and isinstance(self.text, str)
        ):
            raise ValueError("a sample has values of the wrong kind")

    def to_line(self) -> bytes:
        """The sample as a line of samples.jsonl."""
        text = json.dumps(asdict(self), ensure_ascii=False) + "\n"
        return text.encode("utf-8", "surrogatepass")

    def render(self, unit: str) -> str:
        """The sample as samples.txt shows it.

        Args:
            unit: Unit of the losses, 'character' or 'byte'.
        """
        if self.epoch is None:
            title = f"step {self.step}, training loss {self.train:.4f}"
        else:
            title = f"epoch {self.epoch}, step {self.step}, train {self.train:.4f}"
        if self.validation is not None:
            title += f"  val {self.validation:.4f}"
        return f"==== {title} bits per {unit} ====\n{self.text}\n\n"


def write_samples(folder: Path, content: bytes, unit: str) -> None:
    """Write samples.jsonl, and samples.txt in readable form.

    Args:
        folder: Folder of the files.
        content: Lines of `TrainingSample.to_line`.
        unit: As for `TrainingSample.render`.
    """
    write_file(folder / SAMPLES, content)
    samples = _parse(content)
    write_file(folder / SAMPLES_TEXT, "".join(sample.render(unit) for sample in samples))


def read_samples(folder: Path) -> list[TrainingSample]:
    """Read samples.jsonl; an empty list if the folder has no such file.

    Raises:
        BundleError: The file has invalid values.
    """
    path = folder / SAMPLES
    try:
        content = regular(path).read_bytes()
    except (OSError, BundleError):
        return []
    try:
        return list(_parse(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _parse(content: bytes) -> Iterable[TrainingSample]:
    for line in content.split(b"\n"):
        if line:
            yield TrainingSample(**json.loads(line.decode("utf-8", "surrogatepass")))


def _damaged(path: Path, error: Exception) -> BundleError:
    return BundleError(
        f"{path} cannot be read ({error}); copy the model again, or remove this "
        "file for a report without it."
    )
