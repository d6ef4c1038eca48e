"""Files, folders, stdin and .gz to one memory-mapped array of symbols, cached by content.

A text is read in blocks and never held whole. Each distinct character gets a symbol in order of
first appearance (ASCII keeps its codes), written in the smallest integer type that holds them all;
the vocabulary, which depends on the training part alone, is applied when windows are cut.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import json
import os
import re
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_charlm.config import CorpusConfig, expect
from keras_charlm.errors import CorpusError
from keras_charlm.files import lock
from keras_charlm.vocabulary import Vocabulary, normalize

BLOCK = 1 << 22  # bytes read at a time
NEWLINE = 10  # symbol of "\n": ASCII symbols are their own codes
NAMES = Path(__file__).parent / "data" / "names.txt"
_CACHE_DAYS = 30
_TYPES = ("uint8", "uint16", "uint32")  # of symbols, and the suffixes of their files
_KEY = re.compile("[0-9a-f]{64}")  # of a text in the cache
_TEMPORARY = re.compile(r"\d+-\d+\.tmp")
_JAMO = (("\u1100", "\u11ff"), ("\ua960", "\ua97f"), ("\ud7b0", "\ud7ff"))  # compose to Hangul


@dataclass(frozen=True)
class Corpus:
    """A prepared text.

    Args:
        name: Stem of the first file's name.
        files: The paths it was read from, as given; '-' for stdin, none for the embedded list.
        symbols: Memory-mapped unsigned integers (N,).
        alphabet: Code point (or byte value) of each symbol, int64 (A,).
        size: Bytes read.
        sha256: Hash of the content and of how it was read.
        notices: What the reader should be told: files skipped, for example.
        config: How it was read.
    """

    name: str
    files: tuple[str, ...]
    symbols: np.ndarray
    alphabet: np.ndarray
    size: int
    sha256: str
    notices: tuple[str, ...]
    config: CorpusConfig

    def counts(self, ranges: Iterable[tuple[int, int]]) -> np.ndarray:
        """How often each symbol stands in the ranges [start, stop), int64 (A,)."""
        total = np.zeros(len(self.alphabet), np.int64)
        dtype = self.symbols.dtype
        for start, stop in ranges:
            for at in range(start, stop, BLOCK):
                # Read, not mapped: mapped pages would count as this process's memory.
                block = np.fromfile(self.symbols.filename, dtype, min(BLOCK, stop - at),
                                    offset=at * dtype.itemsize)
                total += np.bincount(block, minlength=len(total))
        return total

    def vocabulary(self, counts: np.ndarray) -> Vocabulary:
        """The characters counted at least `min_count` times.

        Raises:
            CorpusError: Fewer than two are left.
        """
        kept = np.sort(self.alphabet[counts >= self.config.min_count])
        if len(kept) < 2:
            raise CorpusError(
                f"The training part of {self.name} has {len(kept)} distinct "
                f"{self.config.unit}{'' if len(kept) == 1 else 's'} seen at least "
                f"{self.config.min_count} times; a model needs at least 2, so give it more text."
            )
        return Vocabulary(self.config.unit, tuple(int(c) for c in kept))

    def text(self, start: int, stop: int) -> bytes:
        """A piece as UTF-8, or as it is for bytes."""
        return _to_bytes(self.alphabet[self.symbols[start:stop]], self.config.unit)

    def lines(self) -> Lines:
        """The lines, empty ones left out."""
        starts, lengths, prints = [], [], []
        at = 0
        while at < len(self.symbols):
            stop = min(at + BLOCK, len(self.symbols))
            ends = at + np.flatnonzero(self.symbols[at:stop] == NEWLINE)
            while not len(ends):  # a line longer than a block
                stop = min(stop + BLOCK, len(self.symbols))
                ends = at + np.flatnonzero(self.symbols[at:stop] == NEWLINE)
            begins = np.concatenate([[at], ends[:-1] + 1])
            rows = self.text(at, int(ends[-1])).split(b"\n")
            keep = np.array([bool(row) for row in rows])
            starts.append(begins[keep])
            lengths.append((ends - begins)[keep])
            prints.append(fingerprints(row for row in rows if row))
            at = int(ends[-1]) + 1
        if not any(len(part) for part in prints):
            raise CorpusError(
                f"{_names(list(self.files))} has no line that is not empty; "
                "--lines needs one document a line."
            )
        return Lines(*map(np.concatenate, (starts, lengths, prints)))

    def looks_like_list(self) -> bool:
        """Whether the beginning reads like a list of short, distinct lines."""
        rows = self.text(0, min(len(self.symbols), 100_000)).split(b"\n")[:-1]
        if len(rows) < 30:
            return False
        lengths = sorted(len(row) for row in rows)
        return (lengths[len(rows) // 20] > 0 and lengths[len(rows) * 19 // 20] <= 60
                and len(set(rows)) > 0.8 * len(rows)
                and sum(row.endswith((b",", b".", b";", b"{")) for row in rows) < 0.2 * len(rows))


@dataclass(frozen=True)
class Lines:
    """Where lines stand in a corpus: starts and lengths int64 (L,), fingerprints uint64 (L,)."""

    starts: np.ndarray
    lengths: np.ndarray
    fingerprints: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: np.ndarray) -> Lines:
        return Lines(self.starts[index], self.lengths[index], self.fingerprints[index])

    def distinct(self) -> Lines:
        """The first copy of each line."""
        return self.take(np.sort(np.unique(self.fingerprints, return_index=True)[1]))


def fingerprints(lines: Iterable[bytes]) -> np.ndarray:
    """64-bit BLAKE2b of each line, uint64 (L,): equal for equal lines, and for no others in
    practice (ten million lines collide with a probability of 3 in a million)."""
    digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
    return np.frombuffer(digests, "<u8")


def prepare(paths: Iterable[str | Path], config: CorpusConfig | None = None,
            stdin: BinaryIO | None = None) -> Corpus:
    """Read texts into one memory-mapped array, or find them in the cache.

    Args:
        paths: Files, folders (with `config.glob`), '-' for stdin; '.gz' is unpacked. None at all
            is the embedded list of first names.
        config: How to read them.
        stdin: What '-' reads; by default the process's standard input.

    Raises:
        CorpusError: Something cannot be read, is no text, or there is nothing in it.
    """
    config = config or CorpusConfig()
    paths = [str(path) for path in paths] or [str(NAMES)]
    _check_encoding(config.encoding)
    files = sources(paths, config)
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        return _prepare(paths, files, config, folder, stdin)
    except OSError as error:
        raise CorpusError(
            f"The prepared text cannot be kept in {folder} ({error.strerror or error}); make room "
            "there, or name another folder in the variable KERAS_CHARLM_CACHE."
        ) from error


def reopen(files: tuple[str, ...], config: CorpusConfig, sha256: str,
           stdin: BinaryIO | None = None) -> Corpus:
    """The text that a training began with: from the cache, or read again.

    Raises:
        CorpusError: It is not in the cache, and the files are gone or have changed since.
    """
    if cached := _cached(cache_folder(), sha256):
        return _corpus(list(files) or [str(NAMES)], cached, config)
    if "-" in files and stdin is None:
        raise CorpusError(
            "The text came from stdin and is no longer in the cache; pipe it in again: "
            "... | kcharlm fit - --resume MODEL"
        )
    text = prepare(files, config, stdin)
    if text.sha256 != sha256:
        raise CorpusError(
            f"{_names(list(files))} changed since the training began; bring the old text back, or "
            "start anew from the model with --init-from."
        )
    return text


def _check_encoding(name: str) -> None:
    """Refuse what is no encoding of text: Python's list has hex and zip too."""
    with contextlib.suppress(LookupError, ValueError):
        if codecs.lookup(name)._is_text_encoding and codecs.getincrementaldecoder(name):
            return
    raise CorpusError(
        f"There is no encoding {name!r}; name one that Python knows, e.g. latin-1.")


def cache_folder() -> Path:
    """Where prepared texts are kept: $KERAS_CHARLM_CACHE, or the user's cache folder."""
    if named := os.environ.get("KERAS_CHARLM_CACHE"):
        return Path(named)
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    return Path(base or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_charlm"


def sources(paths: Iterable[str], config: CorpusConfig) -> list[str]:
    """The files behind the paths, folders opened in sorted order.

    Raises:
        CorpusError: A path leads nowhere, or to a folder in which there is nothing to read.
    """
    found = []
    for path in paths:
        if path != "-" and _is(path, Path.is_dir):
            if config.glob is None:
                raise CorpusError(
                    f"{path} is a folder; say which of its files to read, e.g. --glob '*.txt'."
                )
            files = sorted(str(p) for p in Path(path).rglob(config.glob) if p.is_file())
            if not files:
                raise CorpusError(
                    f"The folder {path} has no file named like {config.glob!r}; "
                    "change --glob or the folder."
                )
            found += files
        else:
            if not (path == "-" or config.skip_unreadable or _is(path, Path.exists)):
                next(_open(path, None), None)  # tells why not
            found.append(path)
    return found


def _is(path: str, kind: Callable[[Path], bool]) -> bool:
    """What a path is; a path that no file can have is nothing."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


def _prepare(paths, files, config, folder, stdin) -> Corpus:
    notices: list[str] = []
    # Files can be read twice, so their content may be known already; stdin and pipes cannot.
    if not any(s == "-" or (_is(s, Path.exists) and not _is(s, Path.is_file)) for s in files):
        digest = hashlib.sha256(_recipe(config))
        readable = []
        for source in files:
            try:
                for block in _open(source, None):
                    digest.update(block)
                digest.update(b"\0end\0")
                readable.append(source)
            except CorpusError as error:
                _skip(error, config, notices)
        files = readable
        if cached := _cached(folder, digest.hexdigest()):
            return _corpus(paths, cached, config)
    digest, size = hashlib.sha256(_recipe(config)), 0
    with _Writer(folder) as writer:
        if config.lines:
            writer.write("\n")  # the newline starts a sample as well
        for source in files:
            begun = writer.length
            try:
                size += _read(source, stdin, config, writer, digest)
            except CorpusError as error:
                writer.truncate(begun)
                _skip(error, config, notices)
        if writer.length == int(config.lines):
            raise CorpusError(
                f"{_names(paths)} {'is' if len(paths) == 1 else 'are'} empty; "
                "give some text."
            )
        _save(folder, digest.hexdigest(), writer, size, notices)
    # A file that changes between the two readings is kept under the hash of what was read.
    return _corpus(paths, _cached(folder, digest.hexdigest()), config)


def _recipe(config: CorpusConfig) -> bytes:
    """What decides, besides the content, how a text is prepared."""
    if config.unit == "byte":
        return f"byte lines={config.lines} 1".encode()
    return (f"char {config.encoding} {config.normalize} keep={config.keep_line_ends} "
            f"lines={config.lines} 1").encode()


def _names(paths: list[str]) -> str:
    shown = ["stdin" if path == "-" else path for path in paths[:3]]
    return ", ".join(shown) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _skip(error: CorpusError, config: CorpusConfig, notices: list[str]) -> None:
    if not config.skip_unreadable:
        raise error
    notices.append(f"Skipped: {error}")


def _open(source: str, stdin: BinaryIO | None) -> Iterator[bytes]:
    """The blocks of a file, unpacked."""
    if source == "-" and stdin is not None:
        expect("stdin", stdin.read(0) if hasattr(stdin, "read") else stdin, bytes,
               "a file opened for bytes")
    try:
        if source == "-":
            stdin = stdin or getattr(sys.stdin, "buffer", None)
            if stdin is None:
                raise CorpusError("There is no standard input to read; pipe a text in, or name a "
                                  "file.")
            yield from iter(lambda: stdin.read(BLOCK), b"")
            return
        opener = gzip.open if source.endswith(".gz") else open
        with opener(source, "rb") as stream:
            yield from iter(lambda: stream.read(BLOCK), b"")
    except FileNotFoundError:
        raise CorpusError(f"There is no file {source}; check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{source} is no whole gzip file ({error}); unpack or fetch it again.") \
            from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise CorpusError(
            f"{source} cannot be read ({getattr(error, 'strerror', None) or error}); check its "
            "path and permissions."
        ) from error


def _read(source, stdin, config, writer, digest) -> int:
    """Append one file to the writer; returns its bytes."""
    size = 0

    def blocks():
        nonlocal size
        for block in _open(source, stdin):
            digest.update(block)
            size += len(block)
            yield block
        digest.update(b"\0end\0")

    begun = writer.length
    if config.unit == "byte":
        for block in blocks():
            writer.write(block)
    else:
        for text in _texts(blocks(), "stdin" if source == "-" else source, config):
            writer.write(text)
    if config.lines and writer.length > begun and not writer.ends_line:
        writer.write(b"\n" if config.unit == "byte" else "\n")
    return size


def _texts(blocks: Iterable[bytes], name: str, config: CorpusConfig) -> Iterator[str]:
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
    return not (jamo or unicodedata.combining(char) or unicodedata.category(char)[0] == "M") \
        and unicodedata.is_normalized("NFKC", char)


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


class _Writer:
    """Symbols on their way to the cache: assigns them, and widens their type when it must."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.alphabet = list(range(128))
        self.dtype = np.dtype(np.uint8)
        self.length = 0
        self.ends_line = False
        # Symbol of each code, -1 for none yet; made when the first code above ASCII comes.
        self._symbol: np.ndarray | None = None

    def __enter__(self) -> _Writer:
        self.path, self._file = _temporary(self.folder)
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            self.alphabet = list(range(256))
            symbols = np.frombuffer(text, np.uint8)
        elif text.isascii():
            symbols = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            symbols = self._assign(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))
        self._widen()
        self._file.write(symbols.astype(self.dtype, copy=False).data)
        self.length += len(symbols)
        self.ends_line = bool(len(symbols)) and int(symbols[-1]) == NEWLINE

    def truncate(self, length: int) -> None:
        self.length = length
        self._file.seek(length * self.dtype.itemsize)
        self._file.truncate()

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        if sys.platform == "win32":  # which renames no open file, and removes none either
            self._file.close()

    def _assign(self, codes: np.ndarray) -> np.ndarray:
        if self._symbol is None:
            self._symbol = np.full(0x110000, -1, np.int32)
            self._symbol[:128] = np.arange(128)
        symbols = self._symbol[codes]
        if symbols.min() < 0:
            fresh = codes[symbols < 0]
            if ((fresh >= 0xD800) & (fresh < 0xE000)).any():
                raise CorpusError(
                    "The text has lone surrogates, halves of characters that no file may hold "
                    "alone; mend it, name its right --encoding, or train with --unit byte.")
            _, at = np.unique(fresh, return_index=True)
            fresh = fresh[np.sort(at)]
            self._symbol[fresh] = np.arange(len(self.alphabet), len(self.alphabet) + len(fresh))
            self.alphabet += fresh.tolist()
            symbols = self._symbol[codes]
        return symbols

    def _widen(self) -> None:
        wide = np.min_scalar_type(len(self.alphabet) - 1)
        if wide == self.dtype:
            return
        narrow_path, narrow = self.path, self._file
        self.path, self._file = _temporary(self.folder)
        try:
            narrow.seek(0)
            while block := narrow.read(BLOCK):
                self._file.write(np.frombuffer(block, self.dtype).astype(wide).data)
        finally:
            narrow.close()
            narrow_path.unlink()
        self.dtype = wide


def _temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file that `_tidy` leaves alone while it is open."""
    while True:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}.tmp"
        file = path.open("w+b")
        # Another process may have taken it for a dead one's before it was locked.
        if lock(file) and path.exists():
            return path, file
        file.close()


def _save(folder: Path, key: str, writer: _Writer, size: int, notices: list[str]) -> None:
    """Put the written symbols into the cache; the JSON comes last and makes them count."""
    writer.finish()
    writer.path.replace(folder / f"{key}.{writer.dtype.name}")
    header = {"dtype": writer.dtype.name, "length": writer.length, "size": size, "sha256": key,
              "alphabet": writer.alphabet, "notices": notices}
    path, file = _temporary(folder)
    try:
        with file:
            file.write(json.dumps(header).encode())
        path.replace(folder / f"{key}.json")
    finally:
        path.unlink(missing_ok=True)


def _cached(folder: Path, key: str) -> dict | None:
    """The header of a cached text with its symbols mapped, or None."""
    if not _KEY.fullmatch(key):  # a model's folder can say anything
        return None
    try:
        header = json.loads((folder / f"{key}.json").read_text())
        if header["dtype"] not in _TYPES:
            return None
        path, dtype = folder / f"{key}.{header['dtype']}", np.dtype(header["dtype"])
        if path.stat().st_size != header["length"] * dtype.itemsize:
            return None
        header["symbols"] = np.memmap(path, dtype, "r")
        header["alphabet"] = np.array(header["alphabet"], np.int64)
        header["notices"] = tuple(map(str, header["notices"]))
        os.utime(folder / f"{key}.json")  # used today: `_tidy` spares it
        return header
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _corpus(paths: list[str], header: dict, config: CorpusConfig) -> Corpus:
    first = "pipe" if _is(paths[0], Path.is_fifo) else paths[0]
    path = Path("stdin" if first == "-" else first).resolve()
    stem = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    return Corpus(
        name=stem or "corpus", files=() if paths == [str(NAMES)] else tuple(paths),
        symbols=header["symbols"], alphabet=header["alphabet"], size=header["size"],
        sha256=header["sha256"], notices=header["notices"], config=config)


def _tidy(folder: Path) -> None:
    """Drop texts unused for a month, and what a killed process left behind."""
    now = time.time()
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(path.name):
                with path.open("r+b") as file:
                    if not lock(file):
                        continue
                    if sys.platform == "win32":
                        file.close()
                    path.unlink()
            elif _KEY.fullmatch(path.stem):  # the folder may hold other people's files
                header = path.with_suffix(".json")
                # Symbols without their header are a moment old, or a killed process's.
                days = _CACHE_DAYS if header.exists() else 1
                if (header if header.exists() else path).stat().st_mtime < now - days * 86_400:
                    for part in folder.glob(f"{path.stem}.*"):
                        part.unlink()


def _to_bytes(codes: np.ndarray, unit: str) -> bytes:
    if unit == "byte":
        return codes.astype(np.uint8).tobytes()
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
