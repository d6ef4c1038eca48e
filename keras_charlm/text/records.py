"""Texts that are lists: lines, or documents of several lines, each with a symbol that ends it.

A line ends with its newline. Longer documents have newlines of their own, so that another symbol
ends them: U+001E, the record separator of ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, AnyStr

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError

# Blanks, those of ASCII first.
BLANKS = " \t\v\f\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_AROUND = "\r\n" + BLANKS  # what is removed around a document
_ASCII = 4, 6  # how many of them are bytes


def listed(pieces: Iterable[Any], config: CorpusConfig) -> Iterator[Any]:
    """The text of a file (str or bytes), which comes in pieces, as a list has it.

    Args:
        pieces: The text.
        config: How it is divided into documents.

    Yields:
        Its pieces: lines without blanks at their ends, or documents, each with its end.

    Raises:
        CorpusError: A document has the symbol that is to end it.
    """
    if config.lines:
        return iter(pieces) if config.keep_blanks else stripped(pieces)
    if config.unit == "byte":
        separator = config.separator_text.encode() if config.separator_text else b""
        return _documents(pieces, separator, bytes([config.end]), config.keep_blanks)
    return _documents(pieces, config.separator_text, chr(config.end), config.keep_blanks)


def _documents(
    pieces: Iterable[AnyStr], separator: AnyStr, end: AnyStr, keep_blanks: bool
) -> Iterator[AnyStr]:
    """The documents of a file, each with its end; the whole file if `separator` is empty."""
    for document in _parts(pieces, separator, end[:0]):
        shorter = strip_blanks(document)
        if end in document:
            raise CorpusError(
                "A document has the character U+001E, which is to end documents; remove it."
            )
        if shorter:
            yield (document if keep_blanks else shorter) + end


def _parts(pieces: Iterable[AnyStr], separator: AnyStr, empty: AnyStr) -> Iterator[AnyStr]:
    """Split a text that comes in pieces; do not split it if `separator` is empty."""
    if not separator:
        yield empty.join(pieces)
        return
    held = empty
    for piece in pieces:
        parts = (held + piece).split(separator)
        held = parts.pop()
        yield from parts
    yield held


def stripped(pieces: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """Remove the blanks at both ends of each line of a text that comes in pieces."""
    held: list[AnyStr] = []  # pieces of a line that has not ended
    for piece in pieces:
        newline, blanks, empty = _characters(piece)
        head, end, tail = piece.rpartition(newline)
        if end:
            lines = (empty.join(held) + head).split(newline)
            yield newline.join([line.strip(blanks) for line in lines]) + newline
            held = []
        if tail:
            held.append(tail)
    if held:
        _, blanks, empty = _characters(held[0])
        if last := empty.join(held).strip(blanks):
            yield last


def split(pieces: Iterable[AnyStr], end: int) -> Iterator[AnyStr]:
    """The lines or documents of a text that comes in pieces.

    Args:
        pieces: The text.
        end: Code of the symbol that ends them; the last may be without.
    """
    held: list[AnyStr] = []  # pieces of one that has not ended
    for piece in pieces:
        empty = piece[:0]
        parts = piece.split(_symbol(end, piece))
        last = parts.pop()
        if parts:
            parts[0] = empty.join(held) + parts[0]
            yield from parts
            held = []
        if last:
            held.append(last)
    if held:
        yield held[0][:0].join(held)


def strip_blanks(document: AnyStr) -> AnyStr:
    """A line or document without the blanks and newlines at both ends."""
    if isinstance(document, str):
        return document.strip(_AROUND)
    return document.strip(_AROUND[: _ASCII[1]].encode())


def _symbol(code: int, like: AnyStr) -> AnyStr:
    """The symbol of a code, in the type of a text."""
    if isinstance(like, str):
        return chr(code)
    return bytes([code])


def _characters(text: AnyStr) -> tuple[AnyStr, AnyStr, AnyStr]:
    """The newline, the blanks and the empty text, in the type of a text."""
    if isinstance(text, str):
        return "\n", BLANKS, ""
    return b"\n", BLANKS[: _ASCII[0]].encode(), b""
