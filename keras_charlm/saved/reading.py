"""Texts as a model reads them, whatever verb they are for: in the way its corpus was read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError, brief
from keras_charlm.files import is_kind
from keras_charlm.saved.card import Card
from keras_charlm.text.corpus import Lines, prepare
from keras_charlm.text.decoding import check_encoding
from keras_charlm.text.filetype import READ
from keras_charlm.text.streams import LineStream, Stream, TextStream
from keras_charlm.text.vocabulary import Vocabulary, normalize

_MANY = 0.05  # share of unknown characters that is worth a warning


@dataclass(frozen=True)
class InputText:
    """A text to read.

    Attributes:
        path: The file; Path('-') for stdin, None for a text that is no file.
        symbols: Integers (N,), memory-mapped for a file.
        alphabet: The code of each symbol, int64 (A,).
        lines: The lines of a file for a model of lines, without empty ones; else None.
    """

    path: Path | None
    symbols: np.ndarray
    alphabet: np.ndarray
    lines: Lines | None = None

    @property
    def name(self) -> str:
        """Its path, or what it is."""
        if self.path is None:
            return "a text"
        return "stdin" if str(self.path) == "-" else str(self.path)

    def stream(self, vocabulary: Vocabulary) -> Stream:
        """Its ids, as the parts of a corpus have them."""
        ids = vocabulary.lookup(self.alphabet).astype(np.int32)
        if self.lines is not None:
            return LineStream(self.symbols, ids, self.lines, seed=None)
        return TextStream(self.symbols, ids, 0, len(self.symbols))

    def codes(self) -> np.ndarray:
        """Its code points or bytes, int64 (T,)."""
        if self.lines is None:
            return self.alphabet[self.symbols].astype(np.int64)
        every = LineStream(self.symbols, np.arange(len(self.alphabet)), self.lines, seed=None)
        size = every.length - every.lead
        return self.alphabet[every.read(np.array([every.lead]), size)[0]].astype(np.int64)


def read_file(path: Path, config: CorpusConfig, encoding: str | None = None) -> InputText:
    """Read a file as a corpus is read.

    Args:
        path: The file; '-' is stdin.
        config: How the model's corpus was read.
        encoding: Encoding of the file, if it is another.

    Raises:
        CorpusError: It cannot be read, is not text, or is empty.
    """
    if is_kind(path, Path.is_dir):
        raise CorpusError(f"{brief(path)} is a folder; name one file.")
    corpus = prepare([path], with_encoding(config.unlabelled(), encoding), remedy=READ)
    lines = corpus.lines() if config.records else None
    return InputText(path, corpus.symbols, corpus.alphabet, lines)


def read_given(text: str | bytes, vocabulary: Vocabulary, card: Card) -> InputText:
    """A text in memory, normalized as the corpus was."""
    if isinstance(text, str):
        text = normalize(text, card.normalize)
    alphabet, symbols = np.unique(vocabulary.to_codes(text), return_inverse=True)
    return InputText(None, symbols, alphabet)


def with_encoding(config: CorpusConfig, encoding: str | None) -> CorpusConfig:
    """How to read a file that may have an encoding of its own; raises CorpusError if Python does
    not know it."""
    if encoding is None:
        return config
    check_encoding(encoding)
    return replace(config, encoding=encoding)


def unknown_notice(unknown: int, characters: int, unit: str) -> str | None:
    """A warning, if many characters of a text are unknown to the model.

    Args:
        unknown: How many are.
        characters: How many there are in all.
        unit: 'character' or 'byte'.
    """
    if unknown <= _MANY * characters:
        return None
    causes = "its language, alphabet or typography is not that of the training text"
    if unit == "character":
        causes = f"the file is in another encoding (see --encoding), or {causes}"
    return (
        f"{unknown:,} of {characters:,} {unit}s ({unknown / characters:.0%}) are unknown to the "
        f"model and read as one symbol; often {causes}."
    )
