"""Files, folders, stdin and .gz to one memory-mapped array of symbols, cached by content.

A text is read in blocks and never held whole. Each distinct character gets a symbol in order of
first appearance (ASCII keeps its codes), written in the smallest integer type that holds them all;
the vocabulary, which depends on the training part alone, is applied when windows are cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text import decoding
from keras_charlm.text.cache import Writer, cache_folder, cached, save, tidy
from keras_charlm.text.decoding import NEWLINE, check_encoding, decoded, open_blocks
from keras_charlm.text.vocabulary import Vocabulary

NAMES = Path(__file__).parent / "data" / "names.txt"


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
            for at in range(start, stop, decoding.BLOCK):
                # Read, not mapped: mapped pages would count as this process's memory.
                block = np.fromfile(
                    self.symbols.filename,
                    dtype,
                    min(decoding.BLOCK, stop - at),
                    offset=at * dtype.itemsize,
                )
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
            stop = min(at + decoding.BLOCK, len(self.symbols))
            ends = at + np.flatnonzero(self.symbols[at:stop] == NEWLINE)
            while not len(ends):  # a line longer than a block
                stop = min(stop + decoding.BLOCK, len(self.symbols))
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
        return (
            lengths[len(rows) // 20] > 0
            and lengths[len(rows) * 19 // 20] <= 60
            and len(set(rows)) > 0.8 * len(rows)
            and sum(row.endswith((b",", b".", b";", b"{")) for row in rows) < 0.2 * len(rows)
        )


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


def prepare(
    paths: Iterable[str | Path], config: CorpusConfig | None = None, stdin: BinaryIO | None = None
) -> Corpus:
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
    check_encoding(config.encoding)
    files = sources(paths, config)
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder)
        return _prepare(paths, files, config, folder, stdin)
    except OSError as error:
        raise CorpusError(
            f"The prepared text cannot be kept in {folder} ({error.strerror or error}); make room "
            "there, or name another folder in the variable KERAS_CHARLM_CACHE."
        ) from error


def reopen(
    files: tuple[str, ...], config: CorpusConfig, sha256: str, stdin: BinaryIO | None = None
) -> Corpus:
    """The text that a training began with: from the cache, or read again.

    Raises:
        CorpusError: It is not in the cache, and the files are gone or have changed since.
    """
    if header := cached(cache_folder(), sha256):
        return _corpus(list(files) or [str(NAMES)], header, config)
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
                next(open_blocks(path, None), None)  # tells why not
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
                for block in open_blocks(source, None):
                    digest.update(block)
                digest.update(b"\0end\0")
                readable.append(source)
            except CorpusError as error:
                _skip(error, config, notices)
        files = readable
        if header := cached(folder, digest.hexdigest()):
            return _corpus(paths, header, config)
    digest, size = hashlib.sha256(_recipe(config)), 0
    with Writer(folder) as writer:
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
                f"{_names(paths)} {'is' if len(paths) == 1 else 'are'} empty; give some text."
            )
        save(folder, digest.hexdigest(), writer, size, notices)
    # A file that changes between the two readings is kept under the hash of what was read.
    return _corpus(paths, cached(folder, digest.hexdigest()), config)


def _recipe(config: CorpusConfig) -> bytes:
    """What decides, besides the content, how a text is prepared."""
    if config.unit == "byte":
        return f"byte lines={config.lines} 1".encode()
    return (
        f"char {config.encoding} {config.normalize} keep={config.keep_line_ends} "
        f"lines={config.lines} 1"
    ).encode()


def _names(paths: list[str]) -> str:
    shown = ["stdin" if path == "-" else path for path in paths[:3]]
    return ", ".join(shown) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _skip(error: CorpusError, config: CorpusConfig, notices: list[str]) -> None:
    if not config.skip_unreadable:
        raise error
    notices.append(f"Skipped: {error}")


def _read(source, stdin, config, writer, digest) -> int:
    """Append one file to the writer; returns its bytes."""
    size = 0

    def blocks():
        nonlocal size
        for block in open_blocks(source, stdin):
            digest.update(block)
            size += len(block)
            yield block
        digest.update(b"\0end\0")

    begun = writer.length
    if config.unit == "byte":
        for block in blocks():
            writer.write(block)
    else:
        for text in decoded(blocks(), "stdin" if source == "-" else source, config):
            writer.write(text)
    if config.lines and writer.length > begun and not writer.ends_line:
        writer.write(b"\n" if config.unit == "byte" else "\n")
    return size


def _corpus(paths: list[str], header: dict, config: CorpusConfig) -> Corpus:
    first = "pipe" if _is(paths[0], Path.is_fifo) else paths[0]
    path = Path("stdin" if first == "-" else first).resolve()
    stem = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    return Corpus(
        name=stem or "corpus",
        files=() if paths == [str(NAMES)] else tuple(paths),
        symbols=header["symbols"],
        alphabet=header["alphabet"],
        size=header["size"],
        sha256=header["sha256"],
        notices=header["notices"],
        config=config,
    )


def _to_bytes(codes: np.ndarray, unit: str) -> bytes:
    if unit == "byte":
        return codes.astype(np.uint8).tobytes()
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
