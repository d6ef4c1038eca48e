"""The progress of a training: its counters, its history and the curve of its loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_TRACED = 400  # maximum points of a training's curve; thinning leaves at least half of them


@dataclass
class Progress:
    """The progress of a training; stored in its checkpoint.

    Args:
        step: Batches done, over all epochs.
        seconds: Time spent on batches and validation, compilation excluded.
        best: Lowest validation loss, bits per character.
        best_epoch: Its epoch, from 1.
        best_done: Share of the training that was done with it.
        stale: Epochs since then.
        ending: Seconds to keep for scoring once the training has ended, of a limited time.
        samples_size: Bytes of samples.jsonl that belong to this state.
        history: Rows of history.csv.
        trace: Step, seconds, the epoch's mean loss so far in bits, and learning rate, each after
            every `trace_every` batches.
        trace_every: Batches between two rows of `trace`.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    best_done: float = 0.0
    stale: int = 0
    ending: float = 0.0
    samples_size: int = 0
    history: list[list[Any]] = field(default_factory=list)
    trace: list[list[Any]] = field(default_factory=list)
    trace_every: int = 1

    def __post_init__(self) -> None:
        """Reject values from a damaged file."""
        counts = (self.step, self.best_epoch, self.stale, self.samples_size, self.trace_every)
        figures = (self.seconds, self.best_done, self.ending, self.best or 0.0)
        if not (
            all(type(n) is int and 0 <= n < 1 << 63 for n in counts)
            and all(isinstance(n, (int, float)) for n in figures)
            and isinstance(self.history, list)
            and all(isinstance(row, list) for row in self.history)
            and isinstance(self.trace, list)
            and self.trace_every > 0
            and all(isinstance(row, list) and len(row) == 4 for row in self.trace)
            and all(isinstance(n, (int, float)) for row in self.trace for n in row)
        ):
            raise ValueError("its progress has values of the wrong kind")

    def note(self, bits: float, rate: float) -> None:
        """Record the loss after a batch; a trace that grows too long keeps every second row.

        Args:
            bits: Mean loss of the epoch so far, bits per character.
            rate: Learning rate of the batch.
        """
        if self.step % self.trace_every:
            return
        self.trace.append([self.step, round(self.seconds, 2), bits, float(f"{rate:.4g}")])
        if len(self.trace) > MOST_TRACED:
            self.trace = self.trace[1::2]
            self.trace_every *= 2

    def curve(self, steps: int) -> list[list[Any]]:
        """Rows of curve.csv: step, seconds, mean loss since the last row in bits, learning rate.

        Args:
            steps: Batches of an epoch; an epoch's first row is the mean since its beginning.
        """
        rows, before = [], (-1, 0, 0.0)
        for step, seconds, mean, rate in self.trace:
            epoch, last = divmod(step - 1, steps)
            done, total = (before[1], before[2]) if before[0] == epoch else (0, 0.0)
            before = epoch, last + 1, mean * (last + 1)
            rows.append([step, seconds, round((before[2] - total) / (before[1] - done), 5), rate])
        return rows
