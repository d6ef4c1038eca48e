"""Everything that `evaluate` measures: the loss over a text, and baselines to compare it with."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm import backend
from keras_charlm.config import EvaluateConfig
from keras_charlm.effects import note, unused
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.evaluation import Watch, kinds, ngram
from keras_charlm.evaluation.labels import (
    TABLES,
    Labelled,
    bits_by_label,
    labelled_table,
    labelled_text,
)
from keras_charlm.evaluation.novelty import TrainingText, measure
from keras_charlm.evaluation.scores import Evaluation, Tally, finite, margin
from keras_charlm.generation.litert import score_characters, score_text
from keras_charlm.saved.reading import InputText
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.labels import Label
from keras_charlm.text.sources import Paths
from keras_charlm.text.streams import Stream
from keras_charlm.text.vocabulary import UNKNOWN

LINES, PIECES, LENGTH = 1000, 100, 500  # drawn for novelty: lines, or pieces of LENGTH characters


def evaluate(
    model: TrainedModel,
    text: str | bytes | Path | InputText | None,
    corpus: Paths,
    config: EvaluateConfig,
    watch: Watch | None = None,
) -> Evaluation:
    """Score a text; see `CharLM.evaluate` for arguments and errors."""
    note([*unused(config), *_unused_corpus(text, corpus, config)], stacklevel=4)
    _check(model, config)
    trained = functools.cache(lambda: TrainingText.of(model, corpus))
    if config.baseline or config.novelty:
        trained()  # if it is missing, raise before the long work
    if text is None:
        stream, name = _validation(model, trained(), config)
    else:
        stream, name = _given(model, text, model.labels(config.labels))
    if config.by == "label":
        _check_labelled(stream, name)
    more: dict[str, Any] = {"text": name}
    by: dict[str, np.ndarray] = {}
    # Character by character only where needed: a text may be larger than memory.
    if config.by or config.baseline:
        by["model"], tally = _characters(model, stream)
    else:
        tally = _total(model, stream)
    if config.window:
        from keras_charlm.evaluation.evaluator import Evaluator

        evaluator = Evaluator(model.model, model.start)
        more["windows"] = evaluator.windows(stream, config.window).scores()
    if config.dynamic:
        from keras_charlm.evaluation import dynamic

        by["dynamic"], hits = dynamic.characters(
            model.build(batch_size=1), model.start, stream, config.dynamic_rate, watch
        )
        more["dynamic"] = Tally.of(by["dynamic"], hits, tally.unknown).scores()
    if config.baseline:
        counted = ngram.baseline(trained().split)
        by["baseline"] = counted.bits(ngram.read(stream, model.start))
        more["baseline"] = {
            "order": counted.order,
            "grams": counted.grams,
            "bits_per_character": float(by["baseline"].mean()) if tally.characters else None,
            "margin": finite(margin(by["baseline"] - by["model"])),
        }
    if config.by:
        more |= _broken_down(model, stream, config.by, by)
    if config.novelty:
        more["novelty"] = _novelty(model, trained(), stream, config)
    return Evaluation(**vars(tally.scores()), **more)


def _unused_corpus(text: object, corpus: Paths, config: EvaluateConfig) -> list[str]:
    """A sentence if the training text is named but not needed."""
    if corpus and text is not None and not (config.baseline or config.novelty):
        return ["corpus has no effect without baseline or novelty: the training text is not read."]
    return []


def _check(model: TrainedModel, config: EvaluateConfig) -> None:
    """Refuse what an on-device file cannot measure; load TensorFlow for other models."""
    if config.dynamic and model.on_device:
        raise OptionError(
            f"{model.path} is an on-device file, whose weights cannot learn; name "
            "the folder that kcharlm fit wrote, or omit --dynamic."
        )
    if config.window and model.on_device:
        raise OptionError(
            f"{model.path} is an on-device file, which is only scored as a whole; name the folder "
            "that kcharlm fit wrote, or omit --window."
        )
    if not model.on_device:
        backend.load(start=True)


def _check_labelled(stream: Stream, name: str) -> None:
    """Raise OptionError if a text has no labels to break its loss down by."""
    if not isinstance(stream, Labelled):
        raise OptionError(
            f"{name} has no labels to break the loss down by; name a table with the columns "
            "that the model was trained on, or leave out --by label."
        )


def _broken_down(
    model: TrainedModel, stream: Stream, by: str, bits: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The loss by kind of character or by label.

    Args:
        model: The model.
        stream: The text.
        by: 'kind' or 'label'.
        bits: -log2 p of each character by the model and, where measured, by others, (N,) each.
    """
    if isinstance(stream, Labelled) and by == "label":
        return {"labels": bits_by_label(*stream.examples(), bits["model"], model.card.labels)}
    ids = ngram.read(stream, model.start)[1:]
    others = {name: values for name, values in bits.items() if name != "model"}
    return {"kinds": kinds.table(ids, model.vocabulary, bits["model"], **others)}


def _validation(
    model: TrainedModel, trained: TrainingText, config: EvaluateConfig
) -> tuple[Stream, str]:
    """The validation part of the model's corpus, and its name."""
    if config.labels:
        raise OptionError("--label is for a FILE, as the validation part has its own labels.")
    stream = trained.split.validation
    if stream.length <= stream.lead:
        raise CorpusError(
            f"{model.path} was trained without a validation part; name a file to evaluate."
        )
    return stream, f"the validation part of {trained.corpus.name}"


def _given(
    model: TrainedModel, text: str | bytes | Path | InputText, labels: Sequence[Label]
) -> tuple[Stream, str]:
    """A text or file as a stream of ids, and its name."""
    path = text.path if isinstance(text, InputText) else text
    if isinstance(path, Path) and model.card.corpus_config.table and path.suffix.lower() in TABLES:
        if labels:
            raise OptionError(f"{path} has labels itself; leave out --label.")
        return labelled_table(path, model), str(path)
    read = model.read(text)
    if labels:
        return labelled_text(read.codes(), model, labels), read.name
    return read.stream(model.vocabulary), read.name


def _total(model: TrainedModel, stream: Stream) -> Tally:
    """The sums over a stream."""
    if model.on_device and isinstance(stream, Labelled):
        return _characters(model, stream)[1]
    if model.on_device:
        codes, ids = _codes(model, stream)
        sums = score_text(model.runner, model.vocabulary, codes)
        return Tally(*sums, int((ids[1:] == UNKNOWN).sum()))
    from keras_charlm.evaluation.evaluator import Evaluator

    return Evaluator(model.model, model.start).total(stream)


def _characters(model: TrainedModel, stream: Stream) -> tuple[np.ndarray, Tally]:
    """-log2 p of each character of a stream, float32 (N,), and the sums over them."""
    ids = ngram.read(stream, model.start)
    if model.on_device:
        bits, hits = _on_device(model, stream)
    else:
        from keras_charlm.evaluation.evaluator import Evaluator

        bits, hits = Evaluator(model.model, model.start).characters(stream)
    return bits, Tally.of(bits, hits, int((ids[1:] == UNKNOWN).sum()))


def _on_device(model: TrainedModel, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """-log2 p of each character, float32 (N,), and whether the model ranked it first, bool (N,)."""
    seen, codes = stream.labelled(), model.vocabulary.input_codes
    ids = ngram.read(seen, model.start)  # the start symbol is the first
    begins, sizes = seen.segments() or (
        np.array([seen.lead]),
        np.array([seen.epoch_length() - seen.lead]),
    )
    bits, hits = np.zeros(len(ids) - 1, np.float32), np.zeros(len(ids) - 1, bool)
    for at, size in zip((begins - seen.lead).tolist(), sizes.tolist(), strict=True):
        own = ids[at : at + size + 1]
        here = slice(at, at + size)
        bits[here], hits[here] = score_characters(model.runner, codes[own], own)
    marks = seen.label_positions() - seen.lead
    return np.delete(bits, marks), np.delete(hits, marks)


def _codes(model: TrainedModel, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Codes and ids of a stream after the start symbol, int (1 + N,) each; code -1 is unknown."""
    ids = ngram.read(stream, model.start)
    return model.vocabulary.codes_by_id[ids], ids


def _novelty(
    model: TrainedModel,
    trained: TrainingText,
    stream: Stream,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Novelty of the model's samples, and of the same amount of the scored text."""
    lines = model.card.lines
    drawn = [
        model.vocabulary.encode(sample.text)
        for sample in model.samples(
            num=LINES if lines else PIECES,
            temp=config.temp,
            seed=config.seed,
            length=None if lines else LENGTH,
            repeat=True,  # as often as the model repeats itself
        )
    ]
    ids = ngram.read(stream, None)
    if lines:
        newline = model.start
        parts = np.split(ids, np.flatnonzero(ids == newline))
        real = [line for line in (part[part != newline] for part in parts) if len(line)][:LINES]
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
    """The result of `measure` with its passage as text, and for lines the share of known ones.

    Args:
        model: The model.
        trained: Its training text.
        pieces: Texts, each ids (n,).
    """
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
