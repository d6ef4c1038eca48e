"""Files, folders and stdin to one memory-mapped array of symbols, cached by content.

A text is read in blocks and never held in memory whole. Its distinct characters are numbered, and
these symbols are stored in the smallest integer type that fits. The vocabulary depends on the
training part alone; it is applied when windows are read.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.files import is_kind
from keras_charlm.text import cache, decoding, filetype
from keras_charlm.text.cache import Entry
from keras_charlm.text.decoding import check_encoding
from keras_charlm.text.filetype import FIT, Remedy, stem
from keras_charlm.text.labelling import label_columns
from keras_charlm.text.labels import FIRST_CODE
from keras_charlm.text.preparation import find_or_read
from keras_charlm.text.records import strip_blanks
from keras_charlm.text.sources import Paths, file_names, path_list, sources
from keras_charlm.text.vocabulary import Vocabulary, text_of

NAMES = Path(__file__).parent / "data" / "names.csv"
NAMES_COLUMNS: dict[str, Any] = {"text_column": "name", "labels": ("gender",)}


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
        labels: Column and value of each label; their codes follow `labels.FIRST_CODE`.
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
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of labels in their order."""
        return label_columns(self.config)

    @functools.cached_property
    def characters(self) -> int:
        """Its characters, without labels."""
        return int(self.counts([(0, len(self.symbols))])[self.alphabet < FIRST_CODE].sum())

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
        kept = kept[kept < FIRST_CODE]
        if len(kept) < 2:
            raise CorpusError(
                f"The training part of {self.name} has {len(kept)} distinct "
                f"{self.config.unit}{'' if len(kept) == 1 else 's'} seen at least "
                f"{self.config.min_count} times; a model needs at least 2, so give it more text."
            )
        return Vocabulary(self.config.unit, tuple(int(c) for c in kept))

    def text(self, start: int, stop: int) -> bytes:
        """The symbols [start, stop) as UTF-8; for a text of bytes, the bytes themselves.

        Labels are left out.
        """
        codes = self.alphabet[self.symbols[start:stop]]
        return _to_bytes(codes[codes < FIRST_CODE], self.config.unit)

    def lines(self) -> Lines:
        """The lines or other documents, without blank ones.

        The fingerprints ignore blanks at their ends.

        Raises:
            CorpusError: There are none.
        """
        starts, lengths, prints, labels = [], [], [], []
        at, end, count = 0, self.config.end, len(self.columns)
        while at < len(self.symbols):
            stop = min(at + decoding.BLOCK, len(self.symbols))
            ends = at + np.flatnonzero(self.symbols[at:stop] == end)
            while not len(ends):  # a line longer than a block
                stop = min(stop + decoding.BLOCK, len(self.symbols))
                ends = at + np.flatnonzero(self.symbols[at:stop] == end)
            begins = np.concatenate([[at], ends[:-1] + 1])
            rows = self.text(at, int(ends[-1])).split(bytes([end]))
            if self.config.keep_blanks:  # two lines that differ in blanks are copies of one
                rows = [_strip(row, self.config.unit) for row in rows]
            keep = np.array([bool(row) for row in rows])
            begins = begins[keep] + count  # a line's labels are before it
            starts.append(begins)
            lengths.append(ends[keep] - begins)
            prints.append(fingerprints(row for row in rows if row))
            before = begins[:, None] + np.arange(-count, 0)  # (lines, count)
            labels.append(self.alphabet[self.symbols[before]] - FIRST_CODE)
            at = int(ends[-1]) + 1
        if not any(len(part) for part in prints):
            raise CorpusError(
                f"{file_names(list(self.files))} has no line that is not empty; "
                "a list needs one document a line."
            )
        return Lines(*map(np.concatenate, (starts, lengths, prints, labels)))


@dataclass(frozen=True)
class Lines:
    """Lines of a corpus.

    Attributes:
        starts, lengths: In symbols, int64 (L,).
        fingerprints: Of their texts, uint64 (L,).
        labels: Number of the label in each column, int64 (L, K).
    """

    starts: np.ndarray
    lengths: np.ndarray
    fingerprints: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: np.ndarray | slice) -> Lines:
        """The lines with these indices, in this order."""
        return Lines(
            self.starts[index], self.lengths[index], self.fingerprints[index], self.labels[index]
        )

    def distinct(self, by_label: bool = False) -> Lines:
        """The first copy of each line; with `by_label`, of each line under the same labels."""
        if not by_label:
            return self.take(np.sort(np.unique(self.fingerprints, return_index=True)[1]))
        keys = np.column_stack([self.fingerprints, self.labels.astype(np.uint64)])
        return self.take(np.sort(np.unique(keys, axis=0, return_index=True)[1]))


def fingerprints(lines: Iterable[bytes]) -> np.ndarray:
    """64-bit BLAKE2b of each line, uint64 (L,).

    Collisions are negligible: among ten million lines the probability of one is 3 in a million.
    """
    digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
    return np.frombuffer(digests, "<u8")


def prepare(
    paths: Paths,
    config: CorpusConfig | None = None,
    stdin: BinaryIO | None = None,
    remedy: Remedy = FIT,
) -> Corpus:
    """Read texts into one memory-mapped array, or find them in the cache.

    Args:
        paths: Files, folders (with `config.glob`), '-' for stdin; what gzip, bzip2, xz or zstd
            compressed is unpacked. If empty, the bundled list of first names is read, with the
            gender as a label.
        config: How to read them.
        stdin: Stream that '-' reads; by default the process's standard input.
        remedy: Advice in an error about a file's content.

    Returns:
        The prepared text.

    Raises:
        CorpusError: A file cannot be read or is not text, or all of them are empty.
    """
    config = config or CorpusConfig()
    names = [str(path) for path in path_list(paths)] or [str(NAMES)]
    if names == [str(NAMES)] and not config.table:
        config = replace(config, **NAMES_COLUMNS)
    check_encoding(config.encoding)
    files = sources(names, config)
    folder = cache.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache.tidy(folder)
        entry, notices = find_or_read(names, files, config, folder, stdin, remedy)
        if notice := cache.substituted():
            notices.append(notice)
    except OSError as error:
        raise CorpusError(
            f"The prepared text cannot be kept in {folder} ({error.strerror or error}); make room "
            "there, or name another folder in the variable KERAS_CHARLM_CACHE."
        ) from error
    return _corpus(names, entry, config, notices)


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
            f"{file_names(list(files))} changed since the training began; restore the old text, or "
            "train a new model from this one with --init-from."
        )
    return text


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
    name = path.name if path.is_dir() else stem(path)
    return Corpus(
        name=name or "corpus",
        files=() if paths == [str(NAMES)] else tuple(paths),
        file_count=entry.file_count,
        symbols=entry.symbols,
        alphabet=entry.alphabet,
        size=entry.size,
        sha256=entry.key,
        notices=(*notices, *entry.notices),
        config=config,
        labels=entry.labels,
    )


def _strip(row: bytes, unit: str) -> bytes:
    """A line in UTF-8, or of bytes, without the blanks at both ends."""
    if unit == "byte":
        return strip_blanks(row)
    return strip_blanks(row.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")


def _to_bytes(codes: np.ndarray, unit: str) -> bytes:
    """The text of codes (n,) as UTF-8, or the bytes themselves."""
    text = text_of(codes, unit)
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
