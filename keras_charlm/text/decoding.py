"""Files, stdin and .gz to blocks of bytes, and blocks to normalized text."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from keras_charlm.config import CorpusConfig
from keras_charlm.config_base import expect
from keras_charlm.errors import CorpusError
from keras_charlm.text.vocabulary import is_normalized, normalize

BLOCK = 1 << 22  # bytes read at a time
_JAMO = (("\u1100", "\u11ff"), ("\ua960", "\ua97f"), ("\ud7b0", "\ud7ff"))  # compose to Hangul
_REMEDY = (
    "convert it, leave it out (--skip-unreadable), or train with its --encoding or with --unit byte"
)


def check_encoding(name: str) -> None:
    """Raise CorpusError unless Python knows an encoding of text by this name."""
    try:
        # Both refuse codecs that are not for text, such as hex and zip.
        "".encode(name)
        b"".decode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise CorpusError(
            f"There is no encoding {name!r}; name one that Python knows, e.g. latin-1."
        ) from None


def open_blocks(source: str, stdin: BinaryIO | None) -> Iterator[bytes]:
    """Read a file in blocks; '.gz' is unpacked.

    Args:
        source: A path, or '-' for stdin.
        stdin: Stream that '-' reads; by default the process's standard input.

    Yields:
        At most BLOCK bytes each.

    Raises:
        CorpusError: It cannot be read, or is not a complete gzip file.
        OptionError: `stdin` is not a binary stream.
    """
    if source == "-" and stdin is not None:
        expect(
            "stdin",
            stdin.read(0) if hasattr(stdin, "read") else stdin,
            bytes,
            "a file opened in binary mode",
        )
    try:
        if source == "-":
            stdin = stdin or getattr(sys.stdin, "buffer", None)
            if stdin is None:
                raise CorpusError(
                    "There is no standard input to read; pipe a text in, or name a file."
                )
            yield from _blocks(stdin)
            return
        with gzip.open(source) if source.endswith(".gz") else Path(source).open("rb") as file:
            yield from _blocks(file)
    except FileNotFoundError:
        raise CorpusError(f"There is no file {source}; check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(
            f"{source} is not a complete gzip file ({error}); create or download it again."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise CorpusError(
            f"{source} cannot be read ({getattr(error, 'strerror', None) or error}); check its "
            "path and permissions."
        ) from error


def _blocks(file: BinaryIO | io.BufferedIOBase) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def read_text(source: str, config: CorpusConfig, remedy: str = _REMEDY) -> str | bytes:
    """Read a short file like a corpus, but without the cache.

    Args:
        source: A path, or '-' for stdin.
        config: How to read it.
        remedy: Advice in an error about its content.

    Returns:
        The text, or bytes if the unit is the byte; either may be empty.

    Raises:
        CorpusError: It cannot be read, or is not text.
    """
    blocks = open_blocks(source, None)
    if config.unit == "byte":
        return b"".join(blocks)
    return "".join(decoded(blocks, "stdin" if source == "-" else source, config, remedy))


def decoded(
    blocks: Iterable[bytes], name: str, config: CorpusConfig, remedy: str = _REMEDY
) -> Iterator[str]:
    """Decode, check and normalize a file.

    Args:
        blocks: Its content.
        name: Its name in errors.
        config: Encoding, normalization and line ends.
        remedy: Advice in an error about its content.

    Yields:
        Pieces of the text. Each ends where normalization cannot combine it with the next.

    Raises:
        CorpusError: It does not decode, or looks binary.
    """
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
            # The error's object starts with bytes held back from earlier blocks.
            offset = read + len(block) - len(error.object) + error.start
            raise CorpusError(
                f"{name} is not {config.encoding}: byte 0x{error.object[error.start]:02X} at "
                f"offset {offset:,} does not decode; {remedy}."
            ) from None
        except UnicodeError as error:
            raise CorpusError(f"{name} is not {config.encoding} ({error}); {remedy}.") from None
        if first and text:
            text, first = text.removeprefix("\N{BYTE ORDER MARK}"), False
        if (at := text.find("\0")) >= 0:
            raise CorpusError(
                f"{name} looks binary: there is a NUL at about offset {read + at:,}; {remedy}."
            )
        read += len(block)
        text = carry + text
        cut = len(text) if final else _safe_cut(text)
        carry = text[cut:]
        if cut:
            yield finish(text[:cut])


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield the blocks, and finally an empty one marked as the last."""
    for block in blocks:
        yield block, False
    yield b"", True


def _safe_cut(text: str) -> int:
    """The last index where the text can be cut: normalization composes nothing across it, and it is
    not between \\r and \\n; 0 if there is none."""
    if text.endswith("\n"):
        return len(text)
    for at in range(len(text) - 1, -1, -1):
        if _starts_segment(text[at]):
            return at
    return 0


def _starts_segment(char: str) -> bool:
    """Whether a character certainly never composes with the one before it."""
    if char.isascii():
        return char != "\n"
    jamo = any(a <= char <= b for a, b in _JAMO)
    return not (
        jamo or unicodedata.combining(char) or unicodedata.category(char)[0] == "M"
    ) and unicodedata.is_normalized("NFKC", char)


def _normalizer(form: str) -> Callable[[str], str]:
    """Unicode normalization with tensorflow-text, or the standard library if that is not installed.

    Nearly all text is normalized already, which is checked without loading TensorFlow.
    """
    if form == "none":
        return lambda text: text

    def apply(text: str) -> str:
        if is_normalized(text, form):
            return text
        try:
            import tensorflow_text
        except ImportError:
            return normalize(text, form)
        return tensorflow_text.normalize_utf8(text, form.upper()).numpy().decode("utf-8")

    return apply
