"""Draw texts freely, in the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.generation.sample import Sample, Task
from keras_charlm.text.vocabulary import Vocabulary

LINE_CHUNK = 8  # characters drawn between two checks for lines that have ended


def call_generate(
    runner: SignatureRunner,
    codes: np.ndarray,
    seeds: np.ndarray,
    positions: np.ndarray,
    length: int,
    state: np.ndarray,
    settings: dict[str, np.ndarray],
    idle: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Call the signature `generate`, or `generate_batch` for more than one row.

    Args:
        runner: Runs the network.
        codes: Codes to read before drawing, int (B, n).
        seeds: int32 (B,).
        positions: Characters already drawn in each row, int32 (B,).
        length: Characters to draw.
        state: float32 (B, S).
        settings: The inputs that do not change.
        idle: Rows that draw nothing, bool (B,).

    Returns:
        `text` int32 (B, N), `lengths` int32 (B,), `bits` float32 (B,), `done` (B,) and `state`
        float32 (B, S).
    """
    rows, n = codes.shape
    text = np.zeros((rows, runner.read_width), np.int32)
    text[:, :n] = codes
    text_length = np.full(rows, n, np.int32)
    if idle is not None:
        text_length[idle] = 0
    return runner(
        "generate" if rows == 1 else "generate_batch",
        text=text,
        text_length=text_length,
        seed=seeds,
        position=positions,
        length=np.array([length], np.int32),
        state=state,
        **settings,
    )


@dataclass
class _Row:
    """A sample that is being drawn, in one row of a batch."""

    index: int
    codes: list[int] = field(default_factory=list)
    bits: float = 0.0


class Batch:
    """Draws samples in parallel, one in each row of a batch.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        task: What to draw.
        lines: Whether samples are lines.
        num: Number of samples requested; a single one is drawn without a batch.
        stride: Difference between the seeds of two samples, modulo 2**31.
    """

    def __init__(
        self,
        runner: SignatureRunner,
        vocabulary: Vocabulary,
        task: Task,
        lines: bool,
        num: int,
        stride: int = 1,
    ):
        self.runner, self.vocabulary, self.task, self.num = runner, vocabulary, task, num
        self.stride = stride
        self.count = np.inf  # different texts that can be drawn
        # Lines end at different times: with short chunks, rows wait less for each other.
        short = lines and num > 1 and not runner.rule_size
        self.chunk = LINE_CHUNK if short else runner.draw_width
        self.started = 0
        rows = 1 if num == 1 else runner.rows
        self.rows: list[_Row | None] = [None] * rows
        self.last = np.full(rows, task.last, np.int32)  # code to read next (B,)
        self.seeds = np.zeros(rows, np.int32)
        self.positions = np.zeros(rows, np.int32)
        self.state = np.repeat(task.state, rows, axis=0)  # (B, S)

    def fill(self, total: int) -> bool:
        """Start samples in free rows, up to `total` in all; returns whether any is unfinished."""
        for r, row in enumerate(self.rows):
            if row is None and self.started < total:
                self.rows[r] = _Row(self.started)
                self.last[r], self.positions[r] = self.task.last, 0
                self.seeds[r] = self._seed(self.started)
                self.state[r] = self.task.state[0]
                self.started += 1
        return any(self.rows)

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw a chunk in every row; yields the index and the sample of each row that ended."""
        left = [self.task.length - len(row.codes) for row in self.rows if row]
        length = min(self.chunk, *left)
        idle = np.array([row is None for row in self.rows])
        out = call_generate(
            self.runner,
            self.last[:, None],
            self.seeds,
            self.positions,
            length,
            self.state,
            self.task.settings,
            idle,
        )
        for r, row in enumerate(self.rows):
            if row is None:
                continue
            codes = out["text"][r, : out["lengths"][r]].tolist()
            sample = self._extend(r, row, codes, float(out["bits"][r]), bool(out["done"][r]))
            if sample:
                yield row.index, sample
                self.rows[r] = None
            elif row.codes:
                self.last[r] = row.codes[-1]
        self.positions += length
        self.state = out["state"]

    def _extend(
        self, r: int, row: _Row, codes: list[int], bits: float, done: bool
    ) -> Sample | None:
        """Append a chunk to a sample; returns the sample if it has ended.

        Args:
            r: Number of the row.
            row: Its sample.
            codes: Codes of the chunk.
            bits: Sum of -log2 p over the chunk.
            done: Whether the network stopped after it.
        """
        task, before = self.task, len(row.codes)
        row.codes += codes
        drawn = len(row.codes) + done
        cut = back = -1
        if task.stop:  # it may start in an earlier chunk
            back = max(before - len(task.stop), 0)
            tail: Any = self.vocabulary.from_codes(row.codes[back:])
            cut = tail.find(task.stop)
        if cut >= 0:
            drawn = back + cut + len(task.stop)
            bits = self._bits(r, drawn - before)
            del row.codes[back + cut :]
        row.bits += bits
        if cut < 0 and not done and len(row.codes) < task.length:
            return None
        mean = row.bits / drawn if drawn else None
        text = self.vocabulary.from_codes(row.codes)
        return Sample(text, task.prompt, self._seed(row.index), mean, done or cut >= 0)

    def _seed(self, index: int) -> int:
        return (self.task.seed + self.stride * index) % 2**31

    def _bits(self, r: int, length: int) -> float:
        """Bits of the first `length` characters of a row's last chunk, found by redrawing them."""
        one = slice(r, r + 1)
        out = call_generate(
            self.runner,
            self.last[one, None],
            self.seeds[one],
            self.positions[one],
            length,
            self.state[one],
            self.task.settings,
        )
        return float(out["bits"][0])
