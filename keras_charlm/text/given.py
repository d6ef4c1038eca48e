"""A text that a program gives instead of naming files: strings, bytes, or an open file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from keras_charlm.config_base import expect
from keras_charlm.errors import CorpusError, OptionError, brief

_KINDS = "a string, several in a list, bytes, or an open file"
Given = str | bytes | Iterable[str] | IO[str] | IO[bytes]


@dataclass(frozen=True)
class GivenText:
    """A text in memory or in an open file, to be read like standard input.

    Args:
        stream: Its bytes, those of characters in UTF-8.
        name: Its name.
        settings: Settings of the corpus that follow from its kind.
    """

    stream: BinaryIO
    name: str
    settings: dict[str, Any]

    def explained(self, error: CorpusError) -> CorpusError:
        """An error about standard input as one about this text."""
        return CorpusError(re.sub(r"^stdin\b", f"The text {self.name!r}", str(error)))


def given_text(text: Given, settings: Mapping[str, Any]) -> GivenText:
    """Open a text that was given.

    Args:
        text: A string; several, each of which is a document; bytes; or a file, opened in text or
            binary mode.
        settings: The settings given for the corpus.

    Raises:
        OptionError: It is something else, or a setting does not fit it.
        CorpusError: It is empty, or cannot be written as UTF-8.
    """
    if isinstance(text, bytes):
        return GivenText(io.BytesIO(_filled(text)), "text", {})
    if isinstance(text, str):
        return GivenText(io.BytesIO(_encoded(text)), "text", _decoded(settings))
    if hasattr(text, "read"):
        file: Any = text
        name = getattr(file, "name", None)
        name = Path(name).stem if isinstance(name, str) else "text"
        if isinstance(file.read(0), bytes):
            return GivenText(file, name, {})
        return GivenText(cast(BinaryIO, _Encoder(file)), name, _decoded(settings))
    expect("text", text, Iterable, _KINDS)
    documents: list[Any] = list(text)
    for document in documents:
        expect("text", document, str, _KINDS)
    lines = settings.get("lines", True)
    if lines and any("\n" in document for document in documents):
        raise OptionError(
            "A string of the list has several lines, and each is to be one document; give one "
            "string instead of a list, or lines=False."
        )
    content = _encoded("\n".join(filter(None, documents)))
    return GivenText(io.BytesIO(content), "text", {"lines": lines, **_decoded(settings)})


class _Encoder:
    """A file of characters, read as UTF-8."""

    def __init__(self, file: IO[str]):
        self.file = file

    def read(self, size: int = -1) -> bytes:
        text = self.file.read(size)
        return _encoded(text) if text else b""


def _decoded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The encoding of characters; raises OptionError if another was asked for."""
    if (encoding := settings.get("encoding", "utf-8")) != "utf-8":
        raise OptionError(
            f"encoding is {brief(repr(encoding))}, and the text is decoded already; leave "
            "encoding out, or give bytes or a file opened in binary mode."
        )
    return {"encoding": "utf-8"}


def _encoded(text: str) -> bytes:
    try:
        return _filled(text).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"The text has half of a surrogate pair at {error.start:,}, which is no character; "
            "decode it again with the right encoding."
        ) from None


def _filled(text: Any) -> Any:
    if not text:
        raise CorpusError("The text is empty; give some text.")
    return text
