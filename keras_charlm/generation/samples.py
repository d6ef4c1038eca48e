"""Text from the on-device file: one sample as it is drawn, or many at once; and scores of a text.

TensorFlow is not imported here: what is sampled is the file that is shipped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from keras_charlm.config import SampleConfig
from keras_charlm.generation.runner import Runner
from keras_charlm.settings import expect
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.text.vocabulary import normalize as unicode_normalize

LENGTH = 500  # characters of a sample when no length is given


LINE_LENGTH = 1000  # the same for lines, which end by themselves


LINE_CHUNK = 8  # characters drawn between refills of a batch of lines


PATIENCE = 0.02  # seconds; chunks of a stream do not grow beyond what takes this long


@dataclass(frozen=True)
class Sample:
    """A drawn text.

    Attributes:
        text: What was drawn, without the prompt and without what ended it.
        prompt: What it goes on from, normalized.
        seed: The seed that gives the same text again.
        bits_per_character: Mean of -log2 p over the characters drawn, what ended it included, by
            the plain probabilities of the model (temperature 1); None if nothing was drawn.
    """

    text: str | bytes
    prompt: str | bytes
    seed: int
    bits_per_character: float | None


@dataclass
class Counts:
    """What `samples` went through, kept up to date while it runs."""

    drawn: int = 0  # samples that were not empty
    novel: int = 0  # those that were not known


@dataclass(frozen=True)
class _Request:
    """What stays the same over all calls for a prompt and a configuration."""

    prompt: str | bytes
    last: int  # the prompt's last code, still to be read
    state: np.ndarray  # (1, S), has read the others
    seed: int
    length: int
    stop: str | bytes  # ends a sample; empty for none, or where the file itself sees to it
    settings: dict[str, np.ndarray]


def _request(runner, vocabulary, config, prompt, lines, start, normalize) -> _Request:
    expect("prompt", prompt, (str, bytes), "a text")
    if isinstance(prompt, str):
        prompt = unicode_normalize(prompt, normalize)
    vocabulary.encode(prompt, strict=not config.unknown_ok)
    codes = vocabulary.to_codes(prompt)
    prompt = vocabulary.from_codes(codes)  # bytes for a byte model, also where a str was given
    if lines or not len(codes):
        codes = np.concatenate([[start], codes])
    last, state = _read(runner, codes)

    stop, stop_code = vocabulary.from_codes([]), start if lines else -1
    if config.stop:
        stop = unicode_normalize(config.stop, normalize)
        stop_codes = vocabulary.to_codes(stop)
        stop = vocabulary.from_codes(stop_codes)
        if len(stop_codes) == 1 and not lines:
            stop, stop_code = stop[:0], int(stop_codes[0])
    length = config.length
    if length is None:
        length = LINE_LENGTH if lines else LENGTH
    return _Request(
        prompt,
        last,
        state,
        secrets.randbelow(2**31) if config.seed is None else config.seed,
        length,
        stop,
        {
            "stop": np.int32([stop_code]),
            "temperature": np.float32([config.temp]),
            "top_k": np.int32([min(config.top_k, vocabulary.size)]),  # any number must fit
            "top_p": np.float32([config.top_p]),
        },
    )


def _read(runner, codes: np.ndarray) -> tuple[int, np.ndarray]:
    """Read all codes (n,) but the last, and return that one and the state (1, S)."""
    state = np.zeros((1, runner.state_size), np.float32)
    zero, one = np.zeros(1, np.int32), np.ones(1, np.float32)
    settings = {"stop": zero, "temperature": one, "top_k": zero, "top_p": one}
    # Each piece begins with the character that the piece before left unread.
    for at in range(0, len(codes) - 1, runner.read_width - 1):
        piece = codes[at : at + runner.read_width]
        state = _generate(runner, piece[None], zero, zero, 0, state, settings)["state"]
    return int(codes[-1]), state


def _generate(runner, codes, seeds, positions, length, state, settings, idle=None):
    """Call `generate`, or `generate_batch` for more than one row.

    Args:
        codes: int (B, n), to be read first.
        seeds: int32 (B,).
        positions: int32 (B,).
        length: Characters to draw.
        state: float32 (B, S).
        settings: The inputs that do not change.
        idle: bool (B,), rows that do nothing.
    """
    rows, n = codes.shape
    text = np.zeros((rows, runner.read_width), np.int32)
    text[:, :n] = codes
    text_length = np.full(rows, n, np.int32)
    if idle is not None:
        text_length[idle] = 0
    return runner(
        "generate" if rows == 1 else "generate_batch",
        text=text, text_length=text_length, seed=seeds, position=positions,
        length=np.int32([length]), state=state, **settings,
    )  # fmt: skip


def stream_text(
    runner: Runner,
    vocabulary: Vocabulary,
    config: SampleConfig,
    prompt: str | bytes = "",
    *,
    lines: bool = False,
    start: int,
    normalize: str = "nfc",
) -> Iterator[str | bytes]:
    """Draw one sample and yield its pieces as they come.

    Args:
        runner: An open file, or `Network.runner()`.
        vocabulary: The model's symbols.
        config: How to draw; `num` and `novel` do not matter here.
        prompt: What to go on from; it is not part of what is yielded.
        lines: The model's documents are lines: the start symbol is read before the prompt, and ends
            the sample.
        start: Code of the start symbol, read in place of an empty prompt.
        normalize: Unicode normalization of prompt and stop text.

    Returns:
        An iterator of str, or of bytes for a byte model. The first piece is one character, later
        ones are longer. No piece holds any part of `config.stop`.

    Raises:
        PromptError: The prompt has a character outside the vocabulary.
    """
    # Not a generator itself, so that a wrong prompt is told before anything is drawn.
    plan = _request(runner, vocabulary, config, prompt, lines, start, normalize)
    return _without_stop(_pieces(runner, vocabulary, plan), plan.stop)


def _pieces(runner, vocabulary, plan: _Request) -> Iterator[str | bytes]:
    last, state = plan.last, plan.state
    seed = np.int32([plan.seed])
    at, chunk = 0, 1
    while at < plan.length:
        length = min(chunk, plan.length - at)
        began = time.perf_counter()
        out = _generate(runner, np.array([[last]]), seed, np.int32([at]), length, state,
                        plan.settings)  # fmt: skip
        if time.perf_counter() - began < PATIENCE:
            chunk = min(2 * chunk, runner.draw_width)
        codes = out["text"][0, : out["lengths"][0]]
        if len(codes):
            yield vocabulary.from_codes(codes)
            last = codes[-1]
        if out["done"][0]:
            return
        state, at = out["state"], at + length


def _without_stop(pieces: Iterator, stop: str | bytes) -> Iterator:
    """Pass pieces on up to the text `stop`, holding back whatever may be the beginning of it."""
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


@dataclass
class _Row:
    """A sample in the making."""

    index: int
    codes: list[int] = field(default_factory=list)
    bits: float = 0.0


def draw_samples(
    runner: Runner,
    vocabulary: Vocabulary,
    config: SampleConfig,
    prompt: str | bytes = "",
    *,
    lines: bool = False,
    start: int,
    normalize: str = "nfc",
    known: Callable[[str | bytes], bool] | None = None,
    limit: int | None = None,
    counts: Counts | None = None,
) -> Iterator[Sample]:
    """Draw `config.num` samples, many at a time, and yield them in the order of their seeds.

    Sample i has the seed `(config.seed + i) mod 2**31`, so each can be drawn again alone. A row of
    the batch whose sample has ended goes on with the next one at once.

    Args:
        runner, vocabulary, config, prompt, lines, start, normalize: As in `stream`. Of lines, empty
            ones are not yielded and others are drawn in their place.
        known: Whether a whole line, prompt and drawn text, is in the training text. With
            `config.novel` those are not yielded either.
        limit: Most samples to draw, wanted or not; by default 100 times `config.num`.
        counts: Is filled with the numbers of samples drawn and novel.

    Returns:
        An iterator of at most `config.num` samples; fewer where `limit` was reached.

    Raises:
        PromptError: The prompt has a character outside the vocabulary.
    """
    plan = _request(runner, vocabulary, config, prompt, lines, start, normalize)
    limit = 100 * config.num if limit is None else limit
    counts = Counts() if counts is None else counts

    def accept(sample: Sample) -> bool:
        line = sample.prompt + sample.text
        if lines and not line:
            return False
        counts.drawn += 1
        novel = known is None or not known(line)
        counts.novel += novel
        return novel or not config.novel

    return _in_order(_Batch(runner, vocabulary, plan, lines, config.num), accept, limit)


def _in_order(batch: _Batch, accept: Callable[[Sample], bool], limit: int) -> Iterator[Sample]:
    """Yield the accepted samples by rising index, with one more begun for each one refused."""
    ended: dict[int, Sample | None] = {}
    wanted, following = batch.num, 0
    while batch.fill(min(wanted, limit)):
        for index, sample in batch.advance():
            accepted = accept(sample)
            ended[index] = sample if accepted else None
            wanted += not accepted
        while following in ended:
            sample = ended.pop(following)
            following += 1
            if sample is not None:
                yield sample


class _Batch:
    """Rows that draw side by side, each a sample of its own.

    Args:
        num: Number of samples asked for; a single one has no use for the other rows of a batch.
    """

    def __init__(self, runner, vocabulary, plan: _Request, lines: bool, num: int):
        self.runner, self.vocabulary, self.plan, self.num = runner, vocabulary, plan, num
        # Lines end at different times: short chunks leave fewer rows waiting for the others.
        self.chunk = LINE_CHUNK if lines and num > 1 else runner.draw_width
        self.started = 0
        rows = 1 if num == 1 else runner.rows
        self.rows: list[_Row | None] = [None] * rows
        self.last = np.full(rows, plan.last, np.int32)
        self.seeds = np.zeros(rows, np.int32)
        self.positions = np.zeros(rows, np.int32)
        self.state = np.repeat(plan.state, rows, axis=0)  # (B, S)

    def fill(self, wanted: int) -> bool:
        """Start samples in free rows until `wanted` were; tell whether any row is at work."""
        for r, row in enumerate(self.rows):
            if row is None and self.started < wanted:
                self.rows[r] = _Row(self.started)
                self.last[r], self.positions[r] = self.plan.last, 0
                self.seeds[r] = self._seed(self.started)
                self.state[r] = self.plan.state[0]
                self.started += 1
        return any(self.rows)

    def advance(self) -> Iterator[tuple[int, Sample]]:
        """Draw a chunk in every row, and yield index and sample of those that ended."""
        plan = self.plan
        left = [plan.length - len(row.codes) for row in self.rows if row]
        length = min(self.chunk, *left)
        idle = np.array([row is None for row in self.rows])
        out = _generate(self.runner, self.last[:, None], self.seeds, self.positions, length,
                        self.state, plan.settings, idle)  # fmt: skip
        for r, row in enumerate(self.rows):
            if row is None:
                continue
            before = len(row.codes)
            row.codes += out["text"][r, : out["lengths"][r]].tolist()
            bits, drawn = float(out["bits"][r]), len(row.codes) + int(out["done"][r])
            cut = -1
            if plan.stop:  # it may have begun in an earlier chunk
                back = max(before - len(plan.stop), 0)
                cut = self.vocabulary.from_codes(row.codes[back:]).find(plan.stop)
            if cut >= 0:
                drawn = back + cut + len(plan.stop)
                bits = self._bits(r, drawn - before)
                del row.codes[back + cut :]
            row.bits += bits
            if cut >= 0 or out["done"][r] or len(row.codes) == plan.length:
                text = self.vocabulary.from_codes(row.codes)
                mean = row.bits / drawn if drawn else None
                yield row.index, Sample(text, plan.prompt, self._seed(row.index), mean)
                self.rows[r] = None
            elif row.codes:
                self.last[r] = row.codes[-1]
        self.positions += length
        self.state = out["state"]

    def _seed(self, index: int) -> int:
        return (self.plan.seed + index) % 2**31

    def _bits(self, r: int, length: int) -> float:
        """Bits of the first characters of a row's chunk: it is drawn again, up to there."""
        one = slice(r, r + 1)
        out = _generate(self.runner, self.last[one, None], self.seeds[one], self.positions[one],
                        length, self.state[one], self.plan.settings)  # fmt: skip
        return float(out["bits"][0])
