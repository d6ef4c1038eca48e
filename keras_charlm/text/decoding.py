"""Files, stdin and .gz to blocks of bytes, and those to normalized text."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.settings import expect
from keras_charlm.text.vocabulary import normalize

BLOCK = 1 << 22  # bytes read at a time


NEWLINE = 10  # symbol of "\n": ASCII symbols are their own codes


_JAMO = (("\u1100", "\u11ff"), ("\ua960", "\ua97f"), ("\ud7b0", "\ud7ff"))  # compose to Hangul


def check_encoding(name: str) -> None:
    """Refuse what is no encoding of text: Python's list has hex and zip too."""
    with contextlib.suppress(LookupError, ValueError):
        if codecs.lookup(name)._is_text_encoding and codecs.getincrementaldecoder(name):
            return
    raise CorpusError(f"There is no encoding {name!r}; name one that Python knows, e.g. latin-1.")


def open_blocks(source: str, stdin: BinaryIO | None) -> Iterator[bytes]:
    """The blocks of a file, unpacked."""
    if source == "-" and stdin is not None:
        expect(
            "stdin",
            stdin.read(0) if hasattr(stdin, "read") else stdin,
            bytes,
            "a file opened for bytes",
        )
    try:
        if source == "-":
            stdin = stdin or getattr(sys.stdin, "buffer", None)
            if stdin is None:
                raise CorpusError(
                    "There is no standard input to read; pipe a text in, or name a file."
                )
            yield from iter(lambda: stdin.read(BLOCK), b"")
            return
        opener = gzip.open if source.endswith(".gz") else open
        with opener(source, "rb") as stream:
            yield from iter(lambda: stream.read(BLOCK), b"")
    except FileNotFoundError:
        raise CorpusError(f"There is no file {source}; check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(
            f"{source} is no whole gzip file ({error}); unpack or fetch it again."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise CorpusError(
            f"{source} cannot be read ({getattr(error, 'strerror', None) or error}); check its "
            "path and permissions."
        ) from error


def decoded(blocks: Iterable[bytes], name: str, config: CorpusConfig) -> Iterator[str]:
    """Decode, check and normalize; pieces end where nothing after them can change them."""
    decoder = codecs.getincrementaldecoder(config.encoding)("strict")
    form = _normalizer(config.normalize)
    carry, read, first = "", 0, True

    def finish(text: str) -> str:
        if not config.keep_line_ends and "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return form(text)

    for block, final in _with_last(blocks):
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # The decoder's object starts with bytes held back from earlier blocks.
            offset = read + len(block) - len(error.object) + error.start
            raise CorpusError(
                f"{name} is not {config.encoding}: byte 0x{error.object[error.start]:02X} at "
                f"offset {offset:,} does not decode; convert it, leave it out "
                "(--skip-unreadable), or train with its --encoding or with --unit byte."
            ) from None
        except UnicodeError as error:
            raise CorpusError(
                f"{name} is not {config.encoding} ({error}); convert it, leave it out "
                "(--skip-unreadable), or train with its --encoding or with --unit byte."
            ) from None
        if first and text:
            text, first = text.removeprefix("\N{BYTE ORDER MARK}"), False
        if (at := text.find("\0")) >= 0:
            raise CorpusError(
                f"{name} looks binary: a NUL stands at about offset {read + at:,}; leave it out "
                "(--skip-unreadable), or train with --unit byte."
            )
        read += len(block)
        text = carry + text
        cut = len(text) if final else _safe_cut(text)
        carry = text[cut:]
        if cut:
            yield finish(text[:cut])


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The blocks, and at the end an empty one marked as the last."""
    for block in blocks:
        yield block, False
    yield b"", True


def _safe_cut(text: str) -> int:
    """The last place before which no later character can change the text: normalization composes
    nothing across it, and it does not part \\r from \\n."""
    if text.endswith("\n"):
        return len(text)
    for at in range(len(text) - 1, -1, -1):
        if _starts_segment(text[at]):
            return at
    return 0


def _starts_segment(char: str) -> bool:
    """Whether a character never composes with the one before it (the safe side of it)."""
    if char.isascii():
        return char != "\n"
    jamo = any(a <= char <= b for a, b in _JAMO)
    return not (
        jamo or unicodedata.combining(char) or unicodedata.category(char)[0] == "M"
    ) and unicodedata.is_normalized("NFKC", char)


def _normalizer(form: str) -> Callable[[str], str]:
    """Unicode normalization by tensorflow-text, or by the standard library where it has no wheels.

    Text that is normalized already, nearly all text, is recognised without loading TensorFlow.
    """
    if form == "none":
        return lambda text: text

    def apply(text: str) -> str:
        if text.isascii() or unicodedata.is_normalized(form.upper(), text):
            return text
        try:
            import tensorflow_text
        except ImportError:
            return normalize(text, form)
        return tensorflow_text.normalize_utf8(text, form.upper()).numpy().decode("utf-8")

    return apply
