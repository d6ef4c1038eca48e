"""What a file is, by its first bytes: compressed, not text at all, or text with a byte-order mark.

Every verb that reads a text asks here, so that a file is the same thing to all of them.
"""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from keras_charlm.errors import CorpusError, brief
from keras_charlm.text import codepages

HEAD = 8192  # bytes that are looked at


class Remedy(NamedTuple):
    """What a verb's user can do about a file that it cannot read; completes an error's sentence.

    Attributes:
        text: About a text in another encoding, besides --encoding.
        kind: Appended to the advice about a file that is not text.
    """

    text: str
    kind: str


FIT = Remedy(
    "convert it, leave it out (--skip-unreadable), or train with --unit byte",
    ", or leave it out (--skip-unreadable)",
)
READ = Remedy("convert it", "")

# The first bytes of compressed files, and the endings of their names.
_COMPRESSED = {
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\x00",
    "zstd": rb"\x28\xb5\x2f\xfd",
}
_BEGINNINGS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_LONGEST = 10  # bytes of the longest of these signatures
SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}

_UNPACK = "unpack it and name the files in it, or their folder with --glob"
_PANDOC = "save it as plain text, e.g. with: pandoc FILE -t plain -o text.txt"
_OFFICE = "save what you need of it as plain text"
_NONE = "name a text"
# Files that are no text: their first bytes, what they are, and what to do.
_KINDS = tuple(
    (re.compile(pattern, re.DOTALL), what, advice)
    for pattern, what, advice in (
        (rb"\s*%PDF-", "a PDF file", "extract its text first, e.g. with: pdftotext FILE"),
        (rb"%!PS", "a PostScript file", "extract its text first, e.g. with: ps2ascii FILE"),
        (rb"\s*\{\\rtf", "an RTF document", _PANDOC),
        (rb"PK\x03\x04.*word/", "a Word document (DOCX)", _PANDOC),
        (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book", _PANDOC),
        (rb".{60}(?:BOOKMOBI|TEXtREAd)", "an e-book (MOBI)", _OFFICE),
        (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", "an OpenDocument file", _PANDOC),
        (rb"PK\x03\x04.*(?:xl|ppt)/", "an Office document", _OFFICE),
        (rb"PK\x03\x04.{26}\[Content_Types\]", "an Office document (DOCX, XLSX, PPTX)", _OFFICE),
        (rb"PK(?:\x03\x04|\x05\x06)", "a ZIP archive", _UNPACK),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document (DOC, XLS, PPT)", _OFFICE),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
        (rb"\x1f\x9d|\x04\x22\x4d\x18|LZIP\x01", "a compressed file", "unpack it first"),
        (rb"\x5d\x00\x00.{2}(?:\xff{8}|.{5}\x00{3})", "a compressed file", "unpack it first"),
        (rb"\x1f\x8b|\xfd7zXZ\x00|\x28\xb5\x2f\xfd", "compressed twice", "unpack it first"),
        (rb"KCLM[\x01-\x1f]", "what kcharlm compress wrote", "restore it with kcharlm decompress"),
        (rb"\x89PNG|GIF8[79]a|\xff\xd8\xff|RIFF.{4}WEBP", "an image", _NONE),
        (
            rb"ID3[\x02-\x04]|RIFF.{4}WAVE|OggS\x00|fLaC|.{4}ftyp|\xff[\xf2\xf3\xfb]",
            "a sound or video file",
            _NONE,
        ),
        (rb"\x7fELF|\xca\xfe\xba\xbe|MZ.{1,3}\x00", "a program", _NONE),
        (rb"SQLite format 3\x00", "an SQLite database", "export its text first"),
        (rb"\x93NUMPY|\x89HDF|.{4}TFL3", "a file of arrays", _NONE),
        (rb"PAR1[\x00-\x1f]|Obj\x01|ARROW1\x00", "a table of columns", "export its text first"),
    )
)
# Byte-order marks; UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)


def stem(path: Path) -> str:
    """The name of a file without its suffix, and without that of a compression."""
    return Path(path.stem if path.suffix in SUFFIXES else path.name).stem


def shown_name(source: str) -> str:
    """How a message names a file; '-' is stdin."""
    return "stdin" if source == "-" else brief(source)


def compression(head: bytes) -> str | None:
    """How a file is compressed: gzip, bzip2, xz or zstd; None if it is not."""
    return next((name for name, first in _COMPRESSED.items() if re.match(first, head)), None)


def may_be_compressed(head: bytes) -> bool:
    """Whether more bytes are needed to know how a file that begins with these is compressed."""
    return len(head) < _LONGEST and any(
        head.startswith(first) or first.startswith(head) for first in _BEGINNINGS
    )


class Source(NamedTuple):
    """A file that is not what it should be.

    Attributes:
        name: Its name.
        encoding: The encoding in which it was to be read.
        head: Its first bytes.
        remedy: The verb's advice.
    """

    name: str
    encoding: str
    head: bytes
    remedy: Remedy


def check(head: bytes, name: str, encoding: str, remedy: Remedy) -> None:
    """Raise CorpusError if a file is not text in an encoding, as far as its beginning tells.

    Args:
        head: Its first bytes, unpacked.
        name: Its name in the error.
        encoding: The encoding in which it is to be read.
        remedy: The verb's advice.
    """
    head = head[:HEAD]
    for mark, family, exact in _MARKS:
        if head.startswith(mark):
            if codecs.lookup(encoding).name not in (family, exact):
                raise CorpusError(
                    f"{name} is {family}, as its byte-order mark says, and not {encoding}; read "
                    f"it with --encoding {family}, or convert it."
                )
            return
    for pattern, what, advice in _KINDS:
        if pattern.match(head):
            if name != "stdin":
                advice = advice.replace("FILE", shlex.quote(name))
            raise CorpusError(f"{name} is {what} and not plain text; {advice}{remedy.kind}.")


def not_decoded(
    source: Source, error: UnicodeDecodeError, offset: int, data: bytes, at: int
) -> CorpusError:
    """The error about bytes that do not decode, with the encodings that would read them.

    Args:
        source: The file.
        error: What the decoder raised.
        offset: Of the first such byte in the file.
        data: A part of the file.
        at: Index of that byte in it.
    """
    name, encoding, head, remedy = source
    if "truncated" in error.reason:
        return CorpusError(
            f"{name} is not complete {encoding}: it ends in the middle of the character at offset "
            f"{offset:,}; copy it again, or remove its last byte."
        )
    if guess := codepages.wide(head[:HEAD]) or codepages.east_asian(head[:HEAD]):
        return _wide(guess, head, name, encoding)
    if _goes_on_in_utf_16(data[at:]):
        return _of_two_encodings(name, encoding, offset)
    byte = f"byte 0x{error.object[error.start]:02X} at offset {offset:,} does not decode"
    if codepages.is_binary(head[:HEAD]):
        return CorpusError(
            f"{name} looks binary: {byte}, and there are control characters; name a text, or "
            f"{remedy.text}."
        )
    own = codecs.lookup(encoding).name
    guesses = [guess for guess in codepages.likely(data, at) if guess.encoding != own]
    if not guesses:
        return CorpusError(
            f"{name} is not {encoding}: {byte}; name its --encoding, or {remedy.text}."
        )
    first, *others = guesses
    readings = f"--encoding {first.encoding} reads the line as {first.line!r}"
    readings += "".join(f", {other.encoding} as {other.line!r}" for other in others)
    return CorpusError(f"{name} is not {encoding}: {byte}; {readings}; or {remedy.text}.")


def with_nul(source: Source, text: str, at: int, offset: int) -> CorpusError:
    """The error about a NUL.

    Args:
        source: The file.
        text: A piece of the file.
        at: Index of the first NUL in it.
        offset: Of that NUL in the file, about.
    """
    name, encoding, head, remedy = source
    if guess := codepages.wide(head[:HEAD]):
        return _wide(guess, head, name, encoding)
    count = text.count("\0")
    share = f"{count:,} NUL in {len(text):,} characters" if len(text) > 99 * count else ""
    if at and _goes_on_in_utf_16(text[at - 1 :].encode("latin-1", "ignore")):
        return _of_two_encodings(name, encoding, offset)
    advice = f"remove the {share} (tr -d '\\000')" if share else "name its --encoding"
    return CorpusError(
        f"{name} looks binary: there is a NUL at about offset {offset:,}; {advice}, or "
        f"{remedy.text}."
    )


def _goes_on_in_utf_16(data: bytes) -> bool:
    """Whether the rest of a file is UTF-16, as where files of two encodings were joined."""
    rest = data[:400]
    return rest.count(0) > max(2, len(rest) // 4) and any(
        codepages.wide(rest[at:]) for at in (0, 1)
    )


def _of_two_encodings(name: str, encoding: str, offset: int) -> CorpusError:
    return CorpusError(
        f"{name} is {encoding} at first and then UTF-16, from about offset {offset:,} on; convert "
        "its parts to one encoding."
    )


def _wide(guess: str, head: bytes, name: str, encoding: str) -> CorpusError:
    line = codepages.first_line(head[:HEAD], guess)
    return CorpusError(
        f"{name} is {guess} without a byte-order mark, and not {encoding}: --encoding {guess} "
        f"reads its first line as {line!r}; read it so, or convert it."
    )
