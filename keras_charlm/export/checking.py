"""What every export is measured by: the trained model on a text that it did not learn."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import SampleConfig
from keras_charlm.errors import CharLMError, ExportError
from keras_charlm.generation.runner import score_text
from keras_charlm.generation.samples import draw_samples
from keras_charlm.network import model
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.corpus import reopen
from keras_charlm.text.split import split_corpus

CHARACTERS = 2048  # read by both models: enough for 0.001 bits per character


TOLERANCE = 1e-4  # most that logits of float32 weights may differ


COST = 0.01  # most bits per character that other weights may cost


_SECONDS = 0.25  # for each measurement of speed


@dataclass(frozen=True)
class Text:
    """A text to compare on.

    Args:
        codes: Code points or bytes (N,), the start symbol first; -1 for the unknown symbol.
        source: Where it comes from, for the report.
    """

    codes: np.ndarray
    source: str


def held_out(opened: TrainedModel, runner: Any) -> Text:
    """The beginning of the model's validation text, or what the model draws where that is gone.

    Args:
        opened: A model.
        runner: What draws: `Network.runner()`.
    """
    card, known = opened.card, np.array((-1, *opened.vocabulary.codes))
    part = None
    try:
        # A model that came from elsewhere may name pipes, devices or whole disks.
        files = [f for f in card.corpus["files"] if Path(f).is_file()]
        text = reopen(tuple(files), card.corpus_config, card.corpus["sha256"])
        split = split_corpus(text, card.fit.seed)
        # The same text gives the same vocabulary; ids of any other would mean nothing here.
        part = split.validation if split.vocabulary == opened.vocabulary else None
    except (CharLMError, OSError, ValueError):
        pass  # the text was moved, changed or piped in: nothing that an export needs
    if part is not None and part.length - part.lead >= CHARACTERS // 8:
        width = min(part.length - part.lead, CHARACTERS)
        ids = part.read(np.array([part.lead]), width)[0]
        return Text(np.append(card.start, known[ids]), f"{width:,} characters of validation text")
    pieces, length = [], 0
    config = SampleConfig(num=64, seed=0, temp=1, length=None if card.lines else 256)
    for sample in draw_samples(
        runner,
        opened.vocabulary,
        config,
        lines=card.lines,
        start=card.start,
        normalize=card.normalize,
    ):
        codes = opened.vocabulary.to_codes(sample.text)
        pieces += [codes, [card.start]] if card.lines else [codes]
        length += len(codes)
        if length >= CHARACTERS:
            break
    codes = np.concatenate([[card.start], *pieces]).astype(np.int64)[: CHARACTERS + 1]
    return Text(
        codes, f"{len(codes) - 1:,} characters that the model drew: the validation text is gone"
    )


def reference(network: keras.Model, ids: np.ndarray) -> tuple[np.ndarray, float]:
    """Logits float32 (N - 1, V) of the trained model, and its bits per character, over ids (N,)."""
    zero = model.zero_states(network, 1)
    logits = model.run(network, tf.constant(ids[None, :-1], tf.int32), zero)[0][0]
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ids[1:], logits)
    return logits.numpy(), float(tf.reduce_mean(nats)) / float(np.log(2))


def measure(
    opened: TrainedModel, network: keras.Model, original: Any, runner: Any, text: Text, exact: bool
) -> dict[str, Any]:
    """Compare an export with the model that was trained, and refuse it where it is another.

    Args:
        opened: The model.
        network: Its Keras network.
        original: Its signatures in TensorFlow: `Network.runner()`.
        runner: The export, with the same signatures.
        text: What both read.
        exact: The weights are float32, so the logits must agree and not the scores alone.

    Returns:
        Entries of the report.

    Raises:
        ExportError: They differ by more than `TOLERANCE` or `COST`.
    """
    logits, trained = reference(network, opened.vocabulary.lookup(text.codes))
    state, worst = np.zeros((1, runner.state_size), np.float32), 0.0
    for code, expected in zip(text.codes.astype(np.int32), logits, strict=False):
        out = runner("step", text=code[None], state=state)
        state = out["state"]
        worst = max(worst, float(np.abs(out["logits"][0] - expected).max()))
    characters, bits, _ = score_text(runner, opened.vocabulary, text.codes)
    exported = bits / max(characters, 1)
    drawn = [_draw(run, opened.card.start, run.draw_width) for run in (runner, original)]
    same = int((drawn[0] == drawn[1]).all(axis=1).sum())
    if exact and not worst <= TOLERANCE:
        raise ExportError(
            f"The export's logits differ by {worst:.2g} from the trained model's and "
            f"at most {TOLERANCE:g} is accepted, so nothing was written."
        )
    if not exported - trained <= COST:
        raise ExportError(
            f"The export needs {exported:.4f} bits per character where the trained model needs "
            f"{trained:.4f}, and at most {COST:g} more is accepted, so nothing was written; "
            "try another --quantize."
        )
    # Rounding alone changes a character in many thousands, and with it the rest of its row.
    if exact and same < runner.rows // 2:
        raise ExportError(
            f"With the same seeds the export drew the same text in {same} of "
            f"{runner.rows} rows only, so nothing was written."
        )
    return {
        "compared_on": text.source,
        "largest_logit_difference": worst,
        "bits_per_character": {
            "trained": trained,
            "exported": exported,
            "cost": exported - trained,
        },
        "same_seeded_text": f"{same} of {runner.rows} rows of {runner.draw_width} characters",
        "characters_per_second": {
            "one_stream": _speed(runner, opened.card.start, 1),
            "batch": _speed(runner, opened.card.start, runner.rows),
        },
    }


def _draw(runner: Any, start: int, length: int, rows: int | None = None) -> np.ndarray:
    """Text int32 (B, N) after the start symbol, seeds 0 to B - 1, at temperature 0.8."""
    rows = rows or runner.rows
    text = np.zeros((rows, runner.read_width), np.int32)
    text[:, 0] = start
    return runner(
        "generate" if rows == 1 else "generate_batch",
        text=text, text_length=np.ones(rows, np.int32), seed=np.arange(rows, dtype=np.int32),
        position=np.zeros(rows, np.int32), length=np.int32([length]), stop=np.int32([-1]),
        temperature=np.float32([0.8]), top_k=np.int32([0]), top_p=np.float32([1]),
        state=np.zeros((rows, runner.state_size), np.float32))["text"]  # fmt: skip


def _speed(runner: Any, start: int, rows: int) -> int:
    _draw(runner, start, runner.draw_width, rows)  # the first call allocates
    began, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < _SECONDS:
        _draw(runner, start, runner.draw_width, rows)
        calls += 1
    return round(calls * rows * runner.draw_width / spent)
