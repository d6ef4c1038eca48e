"""All that `evaluate` measures: the loss over a text, and what it may be compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_charlm import generation, kinds, ngram, streams
from keras_charlm.config import CorpusConfig, EvaluateConfig
from keras_charlm.corpus import Corpus, prepare, reopen
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.novelty import Training, measure
from keras_charlm.scores import Evaluation, Scores
from keras_charlm.streams import LineStream, TextStream
from keras_charlm.vocabulary import UNKNOWN, normalize

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM

Watch = Callable[[int, int], None]  # characters done, and of how many
LINES, PIECES, LENGTH = 1000, 100, 500  # drawn for novelty: lines, or pieces of so many characters


def examine(model: CharLM, text: str | bytes | Path | None, corpus: Sequence[str | Path],
            config: EvaluateConfig, watch: Watch | None = None) -> Evaluation:
    """See `CharLM.evaluate`."""
    if config.dynamic and model.on_device:
        raise OptionError(f"{model.path} is an on-device file, whose weights cannot learn; name "
                          "the folder that kcharlm fit wrote, or leave out --dynamic.")
    trained = None
    if text is None or config.baseline or config.novelty:
        trained = training(model, corpus)
    stream, name = _stream(model, text, trained)
    start = int(model.vocabulary.lookup(np.array([model.card.start]))[0])
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
        from keras_charlm import dynamic

        by["dynamic"], right = dynamic.characters(model.build(batch_size=1), start, stream,
                                                  config.dynamic_rate, watch)
        more["dynamic"] = Scores.of(size, float(by["dynamic"].sum(dtype=np.float64)),
                                    int(right.sum()), static[-1])
    if config.baseline:
        counted = ngram.baseline(trained.split)
        by["baseline"] = counted.bits(ngram.read(stream, start))
        more["baseline"] = {"order": counted.order, "grams": counted.grams,
                            "bits_per_character": float(by["baseline"].mean()) if size else None}
    if config.by:
        ids = ngram.read(stream, start)[1:]
        more["kinds"] = kinds.table(ids, model.vocabulary, bits, **by)
    if config.novelty:
        more["novelty"] = _novelty(model, trained, stream, config)
    return Evaluation.of(*static, **more)


def training(model: CharLM, files: Sequence[str | Path]) -> Training:
    """The text that a model was trained on, cut as it was."""
    card = model.card
    wanted, config = card.corpus["sha256"], card.corpus_config
    if files:
        text = prepare(files, config)
        if text.sha256 != wanted:
            raise CorpusError(
                f"{', '.join(map(str, files))} is not the text that {model.path} was trained on "
                "(its hash differs); name with --corpus the files that fit read, in their order.")
    else:
        try:
            text = reopen(tuple(card.corpus["files"]), config, wanted, _NoMore())
        except CorpusError:
            raise CorpusError(
                f"The text that {model.path} was trained on ({card.corpus['name']}) is no longer "
                "in the cache, nor where it was; name its files with --corpus.") from None
    split = streams.split(text, card.fit.seed)
    if split.vocabulary != model.vocabulary:
        raise CorpusError(f"{card.corpus['name']} gives other characters than {model.path} has; "
                          "the model is damaged, so copy or train it again.")
    return Training(text, split)


class _NoMore:
    """A standard input that has nothing: a text that was piped in is in the cache or gone."""

    def read(self, _: int) -> bytes:
        return b""


def _stream(model: CharLM, text: str | bytes | Path | None, trained: Training | None
            ) -> tuple[TextStream | LineStream, str]:
    """What is to be scored, and its name."""
    if text is None:
        stream = trained.split.validation
        name = f"the validation part of {trained.corpus.name}"
        if stream.length <= stream.lead:
            raise CorpusError(f"{model.path} was trained without a validation part; name a file to "
                              "evaluate.")
        return stream, name
    if isinstance(text, Path):
        if text.is_dir():
            raise CorpusError(f"{text} is a folder; name one file to evaluate.")
        values = {**model.card.corpus_config.to_dict(), "lines": False}
        prepared: Corpus = prepare([text], CorpusConfig.from_dict(values))
        symbols, ids = prepared.symbols, model.vocabulary.lookup(prepared.alphabet)
        name = "stdin" if str(text) == "-" else str(text)
    else:
        if isinstance(text, str):
            text = normalize(text, model.card.normalize)
        symbols, ids = model.vocabulary.encode(text), np.arange(model.vocabulary.size)
        name = "a text"
    return TextStream(symbols, ids.astype(np.int32), 0, len(symbols)), name


def _score(model: CharLM, stream: TextStream | LineStream, start: int
           ) -> tuple[int, float, int, int]:
    """Characters, the sum of -log2 p over them, how many were the likeliest, and unknown."""
    if model.on_device:
        codes, ids = _codes(model, stream, start)
        found = generation.score(model.runner, model.vocabulary, codes)
        return *found, int((ids[1:] == UNKNOWN).sum())
    from keras_charlm.evaluation import Evaluator

    return Evaluator(model.model, start).total(stream)


def _characters(model: CharLM, stream: TextStream | LineStream, start: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """-log2 p of each character, and whether it was the likeliest."""
    if model.on_device:
        return generation.characters(model.runner, *_codes(model, stream, start))
    from keras_charlm.evaluation import Evaluator

    return Evaluator(model.model, start).characters(stream)


def _codes(model: CharLM, stream: TextStream | LineStream, start: int
           ) -> tuple[np.ndarray, np.ndarray]:
    """Codes and ids of a stream with what is read first, (N,) each; -1 is unknown."""
    ids = ngram.read(stream, start)
    return np.array((-1, *model.vocabulary.codes))[ids], ids


def _novelty(model: CharLM, trained: Training, stream: TextStream | LineStream,
             config: EvaluateConfig) -> dict[str, Any]:
    """Novelty of what the model draws, and of as much of the text that was scored."""
    lines = model.card.lines
    length = {} if lines else {"length": LENGTH}
    drawn = [model.vocabulary.encode(sample.text) for sample in model.samples(
        num=LINES if lines else PIECES, temp=config.temp, seed=config.seed, **length)]
    ids = ngram.read(stream, None)
    if lines:
        newline = int(model.vocabulary.lookup(np.array([model.card.start]))[0])
        real = np.split(ids, np.flatnonzero(ids == newline))
        real = [line for line in (part[part != newline] for part in real) if len(line)][:LINES]
    else:
        real = [ids[at : at + LENGTH] for at in range(0, min(len(ids), PIECES * LENGTH), LENGTH)]
    return {"temp": config.temp, "seed": config.seed,
            "drawn": _novelty_of(model, trained, drawn),
            "real": _novelty_of(model, trained, real)}


def _novelty_of(model: CharLM, trained: Training, pieces: list[np.ndarray]) -> dict[str, Any]:
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
