"""The content of any file as a model reads it, without losing how it was written.

A byte-order mark is dropped, line ends become newlines, and decomposed characters are composed,
each only where the whole text has them alike, so that the same bytes can be restored.
"""

from __future__ import annotations

import codecs
import contextlib
import unicodedata
from typing import NamedTuple

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CompressionError
from keras_charlm.text.decoding import check_encoding
from keras_charlm.text.vocabulary import normalize

# Flags. The content is in the encoding of the corpus (without this flag and NAMED, in UTF-8);
# every line ended in \r\n; the encoding is another, named one; a byte-order mark came first; every
# line ended in \r; the text was in NFD.
ENCODED, CRLF, NAMED, BOM, CR, DECOMPOSED = 2, 4, 8, 16, 32, 64
_MARK = "\N{BYTE ORDER MARK}"
# What to encode in, since Python's own encoders of these add a mark.
_EXACT = {
    "utf-16": ("utf-16-le", "utf-16-be"),
    "utf-32": ("utf-32-le", "utf-32-be"),
    "utf-8-sig": ("utf-8",),
}


class Folded(NamedTuple):
    """A text as a model reads it, and what restores the bytes.

    Attributes:
        text: The text.
        flags: How it was written.
        encoding: Its encoding, if the flags have NAMED; else empty.
    """

    text: str
    flags: int
    encoding: str


def fold(data: bytes, config: CorpusConfig, encoding: str | None = None) -> Folded:
    """Read any bytes; what does not decode becomes lone surrogates.

    Args:
        data: The bytes.
        config: How the model's corpus was read.
        encoding: The encoding to decode with; by default the corpus's if it fits, or else UTF-8.

    Raises:
        CompressionError: They are not in `encoding`.
        CorpusError: Python knows no such encoding.
    """
    text, flags, name = _decode(data, config, encoding)
    if text.startswith(_MARK):
        text, flags = text[1:], flags | BOM
    if not config.keep_line_ends and "\r" in text:
        newlines = text.replace("\r\n", "\n")
        if "\r" not in newlines and newlines.count("\n") == text.count("\r\n"):
            text, flags = newlines, flags | CRLF
        elif "\n" not in text:
            text, flags = text.replace("\r", "\n"), flags | CR
    if config.normalize != "none":
        composed = normalize(text, "nfc")
        if composed != text and unicodedata.normalize("NFD", composed) == text:
            text, flags = composed, flags | DECOMPOSED
    return Folded(text, flags, name)


def unfold(folded: Folded, config: CorpusConfig) -> bytes:
    """Restore the bytes that `fold` read.

    Raises:
        UnicodeError, LookupError: They are not what `fold` returned.
    """
    text, flags, name = folded
    if flags & DECOMPOSED:
        text = unicodedata.normalize("NFD", text)
    if flags & CRLF:
        text = text.replace("\n", "\r\n")
    if flags & CR:
        text = text.replace("\n", "\r")
    if flags & BOM:
        text = _MARK + text
    if flags & NAMED:
        return text.encode(name)
    if flags & ENCODED:
        return text.encode(config.encoding)
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes, config: CorpusConfig, encoding: str | None) -> tuple[str, int, str]:
    """The text, its flag, and the name of its encoding if the flag is NAMED."""
    if encoding is not None:
        check_encoding(encoding)
    with contextlib.suppress(LookupError):  # the card may name none that there is
        known = codecs.lookup(encoding or config.encoding).name
        for name in _EXACT.get(known, (encoding or config.encoding,)):
            with contextlib.suppress(UnicodeError):
                text = data.decode(name)
                if text.encode(name) == data:
                    return (text, ENCODED, "") if name == config.encoding else (text, NAMED, name)
    if encoding is not None:
        raise CompressionError(
            f"The content is not {encoding}; name its encoding, or leave --encoding out."
        )
    return data.decode("utf-8", "surrogateescape"), 0, ""
