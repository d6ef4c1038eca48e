"""Files, folders and stdin to one memory-mapped array of symbols, cached by content.

A text is read in blocks and never held in memory whole. Its distinct characters are numbered, and
these symbols are stored in the smallest integer type that fits. The vocabulary depends on the
training part alone; it is applied when windows are read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text import cache, decoding, filetype
from keras_charlm.text.cache import Entry, SymbolWriter
from keras_charlm.text.decoding import (
    LineEnds,
    check_encoding,
    open_blocks,
    read_pieces,
    strip_blanks,
)
from keras_charlm.text.filetype import FIT, SUFFIXES, Remedy
from keras_charlm.text.sources import can_be_read_again, is_kind, sources
from keras_charlm.text.vocabulary import NEWLINE, Vocabulary

NAMES = Path(__file__).parent / "data" / "names.txt"


@dataclass(frozen=True)
class Corpus:
    """A prepared text.

    Args:
        name: Stem of the first file's name.
        files: The paths as given; '-' for stdin, empty for the bundled list of names.
        file_count: Files that were read; those of folders are counted one by one.
        symbols: Memory-mapped unsigned integers (N,).
        alphabet: Code point (or byte value) of each symbol, int64 (A,).
        size: Bytes read.
        sha256: Hash of the content and of how it was read.
        notices: Messages for the user, such as files that were skipped.
        config: How it was read.
    """

    name: str
    files: tuple[str, ...]
    file_count: int
    symbols: np.memmap
    alphabet: np.ndarray
    size: int
    sha256: str
    notices: tuple[str, ...]
    config: CorpusConfig

    def counts(self, ranges: Iterable[tuple[int, int]]) -> np.ndarray:
        """How often each symbol occurs in the ranges [start, stop), int64 (A,)."""
        total = np.zeros(len(self.alphabet), np.int64)
        path, dtype = str(self.symbols.filename), self.symbols.dtype
        for start, stop in ranges:
            for at in range(start, stop, decoding.BLOCK):
                # Read, not mapped: mapped pages would count as this process's memory.
                block = np.fromfile(
                    path,
                    dtype,
                    min(decoding.BLOCK, stop - at),
                    offset=at * dtype.itemsize,
                )
                total += np.bincount(block, minlength=len(total))
        return total

    def vocabulary(self, counts: np.ndarray) -> Vocabulary:
        """The vocabulary: characters that occur at least `min_count` times.

        Args:
            counts: Occurrences of each symbol in the training part (A,).

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
        """The symbols [start, stop) as UTF-8; for a text of bytes, the bytes themselves."""
        return _to_bytes(self.alphabet[self.symbols[start:stop]], self.config.unit)

    def lines(self) -> Lines:
        """The lines, without blank ones. The fingerprints ignore blanks at their ends.

        Raises:
            CorpusError: There are none.
        """
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
            if self.config.keep_blanks:  # two lines that differ in blanks are copies of one
                rows = [_strip(row, self.config.unit) for row in rows]
            keep = np.array([bool(row) for row in rows])
            starts.append(begins[keep])
            lengths.append((ends - begins)[keep])
            prints.append(fingerprints(row for row in rows if row))
            at = int(ends[-1]) + 1
        if not any(len(part) for part in prints):
            raise CorpusError(
                f"{_names(list(self.files))} has no line that is not empty; "
                "a list needs one document a line."
            )
        return Lines(*map(np.concatenate, (starts, lengths, prints)))


@dataclass(frozen=True)
class Lines:
    """Lines of a corpus: starts and lengths in symbols, int64 (L,); fingerprints uint64 (L,)."""

    starts: np.ndarray
    lengths: np.ndarray
    fingerprints: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: np.ndarray | slice) -> Lines:
        """The lines with these indices, in this order."""
        return Lines(self.starts[index], self.lengths[index], self.fingerprints[index])

    def distinct(self) -> Lines:
        """The first copy of each line."""
        return self.take(np.sort(np.unique(self.fingerprints, return_index=True)[1]))


def fingerprints(lines: Iterable[bytes]) -> np.ndarray:
    """64-bit BLAKE2b of each line, uint64 (L,).

    Collisions are negligible: among ten million lines the probability of one is 3 in a million.
    """
    digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
    return np.frombuffer(digests, "<u8")


def prepare(
    paths: Iterable[str | Path],
    config: CorpusConfig | None = None,
    stdin: BinaryIO | None = None,
    remedy: Remedy = FIT,
) -> Corpus:
    """Read texts into one memory-mapped array, or find them in the cache.

    Args:
        paths: Files, folders (with `config.glob`), '-' for stdin; what gzip, bzip2, xz or zstd
            compressed is unpacked. If empty, the bundled list of first names is read.
        config: How to read them.
        stdin: Stream that '-' reads; by default the process's standard input.
        remedy: Advice in an error about a file's content.

    Returns:
        The prepared text.

    Raises:
        CorpusError: A file cannot be read or is not text, or all of them are empty.
    """
    config = config or CorpusConfig()
    names = [str(path) for path in paths] or [str(NAMES)]
    check_encoding(config.encoding)
    files = sources(names, config)
    folder = cache.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache.tidy(folder)
        return _prepare(names, files, config, folder, stdin, remedy)
    except OSError as error:
        raise CorpusError(
            f"The prepared text cannot be kept in {folder} ({error.strerror or error}); make room "
            "there, or name another folder in the variable KERAS_CHARLM_CACHE."
        ) from error


def check(paths: Iterable[str | Path], config: CorpusConfig) -> BinaryIO | None:
    """Raise early the errors that `prepare` raises, before anything slow is loaded.

    Files are prepared, and later found in the cache; of stdin only the first bytes are looked at.

    Args:
        paths, config: As for `prepare`.

    Returns:
        What to read instead of stdin, with its first bytes; None if stdin is not among the paths.

    Raises:
        CorpusError: As for `prepare`.
    """
    names = [str(path) for path in paths]
    if "-" not in names:
        if names:
            prepare(names, config)
        return None
    check_encoding(config.encoding)
    sources(names, config)
    head, stdin = decoding.peek_stdin()
    if config.unit == "char" and not filetype.compression(head):
        filetype.check(head, "stdin", config.encoding, FIT)
    return stdin


def reopen(
    files: tuple[str, ...], config: CorpusConfig, sha256: str, stdin: BinaryIO | None = None
) -> Corpus:
    """The text that a training started with: from the cache, or read again.

    Args:
        files: `Corpus.files` of the text.
        config: How it was read.
        sha256: `Corpus.sha256` of the text.
        stdin: Stream that '-' reads.

    Returns:
        The same text.

    Raises:
        CorpusError: It is not in the cache, and the files are gone or have changed since.
    """
    if entry := cache.find(cache.cache_folder(), sha256):
        return _corpus(list(files) or [str(NAMES)], entry, config)
    if "-" in files and stdin is None:
        raise CorpusError(
            "The text came from stdin and is no longer in the cache; pipe it in again: "
            "... | kcharlm fit - --resume MODEL"
        )
    text = prepare(files, config, stdin)
    if text.sha256 != sha256:
        raise CorpusError(
            f"{_names(list(files))} changed since the training began; restore the old text, or "
            "train a new model from this one with --init-from."
        )
    return text


class _Content:
    """The content of one file, hashed and counted as it is read.

    Args:
        source: A path, or '-' for stdin.
        stdin: Stream that '-' reads.
        digest: A hashlib object updated with the files before this one; it is not changed.
        config: How to read it.

    Attributes:
        blocks: Generator of the file's blocks.
        digest: A copy of it, also updated with the blocks read so far.
        size: Bytes read so far.
        whole: Whether the file was read to its end.
    """

    def __init__(self, source: str, stdin: BinaryIO | None, digest: Any, config: CorpusConfig):
        self.digest, self.size, self.whole = digest.copy(), 0, False
        self.blocks = self._read(source, stdin, config)

    def _read(self, source: str, stdin: BinaryIO | None, config: CorpusConfig) -> Iterator[bytes]:
        for block in open_blocks(source, stdin, config.unit == "char"):
            self.digest.update(block)
            self.size += len(block)
            yield block
        self.digest.update(b"\0end\0")
        self.whole = True


def _prepare(
    paths: list[str],
    files: list[str],
    config: CorpusConfig,
    folder: Path,
    stdin: BinaryIO | None,
    remedy: Remedy,
) -> Corpus:
    """Find the text of the files in the cache, or add it.

    Args:
        paths: As the user gave them.
        files: The files that they stand for.
        config: How to read them.
        folder: The cache.
        stdin: Stream that '-' reads.
        remedy: Advice in an error about a file's content.
    """
    unreadable: list[str] = []
    if all(map(can_be_read_again, files)):
        digest, files = _hash_files(files, config, unreadable)
        for incomplete in (False, True) if config.skip_unreadable else (False,):
            for joined in (True, False) if len(files) > 1 else (False,):
                if entry := cache.find(folder, _key(digest, incomplete, joined)):
                    return _corpus(paths, entry, config, unreadable)
    with SymbolWriter(folder) as writer:
        reading = _Reading(writer, config, stdin, remedy)
        for source in files:
            reading.add(source)
        unreadable += reading.unreadable
        if reading.empty:
            raise _nothing_to_read(paths, [*unreadable, *reading.undecodable])
        cache.store(
            folder, reading.key, writer, reading.size, reading.file_count, reading.notices()
        )
    entry = cache.find(folder, reading.key)
    if entry is None:
        raise OSError(f"{reading.key} is gone")
    return _corpus(paths, entry, config, unreadable)


class _Reading:
    """Reads files one after another into a text of the cache.

    Args:
        writer: Gets the text.
        config: How to read them.
        stdin: Stream that '-' reads.
        remedy: Advice in an error about a file's content.

    Attributes:
        size: Bytes read.
        file_count: Files read.
        unreadable, undecodable: A notice for each skipped file.
    """

    def __init__(
        self, writer: SymbolWriter, config: CorpusConfig, stdin: BinaryIO | None, remedy: Remedy
    ):
        self._writer, self._config, self._stdin, self._remedy = writer, config, stdin, remedy
        # Hashed again while reading, because a file may have changed since the first pass.
        self._digest, self._joined = hashlib.sha256(_recipe(config)), False
        self._line_ends = LineEnds()
        self.size, self.file_count = 0, 0
        self.unreadable: list[str] = []
        self.undecodable: list[str] = []
        if config.lines:
            writer.write("\n")  # a newline precedes every line, and starts a sample
        self._first = writer.length

    @property
    def empty(self) -> bool:
        """Whether no file had any text."""
        return self._writer.length == self._first

    @property
    def key(self) -> str:
        """The hash of the text."""
        return _key(self._digest, bool(self.undecodable), self._joined)

    def add(self, source: str) -> None:
        """Append a file, on a new line; or skip it, if that is wanted."""
        writer, begun = self._writer, self._writer.length
        content = _Content(source, self._stdin, self._digest, self._config)
        try:
            joins = self._config.unit == "char" and begun > self._first and not writer.ends_line
            if joins:
                writer.write("\n")
            start = writer.length
            self._append(content, source)
            if writer.length == start:  # it is empty
                writer.truncate(begun)
            elif joins:
                self._joined = True
            self.size, self.file_count = self.size + content.size, self.file_count + 1
        except CorpusError as error:
            reason = _skip(error, self._config)
            writer.truncate(begun)
            with contextlib.suppress(CorpusError):  # hash the rest of the file too
                for _ in content.blocks:
                    pass
            (self.undecodable if content.whole else self.unreadable).append(reason)
        if content.whole:
            self._digest = content.digest

    def _append(self, content: _Content, source: str) -> None:
        config, writer, begun = self._config, self._writer, self._writer.length
        for piece in read_pieces(content.blocks, source, config, self._remedy, self._line_ends):
            writer.write(piece)
        if config.lines and writer.length > begun and not writer.ends_line:
            writer.write(b"\n" if config.unit == "byte" else "\n")

    def notices(self) -> list[str]:
        """What to tell the user about the text."""
        counts = self._line_ends.counts
        if sum(map(bool, counts.values())) < 2:
            return self.undecodable
        kinds = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        kept = "kept as they are" if self._config.keep_line_ends else "all read as \\n"
        return [*self.undecodable, f"Mixed line ends, {kept}: {kinds}."]


def _hash_files(
    files: list[str], config: CorpusConfig, unreadable: list[str]
) -> tuple[Any, list[str]]:
    """Hash the content of all readable files; `unreadable` gets a notice for each other one.

    Returns:
        A hashlib object, and the readable files.
    """
    digest, readable = hashlib.sha256(_recipe(config)), []
    for source in files:
        content = _Content(source, None, digest, config)
        try:
            for _ in content.blocks:
                pass
        except CorpusError as error:
            unreadable.append(_skip(error, config))
        else:
            digest = content.digest
            readable.append(source)
    return digest, readable


def _key(digest: Any, incomplete: bool, joined: bool) -> str:
    """The hash of a text.

    Args:
        digest: Hash of the content and of how it was read.
        incomplete: Whether files that do not decode were left out.
        joined: Whether a newline was added between files.
    """
    digest = digest.copy()
    if incomplete:
        digest.update(b"\0incomplete\0")
    if joined:
        digest.update(b"\0joined\0")
    return digest.hexdigest()


def _recipe(config: CorpusConfig) -> bytes:
    """The settings that determine, besides the content, how a text is prepared."""
    blanks = " blanks" if config.lines and config.keep_blanks else ""
    if config.unit == "byte":
        return f"byte lines={config.lines} 1{blanks}".encode()
    return (
        f"char {config.encoding} {config.normalize} keep={config.keep_line_ends} "
        f"lines={config.lines} 1{blanks}"
    ).encode()


def _names(paths: list[str]) -> str:
    shown = ["stdin" if path == "-" else path for path in paths[:3]]
    return ", ".join(shown) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _skip(error: CorpusError, config: CorpusConfig) -> str:
    """The notice about a skipped file; raises the error if files must not be skipped."""
    if not config.skip_unreadable:
        raise error
    return f"Skipped: {error}"


def _nothing_to_read(paths: list[str], skipped: list[str]) -> CorpusError:
    """The error for a text without any character."""
    if skipped:
        files = f"{len(skipped)} skipped files, the first" if skipped[1:] else "the skipped file"
        reason = skipped[0].removeprefix("Skipped: ")
        return CorpusError(f"Nothing is left to read without {files}: {reason}")
    verb = "is" if len(paths) == 1 else "are"
    return CorpusError(f"{_names(paths)} {verb} empty; give some text.")


def _corpus(
    paths: list[str], entry: Entry, config: CorpusConfig, notices: Sequence[str] = ()
) -> Corpus:
    """A text in the cache as a corpus.

    Args:
        paths: As the user gave them.
        entry: The text.
        config: How it was read.
        notices: Notices besides the entry's own.
    """
    first = "pipe" if is_kind(paths[0], Path.is_fifo) else paths[0]
    path = Path("stdin" if first == "-" else first).resolve()
    name = path.stem if path.suffix in SUFFIXES else path.name
    stem = path.name if path.is_dir() else Path(name).stem
    return Corpus(
        name=stem or "corpus",
        files=() if paths == [str(NAMES)] else tuple(paths),
        file_count=entry.file_count,
        symbols=entry.symbols,
        alphabet=entry.alphabet,
        size=entry.size,
        sha256=entry.key,
        notices=(*notices, *entry.notices),
        config=config,
    )


def _strip(row: bytes, unit: str) -> bytes:
    """A line in UTF-8, or of bytes, without the blanks at both ends."""
    line = strip_blanks(row if unit == "byte" else row.decode("utf-8", "surrogatepass"))
    return line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")


def _to_bytes(codes: np.ndarray, unit: str) -> bytes:
    """The text of codes (n,) as UTF-8, or the bytes themselves."""
    if unit == "byte":
        return codes.astype(np.uint8).tobytes()
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
