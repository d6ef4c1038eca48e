"""Settings that have no effect beside others: each is reported, none is refused."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_charlm.config import (
    CorpusConfig,
    EvaluateConfig,
    FitConfig,
    SampleConfig,
)
from keras_charlm.config_base import Settings
from keras_charlm.errors import OptionNote

# For each configuration: names of settings, when they have no effect, and that in words.
_UNUSED: dict[type[Settings], tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...]] = {
    CorpusConfig: (
        (
            ("duplicates", "keep_blanks"),
            lambda c: not c.records,
            "without lines, separator or documents",
        ),
        (
            ("encoding", "normalize", "keep_line_ends"),
            lambda c: c.unit == "byte",
            "with unit byte, which reads files as they are",
        ),
    ),
    FitConfig: (
        (("warmup",), lambda c: c.schedule == "char-rnn", "with schedule char-rnn"),
        (("warmup",), lambda c: c.schedule == "none", "with schedule none"),
    ),
    SampleConfig: (
        (
            ("top_k", "top_p", "min_p", "best_of", "seed"),
            lambda c: c.temp == 0,
            "at temp 0, which always takes the most likely character",
        ),
    ),
    EvaluateConfig: (
        (("dynamic_rate",), lambda c: not c.dynamic, "without dynamic"),
        (("temp", "seed"), lambda c: not c.novelty, "without novelty"),
    ),
}


def unused(config: Settings) -> Iterator[str]:
    """A sentence for each setting that differs from its default and has no effect."""
    for names, applies, why in _UNUSED.get(type(config), ()):
        if not applies(config):
            continue
        for field in dataclasses.fields(config):
            if field.name in names and getattr(config, field.name) != field.default:
                yield f"{field.name} has no effect {why}."


def note(sentences: Iterable[str], stacklevel: int = 3) -> None:
    """Warn the caller of the library; the command line shows the sentences as lines."""
    for sentence in sentences:
        warnings.warn(sentence, OptionNote, stacklevel=stacklevel)
