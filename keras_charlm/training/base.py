"""The model that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.errors import OptionError
from keras_charlm.evaluation import ngram
from keras_charlm.generation.litert import Runner, score_characters
from keras_charlm.saved.bundle import DEVICE, ENGLISH, WEIGHTS, Bundle, open_bundle, shipped
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.split import Split

AUTO = "auto"
LONGEST = 3_000_000  # characters; a longer text teaches a network of its own as much
READ = 8000  # characters that are predicted to decide whether to start from a bundled model
_KNOWN = 0.95  # least share of them that must be in its vocabulary
_ORDER = 5  # of the n-grams that it has to beat

# Settings that give a network another shape than that of the bundled model.
_SHAPE = ("cell", "layers", "units", "embedding", "tied")


def open_base(model: str | Path) -> Bundle:
    """Open a model to start from.

    Raises:
        BundleError: It is missing or damaged, or only an on-device file.
    """
    base = open_bundle(model)
    base.file(WEIGHTS)  # an on-device file has none
    return base


def find_base(text: Corpus, split: Split, given: Mapping[str, Any]) -> Bundle | None:
    """The bundled English model, if a training on a text had better start from it.

    Args:
        text: The text.
        split: Its parts.
        given: The settings that the user gave.

    Returns:
        The model; None if the text is long, or in bytes, if the user chose another network, or if
        n-grams counted in the text's beginning predict it better.
    """
    shaped = given.get("size", AUTO) != AUTO or any(given.get(k) is not None for k in _SHAPE)
    home = shipped().get(ENGLISH)
    if home is None or shaped or text.config.unit == "byte" or split.train.length > LONGEST:
        return None
    base = open_base(home)
    return base if predicts_better(base, split) else None


def predicts_better(base: Bundle, split: Split) -> bool:
    """Whether a model predicts the second half of a text's beginning better than n-grams counted
    in the first half."""
    stream, vocabulary = split.train, split.vocabulary
    ids = stream.read(np.array([stream.lead]), min(READ, stream.length - stream.lead))[0]
    half = len(ids) // 2
    if half < 100:
        return False
    start = vocabulary.id_of(split.start)
    codes = np.append(base.card.start, np.array((-1, *vocabulary.codes))[ids])
    theirs = base.vocabulary.lookup(codes)
    known = theirs[1:] > 0
    if known.mean() < _KNOWN:
        return False
    bits, _ = score_characters(Runner(base.file(DEVICE)), codes, theirs)
    grams = ngram.fit(ids[:half], vocabulary.size, _ORDER, start)
    counted = grams.bits(ids)[half - 1 :]
    both = known[half:]
    return bool(bits[half:][both].mean() < counted[both].mean())


def shape_of(base: Bundle, unit: str, asked: ModelConfig, given: Mapping[str, Any]) -> ModelConfig:
    """The shape of the model to start from; only dropout and noise may differ.

    Args:
        base: The model.
        unit: The unit of the text.
        asked: The requested configuration.
        given: The settings that the user gave.

    Raises:
        OptionError: The unit, or a given setting, differs from the model's.
    """
    have, theirs = base.card.model, base.vocabulary.unit
    if theirs != unit:
        raise OptionError(
            f"unit is {unit}, but the model in {base.path} has {theirs}; train with --unit "
            f"{theirs}, or with --from-scratch."
        )
    for name in _SHAPE:
        value = getattr(asked, name)
        if name in given and value is not None and value != getattr(have, name):
            raise OptionError(
                f"{name} is {value}, but the model in {base.path} has "
                f"{getattr(have, name)}; leave it out, or train with --from-scratch."
            )
    return replace(have, dropout=asked.dropout, noise=asked.noise)
