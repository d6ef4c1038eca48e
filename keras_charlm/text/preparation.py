"""Files to an entry of the cache: read one after another, hashed and turned into symbols."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.text import cache
from keras_charlm.text.cache import Entry, SymbolWriter
from keras_charlm.text.decoding import LineEnds, open_blocks, read_pieces
from keras_charlm.text.filetype import Remedy
from keras_charlm.text.labelling import append_labelled, label_columns, with_label
from keras_charlm.text.labels import Coder
from keras_charlm.text.sources import can_be_read_again, file_names, sources


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


def find_or_read(
    paths: list[str],
    files: list[str],
    config: CorpusConfig,
    folder: Path,
    stdin: BinaryIO | None,
    remedy: Remedy,
) -> tuple[Entry, list[str]]:
    """Find the text of the files in the cache, or add it.

    Args:
        paths: As the user gave them.
        files: The files that they stand for.
        config: How to read them.
        folder: The cache.
        stdin: Stream that '-' reads.
        remedy: Advice in an error about a file's content.

    Returns:
        The text, and a notice for each file that could not be read.

    Raises:
        CorpusError: A file cannot be read or is not text, or all of them are empty.
        OSError: The cache cannot be written.
    """
    unreadable: list[str] = []
    if all(map(can_be_read_again, files)):
        digest, files = _hash_files(files, config, unreadable)
        for incomplete in (False, True) if config.skip_unreadable else (False,):
            for joined in (True, False) if len(files) > 1 else (False,):
                if entry := cache.find(folder, _key(digest, incomplete, joined)):
                    return entry, unreadable
    with SymbolWriter(folder) as writer:
        reading = _Reading(writer, config, stdin, remedy)
        for source in files:
            reading.add(source)
        unreadable += reading.unreadable
        if reading.empty:
            raise _nothing_to_read(paths, [*unreadable, *reading.undecodable])
        cache.store(
            folder,
            reading.key,
            writer,
            reading.size,
            reading.file_count,
            reading.notices(),
            list(reading.coder.known),
        )
    entry = cache.find(folder, reading.key)
    if entry is None:
        raise OSError(f"{reading.key} is gone")
    return entry, unreadable


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
        self._line_ends, self.coder = LineEnds(), Coder(label_columns(config))
        self.size, self.file_count = 0, 0
        self.unreadable: list[str] = []
        self.undecodable: list[str] = []
        if config.records:
            writer.write(chr(config.end))  # an end precedes every document, and starts a sample
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
        digest = with_label(self._digest, source, self._config)
        content = _Content(source, self._stdin, digest, self._config)
        try:
            joined = self._config.records or self._config.label_by_file
            texts = self._config.unit == "char" and not joined
            joins = texts and begun > self._first and not writer.ends_line
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
        how = config
        if config.table:  # its text, before it is divided into rows
            how = replace(config.unlabelled(), lines=False, documents=False, unit="char")
        pieces = read_pieces(content.blocks, source, how, self._remedy, self._line_ends)
        if config.table or config.label_by_file:
            append_labelled(pieces, source, config, writer, self.coder)
        else:
            for piece in pieces:
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
        content = _Content(source, None, with_label(digest, source, config), config)
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
    more = " blanks" if config.records and config.keep_blanks else ""
    if config.records and not config.lines:
        more += f" separator={config.separator_text!r}"
    if config.table or config.label_by_file:
        more += (
            f" labels={config.labels!r} {config.text_column!r} {config.label_by_file} {config.unit}"
        )
    if config.unit == "byte" and not config.table:
        return f"byte lines={config.lines} 1{more}".encode()
    return (
        f"char {config.encoding} {config.normalize} keep={config.keep_line_ends} "
        f"lines={config.lines} 1{more}"
    ).encode()


def holds(files: tuple[str, ...], config: CorpusConfig, sha256: str) -> bool:
    """Whether files still hold a text; True too if they cannot be read twice.

    Args:
        files: `Corpus.files` of the text.
        config: How it was read.
        sha256: `Corpus.sha256` of the text.
    """
    try:
        found = sources(files, config) if files else []
        if not files or not all(map(can_be_read_again, found)):
            return True
        digest, _ = _hash_files(found, config, [])
    except CorpusError:
        return False
    return sha256 in (
        _key(digest, incomplete, joined) for incomplete in (False, True) for joined in (False, True)
    )


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
    return CorpusError(f"{file_names(paths)} {verb} empty; give some text.")
