"""All that `evaluate` measures: the loss over a text, and what it may be compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import EvaluateConfig
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.evaluation import kinds, ngram
from keras_charlm.evaluation.novelty import TrainingText, measure
from keras_charlm.evaluation.scores import Evaluation, Scores
from keras_charlm.generation.runner import score_characters, score_text
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.streams import LineStream, TextStream
from keras_charlm.text.vocabulary import UNKNOWN

Watch = Callable[[int, int], None]  # characters done, and of how many


LINES, PIECES, LENGTH = 1000, 100, 500  # drawn for novelty: lines, or pieces of so many characters


def evaluate(
    model: TrainedModel,
    text: str | bytes | Path | None,
    corpus: Sequence[str | Path],
    config: EvaluateConfig,
    watch: Watch | None = None,
) -> Evaluation:
    """See `CharLM.evaluate`."""
    if config.dynamic and model.on_device:
        raise OptionError(
            f"{model.path} is an on-device file, whose weights cannot learn; name "
            "the folder that kcharlm fit wrote, or leave out --dynamic."
        )
    trained = None
    if text is None or config.baseline or config.novelty:
        trained = training_text(model, corpus)
    stream, name = _stream(model, text, trained)
    start = model.start
    size = stream.length - stream.lead
    more: dict[str, Any] = {"text": name}
    by: dict[str, np.ndarray] = {}
    # Character by character only where it is asked for: a text may be longer than memory.
    if config.by:
        bits, hits = _characters(model, stream, start)
        unknown = int((ngram.read(stream, start)[1:] == UNKNOWN).sum())
        static = (size, float(bits.sum(dtype=np.float64)), int(hits.sum()), unknown)
    else:
        static = _score(model, stream, start)
    if config.dynamic:
        from keras_charlm.evaluation import dynamic

        by["dynamic"], right = dynamic.characters(
            model.build(batch_size=1), start, stream, config.dynamic_rate, watch
        )
        more["dynamic"] = Scores.of(
            size, float(by["dynamic"].sum(dtype=np.float64)), int(right.sum()), static[-1]
        )
    if config.baseline:
        counted = ngram.baseline(trained.split)
        by["baseline"] = counted.bits(ngram.read(stream, start))
        more["baseline"] = {
            "order": counted.order,
            "grams": counted.grams,
            "bits_per_character": float(by["baseline"].mean()) if size else None,
        }
    if config.by:
        ids = ngram.read(stream, start)[1:]
        more["kinds"] = kinds.table(ids, model.vocabulary, bits, **by)
    if config.novelty:
        more["novelty"] = _novelty(model, trained, stream, config)
    return Evaluation.of(*static, **more)


def training_text(model: TrainedModel, files: Sequence[str | Path] = ()) -> TrainingText:
    """The text that a model was trained on, cut as it was; see `TrainedModel.corpus`."""
    return TrainingText(*model.corpus(files))


def _stream(
    model: TrainedModel, text: str | bytes | Path | None, trained: TrainingText | None
) -> tuple[TextStream | LineStream, str]:
    """What is to be scored, and its name."""
    if text is None:
        stream = trained.split.validation
        name = f"the validation part of {trained.corpus.name}"
        if stream.length <= stream.lead:
            raise CorpusError(
                f"{model.path} was trained without a validation part; name a file to evaluate."
            )
        return stream, name
    symbols, alphabet = model.read(text)
    ids = model.vocabulary.lookup(alphabet)
    name = "a text"
    if isinstance(text, Path):
        name = "stdin" if str(text) == "-" else str(text)
    return TextStream(symbols, ids.astype(np.int32), 0, len(symbols)), name


def _score(
    model: TrainedModel, stream: TextStream | LineStream, start: int
) -> tuple[int, float, int, int]:
    """Characters, the sum of -log2 p over them, how many were the likeliest, and unknown."""
    if model.on_device:
        codes, ids = _codes(model, stream, start)
        found = score_text(model.runner, model.vocabulary, codes)
        return *found, int((ids[1:] == UNKNOWN).sum())
    from keras_charlm.evaluation.evaluator import Evaluator

    return Evaluator(model.model, start).total(stream)


def _characters(
    model: TrainedModel, stream: TextStream | LineStream, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """-log2 p of each character, and whether it was the likeliest."""
    if model.on_device:
        return score_characters(model.runner, *_codes(model, stream, start))
    from keras_charlm.evaluation.evaluator import Evaluator

    return Evaluator(model.model, start).characters(stream)


def _codes(
    model: TrainedModel, stream: TextStream | LineStream, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and ids of a stream with what is read first, (N,) each; -1 is unknown."""
    ids = ngram.read(stream, start)
    return np.array((-1, *model.vocabulary.codes))[ids], ids


def _novelty(
    model: TrainedModel,
    trained: TrainingText,
    stream: TextStream | LineStream,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Novelty of what the model draws, and of as much of the text that was scored."""
    lines = model.card.lines
    length = {} if lines else {"length": LENGTH}
    drawn = [
        model.vocabulary.encode(sample.text)
        for sample in model.samples(
            num=LINES if lines else PIECES, temp=config.temp, seed=config.seed, **length
        )
    ]
    ids = ngram.read(stream, None)
    if lines:
        newline = model.start
        real = np.split(ids, np.flatnonzero(ids == newline))
        real = [line for line in (part[part != newline] for part in real) if len(line)][:LINES]
    else:
        real = [ids[at : at + LENGTH] for at in range(0, min(len(ids), PIECES * LENGTH), LENGTH)]
    return {
        "temp": config.temp,
        "seed": config.seed,
        "drawn": _novelty_of(model, trained, drawn),
        "real": _novelty_of(model, trained, real),
    }


def _novelty_of(
    model: TrainedModel, trained: TrainingText, pieces: list[np.ndarray]
) -> dict[str, Any]:
    """What `measure` finds, with the passage as text, and of lines how many are known."""
    values: dict[str, Any] = {"pieces": len(pieces), "characters": sum(map(len, pieces))}
    if model.card.lines:
        known = trained.known([_bytes(model.vocabulary.decode(line)) for line in pieces])
        values["lines"] = float(known.mean()) if pieces else None
    values |= measure(trained, pieces)
    if values["longest"]:
        passage = _bytes(model.vocabulary.decode(values["longest"].pop("ids")))
        values["longest"]["text"] = passage.decode("utf-8", "backslashreplace")
    return values


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
