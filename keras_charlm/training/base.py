"""The model that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.defaults import FAR, LIST, NEAR, NEAR_LONG, SIZES, Tuning, auto_size
from keras_charlm.errors import OptionError
from keras_charlm.evaluation import ngram
from keras_charlm.generation.litert import Runner, score_characters
from keras_charlm.saved.bundle import (
    CODE,
    DEVICE,
    ENGLISH,
    LINES_NOCASE,
    NAMES,
    WEIGHTS,
    Bundle,
    open_bundle,
    shipped,
)
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.likeness import key_fingerprints, line_texts
from keras_charlm.text.split import Split

AUTO = "auto"
# Characters of the training part. What a model knows is soon lost on a text of another kind, and a
# long text teaches a network of its own as much.
SHORTEST, LONGEST_FAR, LONGEST = 200, 300_000, 3_000_000
LONGEST_NAMES, LONGEST_LIST = 30_000, 100_000  # of a list that starts from names, or from English
KNOWN = 0.95  # least share of the characters that the model must know
# Bits per character: a model that predicts a text in fewer knows texts of its kind. C costs `code`
# 2.4 to 3.0, Perl 2.3 to 4.2; Shakespeare costs `english` 2.5 to 3.0, German at least 4.8.
KIND = 3.2
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
    """The bundled model that a training on a text had better start from, if any.

    Prose, verse or talk in English, and source code, are then predicted far better; of other
    languages that use the same characters, only short texts are. A short list starts from names, or
    from English where it is in English.

    Args:
        text: The text.
        split: Its parts.
        given: The settings that the user gave.

    Returns:
        The model, for a text the one that predicts its beginning best, and the defaults for
        starting from it; None if the text is long, or bytes, if the user chose another network, or
        if too many characters are unknown to the models.
    """
    config, length = text.config, split.train.length
    shaped = given.get("size", AUTO) != AUTO or any(given.get(k) is not None for k in _SHAPE)
    most = LONGEST_LIST if config.lines else LONGEST
    if shaped or config.unit == "byte" or not SHORTEST <= length <= most:
        return None, None
    beginning = _Beginning(split)
    choice: list[tuple[float, Bundle]] = []
    for name, home in shipped().items():
        if name not in ((ENGLISH, NAMES) if config.lines else (CODE, ENGLISH)):
            continue
        base = open_base(home)
        if beginning.known(base).mean() >= KNOWN:
            choice.append((beginning.saved(base), base))
    if not choice:
        return None, None
    # Names help any list of single words more than English that does not predict them.
    saved, best = max(choice, key=lambda c: (max(c[0], 0), c[1].card.name == NAMES, c[0]))
    tuning = LIST if config.lines else text_tuning(best, length, beginning.near(saved))
    most = LONGEST_FAR if tuning is FAR else most
    most = LONGEST_NAMES if best.card.name == NAMES else most
    return (best, tuning) if length <= most else (None, None)


def find_tuning(base: Bundle, split: Split, lines: bool) -> Tuning:
    """The defaults for starting from a model on a text.

    Args:
        base: The model.
        split: The text's parts.
        lines: Whether the text is a list.

    Returns:
        For lists LIST; NEAR if the model predicts the text's beginning well, or NEAR_LONG for a
        long text for which a network from scratch would have as many units; otherwise FAR.
    """
    if lines:
        return LIST
    beginning = _Beginning(split)
    return text_tuning(base, split.train.length, beginning.near(beginning.saved(base)))


def text_tuning(base: Bundle, length: int, near: bool) -> Tuning:
    """The defaults for starting from a model on a text that is no list.

    Args:
        base: The model.
        length: Characters of the training part.
        near: Whether the model predicts the text's beginning well.
    """
    if not near:
        return FAR
    own = auto_size(length)  # of a network from scratch
    as_wide = (base.card.model.units or 0) <= SIZES[own].units
    return NEAR_LONG if as_wide and own != "small" else NEAR


class _Beginning:
    """The beginning of a text, whose second half n-grams predict that are counted in the first.

    Args:
        split: The text's parts.
    """

    def __init__(self, split: Split):
        stream = split.train
        width = min(_READ, stream.length - stream.lead)
        ids = stream.read(np.array([stream.lead]), width)[0]
        self._codes = split.vocabulary.codes_by_id[ids]  # (N,)
        self._half = len(ids) // 2
        start = split.vocabulary.id_of(split.start)
        grams = ngram.fit(ids[: self._half], split.vocabulary.size, _ORDER, start)
        self._counted = grams.bits(ids)[self._half - 1 :]

    def known(self, base: Bundle) -> np.ndarray:
        """Whether each character is in a model's vocabulary, bool (N,)."""
        return base.vocabulary.lookup(self._codes) > 0

    def saved(self, base: Bundle) -> float:
        """How many bits per character of the second half a model needs less than the n-grams;
        characters that it does not know count as equal."""
        codes = np.append(base.card.start, self._codes)
        bits, _ = score_characters(Runner(base.file(DEVICE)), codes, base.vocabulary.lookup(codes))
        saved = self._counted - bits[self._half :]
        return float(np.where(self.known(base)[self._half :], saved, 0).mean())

    def near(self, saved: float) -> bool:
        """Whether a model that needs so many bits less than the n-grams predicts the second half
        better than they do, or at least as texts of its own kind."""
        return saved > 0 or self._counted.mean() - saved < KIND


def known_lines(base: Bundle, text: Corpus, split: Split) -> int:
    """How many lines of the training part the model was trained on, in upper or lower case."""
    if split.train_lines is None or not base.card.lines:
        return 0
    ignore_case = LINES_NOCASE in base.card.files  # not stored by earlier versions
    lines = key_fingerprints(line_texts(text, split.train_lines), ignore_case)
    return int(np.isin(lines, base.training_lines(ignore_case)).sum())


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
