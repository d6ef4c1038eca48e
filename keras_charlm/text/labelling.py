"""A file with labels to symbols: a label before each line or document, or before the whole text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.text.cache import SymbolWriter
from keras_charlm.text.filetype import shown_name, stem
from keras_charlm.text.labels import FILE, Coder
from keras_charlm.text.tables import read_rows
from keras_charlm.text.vocabulary import codes_of

_ROWS = 10_000  # rows of a table that are written at once


def _label(source: str) -> str:
    """The label that a file's name gives."""
    return "stdin" if source == "-" else stem(Path(source))


def label_columns(config: CorpusConfig) -> tuple[str, ...]:
    """The columns of labels that a configuration reads, in their order."""
    return (*config.labels, *([FILE] if config.label_by_file else []))


def with_label(digest: Any, source: str, config: CorpusConfig) -> Any:
    """A copy of a hashlib object that also depends on a file's name, if that is its label."""
    if config.label_by_file:
        digest = digest.copy()
        digest.update(f"\0{_label(source)}\0".encode("utf-8", "surrogatepass"))
    return digest


def append_labelled(
    pieces: Iterable[str | bytes],
    source: str,
    config: CorpusConfig,
    writer: SymbolWriter,
    coder: Coder,
) -> None:
    """Append a file with its labels to a writer.

    Args:
        pieces: Its content; of a table the text of the table.
        source: Its path, or '-' for stdin.
        config: How to read it.
        writer: Receives its symbols, those of its labels among them.
        coder: Numbers its labels.

    Raises:
        CorpusError: A row or a label is wrong.
    """
    name = shown_name(source)
    by_file = [_label(source)] if config.label_by_file else []
    if config.unit == "byte":
        writer.write(b"")  # its alphabet comes before the labels
    if config.table:
        columns = config.labels, config.text_column
        rows = read_rows(map(str, pieces), name, *columns, config.end)
        _append_rows(rows, name, by_file, config, writer, coder)
    elif config.records:
        _append_documents(pieces, coder.codes(by_file, name), config.end, writer)
    else:
        for number, text in enumerate(pieces):
            if not number:
                writer.write_codes(np.array(coder.codes(by_file, name)))
            writer.write(text)


def _append_rows(
    rows: Iterable[tuple[int, str, list[str]]],
    name: str,
    by_file: list[str],
    config: CorpusConfig,
    writer: SymbolWriter,
    coder: Coder,
) -> None:
    """Append the rows of a table, each as a document with its labels before it.

    Args:
        rows: Line number, text and labels of each.
        name: The file's name, for errors.
        by_file: A label of all rows, or none.
        config, writer, coder: As for `append_labelled`.
    """
    while block := list(itertools.islice(rows, _ROWS)):
        parts: list[Any] = []
        for number, text, values in block:
            labels = coder.codes([*values, *by_file], f"{name} line {number:,}")
            data: Any = text.encode(config.encoding) if config.unit == "byte" else text
            parts += [np.array(labels, np.int64), codes_of(data), np.array([config.end])]
        writer.write_codes(np.concatenate(parts))


def _append_documents(
    pieces: Iterable[str | bytes], labels: list[int], end: int, writer: SymbolWriter
) -> None:
    """Append lines or other documents, each with the same labels before it; empty ones without."""
    begins = True  # whether the next character begins a document
    for piece in pieces:
        codes = codes_of(piece)
        if not len(codes):
            continue
        after = np.append([begins], codes[:-1] == end)
        starts = np.flatnonzero(after & (codes != end))
        values = np.tile(np.array(labels, np.int64), len(starts))
        writer.write_codes(np.insert(codes, np.repeat(starts, len(labels)), values))
        begins = bool(codes[-1] == end)
