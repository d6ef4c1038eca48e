"""The check of every export: it must compute the same as the trained network.

The trained network and its export run the same trial: they read a text, and draw others.
`reference` runs it on the network, `run` on anything with the signatures of `graph.OnDeviceGraph`;
an export of another kind builds its own `Answers`. `compare` compares the answers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_charlm.config import SampleConfig
from keras_charlm.errors import CharLMError, ExportError
from keras_charlm.export.graph import DRAW, ROWS
from keras_charlm.generation.litert import Runner, score_text
from keras_charlm.generation.samples import draw_samples
from keras_charlm.network import model
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import Vocabulary, normalize

CHARACTERS = 2048  # read in a trial: enough for 0.001 bits per character
PROMPT = 32  # characters of the prompt of every second text of a trial
TEMPERATURE = 0.8  # of the texts drawn
TOLERANCE = 1e-4  # largest difference accepted between logits of float32 weights
COST = 0.01  # largest increase accepted in bits per character
CLOSE = 1e-5  # the same of a graph written for another library, times the largest logit above 1
_SECONDS = 0.25  # for each measurement of speed


@dataclass(frozen=True)
class Trial:
    """The inputs that the trained network and its export both process.

    They read `codes`, and draw `ROWS` texts of `DRAW` characters at `TEMPERATURE`, row i with
    seed i. Rows 0, 2, ... have no prompt; rows 1, 3, ... continue `prompt`.

    Args:
        codes: Code points or bytes, int32 (N,), the start symbol first; -1 is the unknown symbol.
        source: Where the text comes from, for the report.
    """

    codes: np.ndarray
    source: str

    @property
    def prompt(self) -> np.ndarray:
        """Codes (n,), without the start symbol."""
        return self.codes[1 : PROMPT + 1]

    @property
    def beginnings(self) -> list[np.ndarray]:
        """The codes that are read before each row is drawn: at least one, at most `PROMPT` + 1."""
        return [self.codes[:1], self.codes[: PROMPT + 1]] * (ROWS // 2)


@dataclass(frozen=True)
class Answers:
    """The results of a trial.

    Args:
        logits: float32 (M, V): row i is the prediction after the first i + 1 characters of the
            text. An export may return fewer rows than the text has characters.
        bits_per_character: Mean of -log2 p over the text without its first symbol.
        drawn: Codes of each text. A text shorter than `DRAW` ended with the start symbol, which is
            its last code.
    """

    logits: np.ndarray
    bits_per_character: float
    drawn: Sequence[np.ndarray]


def reference(opened: TrainedModel, runner: Runner) -> tuple[Trial, Answers]:
    """Choose a held-out text, and run the trial on the trained Keras network.

    Args:
        opened: The model.
        runner: Its signatures in TensorFlow (`OnDeviceGraph.runner`), which draw the texts.

    Returns:
        The trial and its answers, for `compare`.
    """
    trial = held_out(opened, runner)
    ids = opened.vocabulary.lookup(trial.codes)  # (N,)
    zero = model.zero_states(opened.model, 1)
    logits = model.run(opened.model, tf.constant(ids[None, :-1], tf.int32), zero)[0][0]  # (N-1, V)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ids[1:], logits)  # (N-1,)
    bits = float(tf.reduce_mean(nats)) / float(np.log(2))
    return trial, Answers(logits.numpy(), bits, _draw(runner, trial.beginnings))


def held_out(opened: TrainedModel, runner: Runner) -> Trial:
    """A trial on the beginning of the validation text, or on drawn text if that is missing.

    Args:
        opened: The model.
        runner: Draws the text.

    Returns:
        The trial.
    """
    card, known = opened.card, opened.vocabulary.codes_by_id
    part = None
    # If the text was moved, changed or piped in: an export does not need it.
    with contextlib.suppress(CharLMError, OSError, ValueError):
        part = opened.corpus(only_files=True)[1].validation
    if part is not None and part.length - part.lead >= CHARACTERS // 8:
        width = min(part.length - part.lead, CHARACTERS)
        ids = part.read(np.array([part.lead]), width)[0]
        codes = np.append(card.start, known[ids]).astype(np.int32)
        return Trial(codes, f"{width:,} characters of validation text")
    codes = _drawn_text(opened, runner)
    source = f"{len(codes) - 1:,} characters that the model drew, for lack of validation text"
    return Trial(codes, source)


def _drawn_text(opened: TrainedModel, runner: Runner) -> np.ndarray:
    """Codes of text drawn by the model, int32 (N,), N at most `CHARACTERS` + 1."""
    card, vocabulary = opened.card, opened.vocabulary
    config = SampleConfig(num=64, seed=0, temp=1, length=None if card.lines else 256, repeat=True)
    pieces: list[np.ndarray] = [np.array([card.start])]
    length = 0
    for sample in draw_samples(
        runner,
        vocabulary,
        config,
        lines=card.lines,
        start=card.start,
        normalize=card.normalize,
    ):
        codes = vocabulary.to_codes(sample.text)
        pieces += [codes, np.array([card.start])] if card.lines else [codes]
        length += len(codes)
        if length >= CHARACTERS:
            break
    text = vocabulary.from_codes(np.concatenate(pieces))
    if isinstance(text, str):  # what a model draws may not be normalized, but prompts always are
        text = normalize(text, card.normalize)
    return vocabulary.to_codes(text)[: CHARACTERS + 1].astype(np.int32)


def run(runner: Runner, vocabulary: Vocabulary, trial: Trial) -> Answers:
    """Run a trial on a file in LiteRT, or on a graph in TensorFlow.

    Args:
        runner: Runs the signatures.
        vocabulary: The model's characters.
        trial: The trial.

    Returns:
        The results.
    """
    state, logits = np.zeros((1, runner.state_size), np.float32), []
    for code in trial.codes[:-1]:
        out = runner("step", text=code[None], state=state)
        state = out["state"]
        logits.append(out["logits"][0])
    characters, bits, _ = score_text(runner, vocabulary, trial.codes)
    return Answers(np.array(logits), bits / max(characters, 1), _draw(runner, trial.beginnings))


def compare(
    trial: Trial, trained: Answers, exported: Answers, what: str, exact: bool = True
) -> dict[str, Any]:
    """Check that an export computes the same as the trained network.

    Args:
        trial: The trial.
        trained: The network's answers.
        exported: The export's answers.
        what: Name of the export, for errors.
        exact: Whether its weights equal the network's, so that logits and texts must agree as well.

    Returns:
        Entries of the report.

    Raises:
        ExportError: They differ by more than `TOLERANCE` or `COST`, or the same seeds draw other
            texts.
    """
    difference = np.abs(exported.logits - trained.logits[: len(exported.logits)])
    worst = float(difference.max(initial=0.0))
    cost = exported.bits_per_character - trained.bits_per_character
    rows = len(trained.drawn)
    pairs = zip(trained.drawn, exported.drawn, strict=True)
    same = sum(np.array_equal(ours[: len(theirs)], theirs) for ours, theirs in pairs)
    if exact and not worst <= TOLERANCE:
        raise ExportError(
            f"The {what}'s logits differ by {worst:.2g} from the trained model's and at most "
            f"{TOLERANCE:g} is accepted, so it was not written."
        )
    if not cost <= COST:
        raise ExportError(
            f"The {what} needs {exported.bits_per_character:.4f} bits per character where the "
            f"trained model needs {trained.bits_per_character:.4f}, and at most {COST:g} more is "
            f"accepted, so it was not written{'' if exact else '; try another --quantize'}."
        )
    # Rounding alone changes one character in many thousands, and with it the rest of its row.
    if exact and same < rows // 2:
        raise ExportError(
            f"With the same seeds the {what} drew the same text in only {same} of {rows} rows; it "
            "differs from the trained model, so it was not written."
        )
    return {
        "compared_on": trial.source,
        "largest_logit_difference": worst,
        "bits_per_character": {
            "trained": trained.bits_per_character,
            "exported": exported.bits_per_character,
            "cost": cost,
        },
        "same_seeded_text": f"{same} of {rows} rows of {DRAW} characters",
    }


def compare_logits(trial: Trial, trained: Answers, logits: np.ndarray, what: str) -> dict[str, Any]:
    """Check that an export that only reads computes the logits of the trained network.

    Args:
        trial: The trial.
        trained: The network's answers.
        logits: The export's, float32 (N - 1, V): after each character of the text but the last.
        what: Name of the export, for errors.

    Returns:
        Entries of the report: `compared_on` and `largest_logit_difference`.

    Raises:
        ExportError: They differ by more than `CLOSE`.
    """
    worst = float(np.abs(logits - trained.logits).max(initial=0.0))
    accepted = CLOSE * max(1.0, float(np.abs(trained.logits).max(initial=0.0)))
    if not worst <= accepted:
        raise ExportError(
            f"The {what}'s logits differ by {worst:.2g} from the trained model's and at most "
            f"{accepted:.2g} is accepted, so it was not written."
        )
    return {"compared_on": trial.source, "largest_logit_difference": worst}


def characters_per_second(runner: Runner, start: int) -> dict[str, int]:
    """How fast texts are drawn after the start symbol: one at a time, and a batch of `ROWS`."""
    return {"one_stream": _speed(runner, start, 1), "batch": _speed(runner, start, ROWS)}


def _speed(runner: Runner, start: int, rows: int) -> int:
    beginnings = [np.array([start])] * rows
    _draw(runner, beginnings)  # the first call allocates
    began, characters = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < _SECONDS:
        characters += sum(int((text >= 0).sum()) for text in _draw(runner, beginnings))
    return round(characters / spent)


def _draw(runner: Runner, beginnings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Read the B beginnings, each of 1 to `READ` codes, and draw B texts int32 (N,).

    They have `DRAW` characters; with a rule of the file's own they end at the start symbol.
    """
    return call(runner, beginnings, seed=range(len(beginnings)), temperature=TEMPERATURE)


def call(
    runner: Runner,
    beginnings: Sequence[np.ndarray],
    *,
    seed: Sequence[int] | int,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[np.ndarray]:
    """Read the B beginnings, each of 1 to `READ` codes, and draw B texts.

    Args:
        runner: Runs the signatures.
        beginnings: The codes to read, one array or `ROWS`.
        seed: Of each text, or of all.
        temperature, top_k, top_p: See `sampling.draw`.

    Returns:
        The output `text`, a row int32 (N,) for each text.
    """
    rows = len(beginnings)
    text = np.zeros((rows, runner.read_width), np.int32)
    for row, codes in zip(text, beginnings, strict=True):
        row[: len(codes)] = codes
    out = runner(
        "generate" if rows == 1 else "generate_batch",
        text=text,
        text_length=np.array([len(codes) for codes in beginnings], np.int32),
        seed=np.broadcast_to(np.array(seed, np.int32), rows).copy(),
        position=np.zeros(rows, np.int32),
        length=np.array([DRAW], np.int32),
        stop=np.array([beginnings[0][0] if runner.rule_size else -1], np.int32),
        temperature=np.array([temperature], np.float32),
        top_k=np.array([top_k], np.int32),
        top_p=np.array([top_p], np.float32),
        min_p=np.zeros(1, np.float32),
        state=np.zeros((rows, runner.state_size + runner.rule_size), np.float32),
    )
    return list(out["text"])
