"""Files, folders, stdin and .gz to one memory-mapped array of symbols, cached by content.

A text is read in blocks and never held in memory whole. Its distinct characters are numbered, and
these symbols are stored in the smallest integer type that fits. The vocabulary depends on the
training part alone; it is applied when windows are read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text import cache, decoding
from keras_charlm.text.cache import Entry, SymbolWriter
from keras_charlm.text.decoding import check_encoding, open_blocks
from keras_charlm.text.labels import FIRST_CODE, Coder
from keras_charlm.text.transcript import append, label_columns, named
from keras_charlm.text.vocabulary import NEWLINE, Vocabulary

NAMES = Path(__file__).parent / "data" / "names.csv"
NAMES_COLUMNS: dict[str, Any] = {"text": "name", "labels": ("gender",)}


@dataclass(frozen=True)
class Corpus:
    """A prepared text.

    Args:
        name: Stem of the first file's name.
        files: The paths as given; '-' for stdin, empty for the bundled list of names.
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
        """The lines, without empty ones.

        Raises:
            CorpusError: There are none.
        """
        starts, lengths, prints, labels = [], [], [], []
        at, count = 0, len(self.columns)
        while at < len(self.symbols):
            stop = min(at + decoding.BLOCK, len(self.symbols))
            ends = at + np.flatnonzero(self.symbols[at:stop] == NEWLINE)
            while not len(ends):  # a line longer than a block
                stop = min(stop + decoding.BLOCK, len(self.symbols))
                ends = at + np.flatnonzero(self.symbols[at:stop] == NEWLINE)
            begins = np.concatenate([[at], ends[:-1] + 1])
            rows = self.text(at, int(ends[-1])).split(b"\n")
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
                f"{_names(list(self.files))} has no line that is not empty; "
                "--lines needs one document a line."
            )
        return Lines(*map(np.concatenate, (starts, lengths, prints, labels)))

    def looks_like_list(self) -> bool:
        """Whether the beginning looks like a list of short, distinct lines."""
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
    paths: Iterable[str | Path], config: CorpusConfig | None = None, stdin: BinaryIO | None = None
) -> Corpus:
    """Read texts into one memory-mapped array, or find them in the cache.

    Args:
        paths: Files, folders (with `config.glob`), '-' for stdin; '.gz' is decompressed. If empty,
            the bundled list of first names is read, with the gender as a label.
        config: How to read them.
        stdin: Stream that '-' reads; by default the process's standard input.

    Returns:
        The prepared text.

    Raises:
        CorpusError: A file cannot be read or is not text, or all of them are empty.
    """
    config = config or CorpusConfig()
    names = [str(path) for path in paths] or [str(NAMES)]
    if names == [str(NAMES)] and not config.table:
        config = replace(config, **NAMES_COLUMNS)
    check_encoding(config.encoding)
    files = sources(names, config)
    folder = cache.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache.tidy(folder)
        return _prepare(names, files, config, folder, stdin)
    except OSError as error:
        raise CorpusError(
            f"The prepared text cannot be kept in {folder} ({error.strerror or error}); make room "
            "there, or name another folder in the variable KERAS_CHARLM_CACHE."
        ) from error


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


def sources(paths: Iterable[str], config: CorpusConfig) -> list[str]:
    """The files behind the paths: those of folders in sorted order.

    Raises:
        CorpusError: A path does not exist, or is a folder without matching files.
    """
    files = []
    for path in paths:
        if path != "-" and _is(path, Path.is_dir):
            files += _files_of(path, config.glob)
            continue
        if not (path == "-" or config.skip_unreadable or _is(path, Path.exists)):
            next(open_blocks(path, None), None)  # raises the error that says why not
        files.append(path)
    return files


def _files_of(folder: str, glob: str | None) -> list[str]:
    """The files in a folder and its subfolders whose names match `glob`, sorted."""
    if glob is None:
        raise CorpusError(
            f"{folder} is a folder; say which of its files to read, e.g. --glob '*.txt'."
        )
    try:
        files = sorted(str(p) for p in Path(folder).rglob(glob) if p.is_file())
    except (ValueError, NotImplementedError) as error:
        raise CorpusError(
            f"--glob {glob!r} cannot match a file inside a folder ({error}); write e.g. '*.c'."
        ) from error
    if not files:
        raise CorpusError(
            f"The folder {folder} has no file named like {glob!r}; change --glob or the folder."
        )
    return files


def _is(path: str, kind: Callable[[Path], bool]) -> bool:
    """Whether a path is of this kind; False for a path that no file can have."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


class _Content:
    """The content of one file, hashed and counted as it is read.

    Args:
        source: A path, or '-' for stdin.
        stdin: Stream that '-' reads.
        digest: A hashlib object updated with the files before this one; it is not changed.

    Attributes:
        blocks: Generator of the file's blocks.
        digest: A copy of it, also updated with the blocks read so far.
        size: Bytes read so far.
        whole: Whether the file was read to its end.
    """

    def __init__(self, source: str, stdin: BinaryIO | None, digest: Any):
        self.digest, self.size, self.whole = digest.copy(), 0, False
        self.blocks = self._read(source, stdin)

    def _read(self, source: str, stdin: BinaryIO | None) -> Iterator[bytes]:
        for block in open_blocks(source, stdin):
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
) -> Corpus:
    """Find the text of the files in the cache, or add it.

    Args:
        paths: As the user gave them.
        files: The files that they stand for.
        config: How to read them.
        folder: The cache.
        stdin: Stream that '-' reads.
    """
    unreadable: list[str] = []
    if all(map(_can_be_read_again, files)):
        digest, files = _hash_files(files, config, unreadable)
        for incomplete in (False, True) if config.skip_unreadable else (False,):
            if entry := cache.find(folder, _key(digest, incomplete)):
                return _corpus(paths, entry, config, unreadable)
    # Hashed again while reading, because a file may have changed since the first pass.
    digest, size = hashlib.sha256(_recipe(config)), 0
    undecodable: list[str] = []
    coder = Coder(label_columns(config))
    with SymbolWriter(folder) as writer:
        if config.lines:
            writer.write("\n")  # a newline precedes every line, and starts a sample
        for source in files:
            content, begun = _Content(source, stdin, named(digest, source, config)), writer.length
            try:
                append(content.blocks, source, config, writer, coder)
                size += content.size
            except CorpusError as error:
                reason = _skip(error, config)
                writer.truncate(begun)
                with contextlib.suppress(CorpusError):  # hash the rest of the file too
                    for _ in content.blocks:
                        pass
                (undecodable if content.whole else unreadable).append(reason)
            if content.whole:
                digest = content.digest
        if writer.length == int(config.lines):
            raise _nothing_to_read(paths, [*unreadable, *undecodable])
        key = _key(digest, bool(undecodable))
        cache.store(folder, key, writer, size, undecodable, list(coder.known))
    entry = cache.find(folder, key)
    if entry is None:
        raise OSError(f"{key} is gone")
    return _corpus(paths, entry, config, unreadable)


def _can_be_read_again(source: str) -> bool:
    """Whether a source can be read twice; stdin and pipes cannot."""
    return source != "-" and (_is(source, Path.is_file) or not _is(source, Path.exists))


def _hash_files(
    files: list[str], config: CorpusConfig, unreadable: list[str]
) -> tuple[Any, list[str]]:
    """Hash the content of all readable files; `unreadable` gets a notice for each other one.

    Returns:
        A hashlib object, and the readable files.
    """
    digest, readable = hashlib.sha256(_recipe(config)), []
    for source in files:
        content = _Content(source, None, named(digest, source, config))
        try:
            for _ in content.blocks:
                pass
        except CorpusError as error:
            unreadable.append(_skip(error, config))
        else:
            digest = content.digest
            readable.append(source)
    return digest, readable


def _key(digest: Any, incomplete: bool) -> str:
    """The hash of a text; it differs if files that do not decode were left out."""
    if incomplete:
        digest = digest.copy()
        digest.update(b"\0incomplete\0")
    return digest.hexdigest()


def _recipe(config: CorpusConfig) -> bytes:
    """The settings that determine, besides the content, how a text is prepared."""
    labels = ""
    if config.table or config.label_by_file:
        labels = f" labels={config.labels!r} {config.text!r} {config.label_by_file}"
    if config.unit == "byte" and not config.table:
        return f"byte lines={config.lines} 1{labels}".encode()
    unit = "bytes of char" if config.unit == "byte" else "char"
    return (
        f"{unit} {config.encoding} {config.normalize} keep={config.keep_line_ends} "
        f"lines={config.lines} 1{labels}"
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
    first = "pipe" if _is(paths[0], Path.is_fifo) else paths[0]
    path = Path("stdin" if first == "-" else first).resolve()
    stem = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    return Corpus(
        name=stem or "corpus",
        files=() if paths == [str(NAMES)] else tuple(paths),
        symbols=entry.symbols,
        alphabet=entry.alphabet,
        size=entry.size,
        sha256=entry.key,
        notices=(*notices, *entry.notices),
        config=config,
        labels=entry.labels,
    )


def _to_bytes(codes: np.ndarray, unit: str) -> bytes:
    """The text of codes (n,) as UTF-8, or the bytes themselves."""
    if unit == "byte":
        return codes.astype(np.uint8).tobytes()
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")
