"""The model that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.defaults import FAR, NEAR, Tuning
from keras_charlm.errors import OptionError
from keras_charlm.evaluation import ngram
from keras_charlm.generation.litert import Runner, score_characters
from keras_charlm.saved.bundle import DEVICE, ENGLISH, WEIGHTS, Bundle, open_bundle, shipped
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.split import Split

AUTO = "auto"
# Characters of the training part. What a model knows is soon lost on a text of another kind, and a
# long text teaches a network of its own as much.
SHORTEST, LONGEST_FAR, LONGEST = 200, 300_000, 3_000_000
KNOWN = 0.95  # least share of the characters that the model must know
_READ = 8000  # characters at the text's beginning that are looked at
_ORDER = 5  # of the n-grams that predict them

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


def find_base(
    text: Corpus, split: Split, given: Mapping[str, Any]
) -> tuple[Bundle, Tuning] | tuple[None, None]:
    """The bundled English model, if a training on a text had better start from it.

    English prose, verse or talk is then predicted far better; of other languages and of code that
    use the same characters, only short texts are.

    Args:
        text: The text.
        split: Its parts.
        given: The settings that the user gave.

    Returns:
        The model, and the defaults for starting from it; None if the text is long, a list, or
        bytes, if the user chose another network, or if too many characters are unknown to the
        model.
    """
    shaped = given.get("size", AUTO) != AUTO or any(given.get(k) is not None for k in _SHAPE)
    home = shipped().get(ENGLISH)
    if home is None or shaped or text.config.unit == "byte" or text.config.records:
        return None, None
    length = split.train.length
    if not SHORTEST <= length <= LONGEST:
        return None, None
    base = open_base(home)
    if _known(base, split).mean() < KNOWN:
        return None, None
    tuning = find_tuning(base, split)
    return (base, tuning) if length <= LONGEST_FAR or tuning is NEAR else (None, None)


def find_tuning(base: Bundle, split: Split) -> Tuning:
    """The defaults for starting from a model on a text.

    Args:
        base: The model.
        split: The text's parts.

    Returns:
        NEAR if the model predicts the second half of the text's beginning better than n-grams
        counted in the first half; otherwise FAR.
    """
    ids, start = _beginning(split), split.vocabulary.id_of(split.start)
    codes = np.append(base.card.start, _codes(ids, split))
    theirs, known = base.vocabulary.lookup(codes), _known(base, split)
    half = len(ids) // 2
    both = known[half:]
    if not both.any():
        return FAR
    bits, _ = score_characters(Runner(base.file(DEVICE)), codes, theirs)
    grams = ngram.fit(ids[:half], split.vocabulary.size, _ORDER, start)
    counted = grams.bits(ids)[half - 1 :]
    return NEAR if bits[half:][both].mean() < counted[both].mean() else FAR


def _beginning(split: Split) -> np.ndarray:
    """The first ids of the training part, int32 (N,)."""
    stream = split.train
    return stream.read(np.array([stream.lead]), min(_READ, stream.length - stream.lead))[0]


def _codes(ids: np.ndarray, split: Split) -> np.ndarray:
    return split.vocabulary.codes_by_id[ids]


def _known(base: Bundle, split: Split) -> np.ndarray:
    """Whether each character of the text's beginning is in the model's vocabulary, bool (N,)."""
    return base.vocabulary.lookup(_codes(_beginning(split), split)) > 0


def check_shape(base: Bundle, unit: str, asked: ModelConfig, given: Mapping[str, Any]) -> None:
    """Raise OptionError if a given setting differs from the model to start from.

    Only dropout and noise may differ.

    Args:
        base: The model.
        unit: The unit of the text.
        asked: The requested configuration.
        given: The settings that the user gave.
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
