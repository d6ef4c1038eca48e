"""Sampling from the on-device file: one sample as a stream, or many as a batch.

TensorFlow is not imported here: samples come from the same file that ships to devices.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.config_base import expect
from keras_charlm.errors import OptionError
from keras_charlm.generation.batch import Batch, call_generate
from keras_charlm.generation.constraints import is_constrained
from keras_charlm.generation.fitting import Best, Fitting, Sampler
from keras_charlm.generation.litert import SignatureRunner
from keras_charlm.generation.sample import Counts, Sample, Task
from keras_charlm.text.likeness import line_key
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.text.vocabulary import normalize as unicode_normalize

LENGTH = 500  # characters of a sample when no length is given
LINE_LENGTH = 1000  # the same for lines, most of which end earlier
DOCUMENT_LENGTH = 5000  # at most the same for documents of which the usual ones are longer
MOST_REJECTED = 10_000  # samples in a row; after them the list is taken to be complete
PATIENCE = 0.02  # seconds; pieces of a stream grow until drawing one takes this long


def _task(
    runner: SignatureRunner,
    vocabulary: Vocabulary,
    config: SampleConfig,
    prompt: str | bytes,
    lines: bool,
    start: int,
    normalize: str,
    labels: Sequence[int],
    usual: int | None,
) -> Task:
    """Read the labels and the prompt; the arguments are those of `stream_text`."""
    expect("prompt", prompt, (str, bytes), "a text")
    if runner.rule_size and (config.stop or is_constrained(config)):
        raise OptionError(
            "This file has constraints of its own, to which none and no stop can be added; use the "
            "file or folder that it was exported from."
        )
    if isinstance(prompt, str):
        prompt = unicode_normalize(prompt, normalize)
    vocabulary.encode(prompt, strict=not config.unknown_ok)
    codes = vocabulary.to_codes(prompt)
    prompt = vocabulary.from_codes(codes)  # bytes for a byte model, even if a str was given
    # Before the first character of a text, too: training begins paragraphs so.
    last, state = _read(runner, np.concatenate([[start], labels, codes]).astype(np.int64))

    stop, stop_code = vocabulary.from_codes([]), start if lines else -1
    if config.stop:
        stop = unicode_normalize(config.stop, normalize)
        stop_codes = vocabulary.to_codes(stop)
        stop = vocabulary.from_codes(stop_codes)
        if len(stop_codes) == 1 and not lines:
            stop, stop_code = stop[:0], int(stop_codes[0])
    default_length = max(LINE_LENGTH, min(usual or 0, DOCUMENT_LENGTH)) if lines else LENGTH
    return Task(
        prompt,
        last,
        state,
        secrets.randbelow(2**31) if config.seed is None else config.seed,
        default_length if config.length is None else config.length,
        stop,
        {
            "stop": np.array([stop_code], np.int32),
            "temperature": np.array([config.temp], np.float32),
            "top_k": np.array([min(config.top_k, vocabulary.size)], np.int32),  # it may be huge
            "top_p": np.array([config.top_p], np.float32),
            "min_p": np.array([config.min_p], np.float32),
        },
        usual if lines and config.length is None and config.max_length is None else None,
    )


def _read(runner: SignatureRunner, codes: np.ndarray) -> tuple[int, np.ndarray]:
    """Read all codes (n,) but the last; returns the last and the state, float32 (1, S)."""
    state = np.zeros((1, runner.state_size + runner.rule_size), np.float32)
    zero, one = np.zeros(1, np.int32), np.ones(1, np.float32)
    none = np.zeros(1, np.float32)
    settings = {"stop": zero, "temperature": one, "top_k": zero, "top_p": one, "min_p": none}
    # `generate` leaves the last character of each piece unread: the next piece begins with it.
    for at in range(0, len(codes) - 1, runner.read_width - 1):
        piece = codes[at : at + runner.read_width]
        state = call_generate(runner, piece[None], zero, zero, 0, state, settings)["state"]
    return int(codes[-1]), state


def stream_text(
    runner: SignatureRunner,
    vocabulary: Vocabulary,
    config: SampleConfig,
    prompt: str | bytes = "",
    *,
    lines: bool = False,
    start: int,
    normalize: str = "nfc",
    labels: Sequence[int] = (),
    usual: int | None = None,
) -> Iterator[str | bytes]:
    """Draw one sample and yield it piece by piece.

    Args:
        runner: Runs the network.
        vocabulary: The model's characters.
        config: How to draw; `num` and `novel` are ignored.
        prompt: Text to continue; it is not yielded.
        lines: Whether the model's documents are lines: the start character ends the sample.
        start: Code of the start character, read before the prompt.
        normalize: Unicode normalization of prompt and stop text.
        labels: Codes of labels, read between the start character and the prompt.
        usual: Longest line that is usual. Under constraints without a length, lines are no longer,
            unless only longer ones fit: a network that is steered away from the end of a line
            could go on forever.

    Returns:
        An iterator of str, or of bytes for a byte model. The first piece is one character, later
        ones are longer. No piece contains any part of `config.stop`.

    Raises:
        PromptError: The prompt has a character outside the vocabulary.
    """
    # Not a generator itself, so that an invalid prompt is reported immediately.
    if is_constrained(config) or config.best_of > 1:
        # What fits is known only when the whole text is drawn.
        config = replace(config, num=1, novel=False, novel_label=False)
        reading: dict[str, Any] = {"lines": lines, "start": start, "normalize": normalize}
        reading |= {"labels": labels, "usual": usual}
        drawn = draw_samples(runner, vocabulary, config, prompt, **reading)
        return (sample.text for sample in drawn)
    task = _task(runner, vocabulary, config, prompt, lines, start, normalize, labels, usual)
    return _without_stop(_pieces(runner, vocabulary, task), task.stop)


def _pieces(runner: SignatureRunner, vocabulary: Vocabulary, task: Task) -> Iterator[str | bytes]:
    """Draw one sample in pieces of 1, 2, 4, ... characters."""
    last, state = task.last, task.state
    seed = np.array([task.seed], np.int32)
    # A rule of the file's own holds exactly for a line that is drawn in one call.
    drawn, chunk = 0, runner.draw_width if runner.rule_size else 1
    while drawn < task.length:
        length = min(chunk, task.length - drawn)
        position = np.array([drawn], np.int32)
        began = time.perf_counter()
        out = call_generate(
            runner, np.array([[last]]), seed, position, length, state, task.settings
        )
        if time.perf_counter() - began < PATIENCE:
            chunk = min(2 * chunk, runner.draw_width)
        codes = out["text"][0, : out["lengths"][0]]
        if len(codes):
            yield vocabulary.from_codes(codes)
            last = codes[-1]
        if out["done"][0]:
            return
        state, drawn = out["state"], drawn + length


def _without_stop(pieces: Iterator[Any], stop: Any) -> Iterator[Any]:
    """Yield pieces up to the text `stop`, holding back a possible beginning of it.

    Args:
        pieces: Of str or bytes.
        stop: Of the same type; empty for none.
    """
    held = stop[:0]
    for piece in pieces:
        held += piece
        if stop and (end := held.find(stop)) >= 0:
            if end:
                yield held[:end]
            return
        longest = min(len(held), len(stop) - 1)
        keep = next((k for k in range(longest, 0, -1) if held.endswith(stop[:k])), 0)
        free, held = held[: len(held) - keep], held[len(held) - keep :]
        if free:
            yield free
    if held:
        yield held


def draw_samples(
    runner: SignatureRunner,
    vocabulary: Vocabulary,
    config: SampleConfig,
    prompt: str | bytes = "",
    *,
    lines: bool = False,
    start: int,
    normalize: str = "nfc",
    labels: Sequence[int] = (),
    usual: int | None = None,
    known: Callable[[str | bytes], bool] | None = None,
    limit: int | None = None,
    counts: Counts | None = None,
) -> Iterator[Sample]:
    """Draw `config.num` samples as a batch, and yield them in the order of their seeds.

    Sample i has the seed `(config.seed + i) mod 2**31`, so each can be reproduced alone. When a
    sample ends, its row of the batch starts the next one immediately.

    Args:
        runner, vocabulary, config, prompt, lines, start, normalize, labels, usual: As for
            `stream_text`. Empty lines are replaced by further samples, and without
            `config.repeat` repeated ones too.
        known: Whether a whole line, prompt included, is in the training text. With `config.novel`
            or `config.novel_label` such lines are replaced too, and so are lines that were cut.
        limit: Maximum number of samples to draw, yielded or not; by default 100 times `config.num`.
        counts: Updated with the numbers of samples drawn, novel, and so on.

    Returns:
        An iterator of at most `config.num` samples; fewer if no others fit, if `limit` was reached,
        or if the last `MOST_REJECTED` were all rejected.

    Raises:
        PromptError: The prompt has a character outside the vocabulary.
    """
    task = _task(runner, vocabulary, config, prompt, lines, start, normalize, labels, usual)
    if limit is None:
        # At temperature 0 every line is the same.
        limit = 1 if lines and not config.temp and not config.repeat else 100 * config.num
    counts = Counts() if counts is None else counts
    num = config.num * config.best_of
    sampler: Sampler
    if is_constrained(config):
        sampler = Fitting(runner, vocabulary, config, task, lines, normalize)
    else:
        sampler = Batch(runner, vocabulary, task, lines, num)
    if config.best_of > 1:
        sampler = Best(sampler, config.num, config.best_of)
    accept = _Acceptance(config, lines, known, counts, sampler.count)
    return _in_order(sampler, accept, limit)


@dataclass
class _Acceptance:
    """Decides whether a sample is yielded, and counts why not.

    Args:
        config, lines, known, counts: As for `draw_samples`.
        possible: At most so many different texts can be drawn.
    """

    config: SampleConfig
    lines: bool
    known: Callable[[str | bytes], bool] | None
    counts: Counts
    possible: float
    yielded: set[bytes] = field(default_factory=set)  # the keys of the lines so far
    refused: set[bytes] = field(default_factory=set)  # those of known lines, if few are possible

    def __call__(self, sample: Sample) -> bool:
        line, config, counts = sample.whole, self.config, self.counts
        if self.lines and not line.strip():
            return False
        counts.drawn += 1
        counts.cut += self.lines and not sample.ended
        novel = self.known is None or (sample.ended and not self.known(line))
        counts.novel += novel
        if (config.novel or config.novel_label) and not novel:
            if sample.ended and self.possible < np.inf:
                self.refused.add(line_key(line, config.ignore_case))
                self._note_whether_complete()
            return False
        if self.lines and not config.repeat:
            key = line_key(line, config.ignore_case)
            if key in self.yielded:
                counts.repeated += 1
                return False
            self.yielded.add(key)
            self._note_whether_complete()
        counts.yielded += 1
        return True

    def _note_whether_complete(self) -> None:
        self.counts.complete = len(self.yielded) + len(self.refused) >= self.possible


def _in_order(batch: Sampler, accept: _Acceptance, limit: int) -> Iterator[Sample]:
    """Yield the accepted samples in order of index; each rejected one is replaced by another.

    Args:
        batch: Draws the samples.
        accept: Whether to yield a sample.
        limit: Maximum number of samples to draw.
    """
    ended: dict[int, Sample] = {}  # by index
    needed, following = batch.num, 0
    rejected = 0  # since the last that was accepted
    while (
        rejected < MOST_REJECTED and not accept.counts.complete and batch.fill(min(needed, limit))
    ):
        ended.update(batch.advance())
        # In order, so that which of several like lines is accepted depends on the seeds alone.
        while following in ended:
            sample = ended.pop(following)
            following += 1
            if accept(sample):
                rejected = 0
                yield sample
            else:
                rejected += 1
                needed += 1
