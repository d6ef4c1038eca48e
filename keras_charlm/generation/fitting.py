"""Samples that fit constraints, and the best of several samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError, brief
from keras_charlm.generation.conditional import Conditional
from keras_charlm.generation.constraints import compile_rule
from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.generation.sample import Sample, Task
from keras_charlm.text.vocabulary import Vocabulary


class Sampler(Protocol):
    """Draws samples one after another or in parallel, each with an index."""

    num: int

    def fill(self, total: int) -> bool:  # pyright: ignore[reportReturnType]
        """Start samples, up to `total` in all; returns whether any is unfinished."""

    def advance(
        self,
    ) -> Iterator[tuple[int, Sample]]:  # pyright: ignore[reportReturnType]
        """Draw on; yields the index and the sample of each that ended."""


class Best:
    """Draws several samples for each, and yields the one with the fewest bits per character."""

    def __init__(self, sampler: Sampler, num: int, best_of: int):
        self.sampler, self.num, self.best_of = sampler, num, best_of
        self.groups: dict[int, list[Sample]] = {}

    def fill(self, total: int) -> bool:
        """Start samples, up to `total` groups in all; returns whether any is unfinished."""
        return self.sampler.fill(total * self.best_of)

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw on; yields the index and the best sample of each group that is complete."""
        for index, sample in self.sampler.advance():
            group = self.groups.setdefault(index // self.best_of, [])
            group.append(sample)
            if len(group) == self.best_of:
                del self.groups[index // self.best_of]
                yield index // self.best_of, min(group, key=_costs)


def _costs(sample: Sample) -> tuple[bool, float, int]:
    """The order of `best_of`: empty texts last, then by bits per character."""
    return not sample.whole, sample.bits_per_character or 0.0, sample.seed


class Fitting:
    """Draws samples that fit the constraints, one after another."""

    def __init__(
        self,
        runner: SignatureRunner,
        vocabulary: Vocabulary,
        config: SampleConfig,
        task: Task,
        lines: bool,
        normalize: str,
    ):
        if task.stop:
            raise OptionError(
                f"stop is {brief(repr(config.stop))}, but with constraints only one character can "
                "end a text; give one, or none."
            )
        self.vocabulary, self.task, self.num, self.started = vocabulary, task, config.num, 0
        stop = int(task.settings["stop"][0])
        end = vocabulary.id_of(stop) if stop >= 0 else None
        # Constraints hold for the whole line, but for a text only after the prompt.
        read = vocabulary.encode(task.prompt) if lines else np.zeros(0, np.int32)
        if end is not None and (ends := np.flatnonzero(read == end)).size:
            read = read[ends[-1] + 1 :]
        longest = len(read) + task.length
        usual = None if task.usual is None else len(read) + task.usual
        if config.max_length is not None:
            longest = min(longest, config.max_length)
        if lines:  # empty lines are never yielded
            config = replace(config, min_length=max(config.min_length, 1))
        rule = compile_rule(vocabulary, config, longest, end, normalize, usual)
        state = rule.automaton.run(read)
        if len(read) > longest or not rule.open_until[len(read), state]:
            raise OptionError(
                f"No text that begins with the prompt {brief(repr(task.prompt))} fits all the "
                "constraints; shorten the prompt or loosen one."
            )
        self.conditional = Conditional(
            runner, vocabulary, config, rule, task.last, task.state, state, len(read), end
        )

    def fill(self, total: int) -> bool:
        """Whether there are samples to draw, of `total` in all."""
        return self.started < total

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw a sample."""
        index, task = self.started, self.task
        self.started += 1
        seed = (task.seed + index) % 2**31
        drawn = self.conditional.draw(seed)
        table = self.vocabulary.codes
        text = self.vocabulary.from_codes([table[i - 1] for i in drawn.ids])
        mean = drawn.bits / drawn.symbols if drawn.symbols else None
        yield index, Sample(text, task.prompt, seed, mean)
