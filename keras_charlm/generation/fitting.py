"""Samples that fit constraints, and the best of several samples."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError, brief
from keras_charlm.generation.batch import Batch
from keras_charlm.generation.conditional import Conditional
from keras_charlm.generation.constraints import compile_rule
from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.generation.odds import count_pairs
from keras_charlm.generation.sample import Sample, Task
from keras_charlm.text.vocabulary import Vocabulary

# Free draws are the way if `OFTEN` texts fit of those with `FEW` characters, or `ENOUGH` of `MANY`.
FEW, OFTEN = 500, 4
MANY, ENOUGH = 12_000, 2
WIDTH = 512  # of the state of a network up to which `MANY` are drawn


class Sampler(Protocol):
    """Draws samples one after another or in parallel, each with an index."""

    num: int
    count: float  # at most so many different texts can be drawn

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
        self.count = sampler.count
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


class Kept:
    """Draws freely, and keeps the samples that fit, in the order of their seeds.

    Args:
        batch: Draws the samples.
        fits: Whether one fits.
    """

    def __init__(self, batch: Batch, fits: Callable[[Sample], bool]):
        self.batch, self.fits, self.num, self.count = batch, fits, batch.num, batch.count
        self.ended: dict[int, Sample] = {}  # by the index in the batch
        self.kept = self.total = self.characters = self.following = 0

    def fill(self, total: int) -> bool:
        """Start samples until `total` of them fit; returns whether more are needed."""
        self.total = total
        return self.kept < total and self.batch.fill(sys.maxsize)

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw on; yields those that fit, numbered on their own."""
        if self.following not in self.ended:
            self.ended.update(self.batch.advance())
        while self.following in self.ended and self.kept < self.total:
            sample = self.ended.pop(self.following)
            self.following += 1
            self.characters += len(sample.text) + 1
            if self.fits(sample):
                self.kept += 1
                yield self.kept - 1, sample


def _share(trial: Kept, characters: int, enough: int) -> int:
    """How many texts fit of those that have so many characters in all."""
    while trial.characters < characters and trial.kept < enough and trial.fill(sys.maxsize):
        for _ in trial.advance():
            pass
    return trial.kept


class Fitting:
    """Draws samples that fit the constraints.

    Where enough free draws fit, they are the fastest way: the network draws whole texts inside its
    graph, and what is kept has the conditional distribution. Where fewer fit, as after a rare
    beginning, `Conditional` draws one text after another by rejection, or if that takes too long
    and free draws do not fit at all, with particles.

    Args:
        runner, vocabulary, config, task, lines, normalize: As for `samples.draw_samples`.

    Attributes:
        way: "free", "rejection", "particles" or, for the likeliest characters only, "greedy".
        count: How many different texts fit; infinite if there are more than 10**12.
    """

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
        self.runner, self.vocabulary, self.config, self.lines = runner, vocabulary, config, lines
        self.num, self.started = config.num, 0
        stop = int(task.settings["stop"][0])
        self.end = vocabulary.id_of(stop) if stop >= 0 else None
        # Constraints hold for the whole line, but for a text only after the prompt.
        read = vocabulary.encode(task.prompt) if lines else np.zeros(0, np.int32)
        if self.end is not None and (ends := np.flatnonzero(read == self.end)).size:
            read = read[ends[-1] + 1 :]
        longest = len(read) + task.length
        usual = None if task.usual is None else len(read) + task.usual
        if config.max_length is not None:
            longest = min(longest, config.max_length)
        if lines:  # empty lines are never yielded
            config = replace(config, min_length=max(config.min_length, 1))
        rule = self.rule = compile_rule(vocabulary, config, longest, self.end, normalize, usual)
        self.read, self.state = len(read), rule.automaton.run(read)
        if self.read > longest or not rule.open_until[self.read, self.state]:
            raise OptionError(
                f"No text that begins with the prompt {brief(repr(task.prompt))} fits all the "
                "constraints; shorten the prompt or loosen one."
            )
        self.count = rule.count(self.read, self.state)
        # One character more shows whether a text ends by itself.
        self.task = replace(task, length=rule.longest - self.read + 1)
        self.way = self._choose()

    @functools.cached_property
    def conditional(self) -> Conditional:
        """Draws texts one after another."""
        given = self.runner, self.vocabulary, self.config, self.rule, self.task.last
        return Conditional(*given, self.task.state, self.state, self.read, self.end)

    @functools.cached_property
    def kept(self) -> Kept:
        """Draws texts freely."""
        return self._keep(self.task, self.num, self.fits)

    def _choose(self) -> str:
        """Choose the way to draw; it depends on the rule only, not on the seed."""
        if self.config.temp == 0 or self.config.top_k == 1:
            return "greedy"
        drawn: list[Sample] = []
        free = self.end is not None

        def fits(sample: Sample) -> bool:
            drawn.append(sample)
            return self.fits(sample)

        trial = self._keep(replace(self.task, seed=0), sys.maxsize, fits)
        if free and _share(trial, FEW, OFTEN) >= OFTEN:
            return "free"
        if self.conditional.rejects:
            return "rejection"
        # The time for a character grows with the square of a network's width.
        many = int(MANY * min(1.0, WIDTH / self.runner.state_size) ** 2)
        if _share(trial, many, ENOUGH) >= ENOUGH and free:
            return "free"
        texts = [self.vocabulary.encode(sample.text) for sample in drawn]
        self.conditional.steer(count_pairs(texts, self.vocabulary.size, self.end))
        return "particles"

    def _keep(self, task: Task, num: int, fits: Callable[[Sample], bool]) -> Kept:
        # With equal strides, neighbouring seeds would find the same text: the next that fits.
        random = np.random.Generator(np.random.Philox(task.seed))
        stride = 2 * int(random.integers(2**30)) + 1
        batch = Batch(self.runner, self.vocabulary, task, self.lines, max(num, 2), stride)
        return Kept(batch, fits)

    def fits(self, sample: Sample) -> bool:
        """Whether a text that was drawn freely fits."""
        ids = self.vocabulary.encode(sample.text)
        length = self.read + len(ids)
        if not sample.ended or length > self.rule.longest:
            return False
        return bool(self.rule.may_end[length, self.rule.automaton.run(ids, self.state)])

    def fill(self, total: int) -> bool:
        """Whether there are samples to draw, of `total` in all."""
        return self.kept.fill(total) if self.way == "free" else self.started < total

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw a sample, or several of them."""
        if self.way == "free":
            yield from self.kept.advance()
            return
        index, task = self.started, self.task
        self.started += 1
        seed = (task.seed + index) % 2**31
        drawn = self.conditional.draw(seed)
        table = self.vocabulary.codes
        text = self.vocabulary.from_codes([table[i - 1] for i in drawn.ids])
        mean = drawn.bits / drawn.symbols if drawn.symbols else None
        yield index, Sample(text, task.prompt, seed, mean)
