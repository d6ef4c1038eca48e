"""Files and stdin to blocks of unpacked bytes, and blocks to normalized text."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from keras_charlm.config import CorpusConfig
from keras_charlm.config_base import expect
from keras_charlm.display import quiet
from keras_charlm.errors import CorpusError, brief
from keras_charlm.text import codepages, filetype, records
from keras_charlm.text.filetype import FIT, Remedy, shown_name
from keras_charlm.text.vocabulary import is_normalized, normalize

BLOCK = 1 << 22  # bytes read at a time
_JAMO = (("\u1100", "\u11ff"), ("\ua960", "\ua97f"), ("\ud7b0", "\ud7ff"))  # compose to Hangul
# Characters that end a line to some programs; in a list they do.
_MORE_LINE_ENDS = "\x85\u2028\u2029"


def check_encoding(name: str) -> None:
    """Raise CorpusError unless Python knows an encoding of text by this name."""
    try:
        # Both refuse codecs that are not for text, such as hex and zip.
        "".encode(name)
        b"".decode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise CorpusError(
            f"There is no encoding {brief(repr(name))}; name one that Python knows, e.g. latin-1."
        ) from None


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def open_blocks(source: str, stdin: BinaryIO | None, by_content: bool = True) -> Iterator[bytes]:
    """Read a file in blocks, unpacked if it is compressed with gzip, bzip2, xz or zstd.

    Args:
        source: A path, or '-' for stdin.
        stdin: Stream that '-' reads; by default the process's standard input.
        by_content: Recognize compression by the first bytes too, not only by the name's ending.

    Yields:
        At most BLOCK bytes each.

    Raises:
        CorpusError: It cannot be read, or its compressed content is not complete.
        OptionError: `stdin` is not a binary stream.
    """
    if source == "-" and stdin is not None:
        expect(
            "stdin",
            stdin.read(0) if hasattr(stdin, "read") else stdin,
            bytes,
            "a file opened in binary mode",
        )
    name = shown_name(source)
    packed = filetype.SUFFIXES.get(Path(source).suffix)
    try:
        with _opened(source, stdin) as file:
            head = _head(file) if by_content or packed else b""
            packed = (filetype.compression(head) if by_content else None) or packed
            if packed is None:
                if head:
                    yield head
                yield from _blocks(file)
                return
            with _unpacked(_Joined(head, file), packed, name) as content:
                yield from _blocks(content)
    except FileNotFoundError:
        raise CorpusError(f"There is no file {brief(source)}; check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, _ZstdError) as error:
        raise _incomplete(name, packed, error) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        if packed == "bzip2" and not getattr(error, "errno", None):
            raise _incomplete(name, packed, error) from error
        raise CorpusError(
            f"{brief(source)} cannot be read ({getattr(error, 'strerror', None) or error}); check "
            "its path and permissions."
        ) from error


def _opened(source: str, stdin: BinaryIO | None) -> contextlib.AbstractContextManager[Any]:
    """The file; stdin is left open."""
    if source != "-":
        return Path(source).open("rb")
    stdin = stdin or getattr(sys.stdin, "buffer", None)
    if stdin is None:
        raise CorpusError("There is no standard input to read; pipe a text in, or name a file.")
    return contextlib.nullcontext(stdin)


def _head(file: Any) -> bytes:
    """The first block of a file: enough to know how it is compressed."""
    head = b""
    while filetype.may_be_compressed(head):
        block = _read(file)
        if not block:
            break
        head += block
    return head


def _read(file: Any) -> bytes:
    """The next block; of a pipe or terminal, what there is."""
    return getattr(file, "read1", file.read)(BLOCK)


def _blocks(file: Any) -> Iterator[bytes]:
    while block := _read(file):
        yield block


class _Joined:
    """A file from its beginning, after its first bytes were read.

    Args:
        head: Those bytes.
        file: The rest.
    """

    def __init__(self, head: bytes, file: _Readable):
        self._head, self._file = io.BytesIO(head), file

    def read(self, size: int = -1) -> bytes:
        return self._head.read(size) or self._file.read(size)


def peek_stdin() -> tuple[bytes, Any]:
    """The first bytes of stdin, and a file to read that begins with them.

    Raises:
        CorpusError: There is no standard input.
    """
    with _opened("-", None) as file:
        head = _head(file)
        return head, _Joined(head, file)


class _ZstdError(Exception):
    """A zstd file is damaged, or cut."""


@contextlib.contextmanager
def _unpacked(file: Any, packed: str, name: str) -> Iterator[Any]:
    """The content of a compressed file."""
    if packed == "zstd":
        yield _Zstd(file, name)
        return
    kinds: dict[str, Callable[[Any], Any]] = {
        "gzip": lambda fileobj: gzip.GzipFile(fileobj=fileobj),
        "bzip2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
    }
    with kinds[packed](file) as content:
        yield content


class _Zstd:
    """The content of a zstd file, as a file to read.

    Raises:
        CorpusError: The package zstandard is not installed.
    """

    def __init__(self, file: Any, name: str):
        try:
            import zstandard
        except ImportError:
            raise CorpusError(
                f"{name} is compressed with zstd, which needs the package zstandard; install it "
                "with: pip install zstandard, or unpack the file first."
            ) from None
        self._error, self._file = zstandard.ZstdError, file
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._unpacker, self._begun = self._new(), False

    def read(self, size: int = -1) -> bytes:
        """The next bytes, about `size` at most times the rate of compression; b"" at the end."""
        try:
            while True:
                if self._unpacker.eof:
                    block = self._unpacker.unused_data
                    self._unpacker, self._begun = self._new(), False
                else:
                    block = b""
                block = block or self._file.read(1 << 16)
                if not block:
                    if self._begun:
                        raise _ZstdError("it ends too early")
                    return b""
                self._begun = True
                if content := self._unpacker.decompress(block):
                    return content
        except self._error as error:
            raise _ZstdError(str(error)) from error


def _incomplete(name: str, packed: str | None, error: Exception) -> CorpusError:
    return CorpusError(
        f"{name} is not a complete {packed} file ({error}); create or download it again."
    )


def read_text(source: str, config: CorpusConfig, remedy: Remedy) -> str | bytes:
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
    empty: Any = b"" if config.unit == "byte" else ""
    blocks = open_blocks(source, None, config.unit == "char")
    return empty.join(read_pieces(blocks, source, config, remedy))


def read_pieces(
    blocks: Iterable[bytes],
    source: str,
    config: CorpusConfig,
    remedy: Remedy = FIT,
    line_ends: LineEnds | None = None,
) -> Iterator[Any]:
    """The text of a file in pieces, as a corpus is read: the bytes, or decoded and normalized.

    Args:
        blocks: Its content.
        source: Its path, or '-' for stdin.
        config: How to read it.
        remedy: Advice in an error about its content.
        line_ends: Counts its line ends.

    Raises:
        CorpusError: It does not decode, or is not text.
    """
    pieces: Any = blocks
    if config.unit == "char":
        pieces = decoded(blocks, shown_name(source), config, remedy, line_ends)
    return records.listed(pieces, config) if config.records else pieces


class LineEnds:
    """Counts of the ways in which lines end.

    Attributes:
        counts: How often each ended a line, by its name.
    """

    def __init__(self) -> None:
        names = ("\\n", "\\r\\n", "\\r", "U+0085", "U+2028", "U+2029")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)

    def add(self, text: str, lines: bool) -> None:
        """Count those of a piece of a text.

        Args:
            text: The piece.
            lines: Whether U+0085, U+2028 and U+2029 end lines too.
        """
        if lines and not text.isascii():
            for char in _MORE_LINE_ENDS:
                self.counts[f"U+{ord(char):04X}"] += text.count(char)
        both = text.count("\r\n")
        self.counts["\\r\\n"] += both
        self.counts["\\r"] += text.count("\r") - both
        self.counts["\\n"] += text.count("\n") - both


def decoded(
    blocks: Iterable[bytes],
    name: str,
    config: CorpusConfig,
    remedy: Remedy = FIT,
    line_ends: LineEnds | None = None,
) -> Iterator[str]:
    """Decode, check and normalize a file.

    Args:
        blocks: Its content.
        name: Its name in errors.
        config: Encoding, normalization and line ends.
        remedy: Advice in an error about its content.
        line_ends: Counts its line ends.

    Yields:
        Pieces of the text. Each ends where normalization cannot combine it with the next.

    Raises:
        CorpusError: It does not decode, or is not text.
    """
    decoder = codecs.getincrementaldecoder(config.encoding)("strict")
    finish = _finisher(config, line_ends)
    carry, read, first, head, before = "", 0, True, b"", b""

    for block, final in _with_last(blocks):
        if len(head) < filetype.HEAD and block:
            head += block[: filetype.HEAD]
            if not read:
                filetype.check(head, name, config.encoding, remedy)
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # The error's object starts with bytes held back from earlier blocks.
            offset = read + len(block) - len(error.object) + error.start
            at = len(before) + offset - read
            source = filetype.Source(name, config.encoding, head, remedy)
            raise filetype.not_decoded(source, error, offset, before + block, at) from None
        except UnicodeError as error:
            raise CorpusError(
                f"{name} is not {config.encoding} ({error}); name its --encoding, or {remedy.text}."
            ) from None
        if first and text:
            text, first = text.removeprefix("\N{BYTE ORDER MARK}"), False
        if (at := text.find("\0")) >= 0:
            source = filetype.Source(name, config.encoding, head, remedy)
            raise filetype.with_nul(source, text, at, read + at)
        read, before = read + len(block), (block or before)[-codepages.SAMPLE :]
        text = carry + text
        cut = len(text) if final else _safe_cut(text)
        carry = text[cut:]
        if cut:
            yield finish(text[:cut])


def _finisher(config: CorpusConfig, line_ends: LineEnds | None) -> Callable[[str], str]:
    """A function that counts and replaces the line ends of a text, and normalizes it."""
    form = _normalizer(config.normalize)

    def finish(text: str) -> str:
        if line_ends:
            line_ends.add(text, config.lines and not config.keep_line_ends)
        if not config.keep_line_ends:
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            if config.lines and not text.isascii():
                for char in _MORE_LINE_ENDS:
                    text = text.replace(char, "\n")
        return form(text)

    return finish


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
            with quiet():
                import tensorflow_text
        except ImportError:
            return normalize(text, form)
        return tensorflow_text.normalize_utf8(text, form.upper()).numpy().decode("utf-8")

    return apply
