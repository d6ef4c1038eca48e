"""Prepared texts on the disk, each under the hash of its content and of how it was read.

An entry is two files: the text's symbols, to be memory-mapped, and a JSON header, which is written
last and makes the entry valid.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import platformdirs

from keras_charlm.errors import CorpusError
from keras_charlm.files import lock
from keras_charlm.text import decoding
from keras_charlm.text.labels import FIRST_CODE, MOST
from keras_charlm.text.vocabulary import NEWLINE

_VERSION = 2  # of the way in which texts are read; entries of other versions are not used
_UNUSED_DAYS = 30  # after which an entry is removed
_TYPES = ("uint8", "uint16", "uint32")  # of symbols, and the suffixes of their files
_KEY = re.compile("[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\d+-\d+\.tmp")


def cache_folder() -> Path:
    """Where prepared texts are kept: $KERAS_CHARLM_CACHE, or the user's cache folder."""
    if named := os.environ.get("KERAS_CHARLM_CACHE"):
        return Path(named)
    # A container's user may have no home, or one that is read-only.
    with contextlib.suppress(RuntimeError):
        home = platformdirs.user_cache_path("keras_charlm", appauthor=False)
        if home.is_absolute() and _can_be_made(home):
            return home
    return _substitute()


def _substitute() -> Path:
    """A folder for temporary files that only this user can write."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"keras_charlm-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if user != "" and folder.lstat().st_uid != user:  # another user's, who could change the texts
        raise OSError(errno.EPERM, "it belongs to another user", str(folder))
    return folder


def substituted() -> str | None:
    """A sentence for the user, if texts are not kept in the user's cache folder."""
    folder = cache_folder()
    if folder.parent != Path(tempfile.gettempdir()) or os.environ.get("KERAS_CHARLM_CACHE"):
        return None
    return f"The home folder cannot be written, so the prepared text is kept in {folder}."


def _can_be_made(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


@dataclass(frozen=True)
class Entry:
    """A text in the cache.

    Attributes:
        key: Hash of the content and of how it was read, in hexadecimal.
        symbols: Memory-mapped unsigned integers (N,).
        alphabet: Code point (or byte value) of each symbol, int64 (A,).
        size: Bytes read.
        file_count: Files read.
        notices: Messages for the user, such as files that were skipped.
        labels: Column and value of each label; their codes follow `labels.FIRST_CODE`.
    """

    key: str
    symbols: np.memmap
    alphabet: np.ndarray
    size: int
    file_count: int
    notices: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()


class SymbolWriter:
    """Writes a text to a temporary file of the cache as symbols; a context manager.

    Each distinct character gets a symbol in order of first appearance (ASCII keeps its codes). The
    file's integer type is widened when there are more symbols than it can hold.

    Args:
        folder: The cache.

    Attributes:
        path: The temporary file.
        alphabet: Code of each symbol so far.
        dtype: The symbols' type so far.
        length: Symbols written.
        ends_line: Whether the last of them is a newline.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.alphabet = list(range(128))
        self.dtype: np.dtype = np.dtype(np.uint8)
        self.length = 0
        self.ends_line = False
        # Symbol of each code, -1 for none yet; allocated for the first non-ASCII character.
        self._symbol_of: np.ndarray | None = None

    def __enter__(self) -> SymbolWriter:
        self.path, self._file = _open_temporary(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, text: str | bytes) -> None:
        """Append a piece of the text.

        Raises:
            CorpusError: It contains a surrogate.
        """
        if isinstance(text, bytes):
            if len(self.alphabet) < 256:
                self.alphabet = list(range(256))
            symbols = np.frombuffer(text, np.uint8)
        elif text.isascii():
            symbols = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            symbols = self._assign(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))
        self._append(symbols)

    def write_codes(self, codes: np.ndarray) -> None:
        """Append codes (n,), among them those of labels; of a text of bytes, after `write(b"")`."""
        if len(codes):
            self._append(self._assign(codes))

    def _append(self, symbols: np.ndarray) -> None:
        self._widen()
        self._file.write(symbols.astype(self.dtype, copy=False).data)
        self.length += len(symbols)
        self.ends_line = bool(len(symbols)) and int(symbols[-1]) == NEWLINE

    def truncate(self, length: int) -> None:
        """Keep only the first `length` symbols."""
        self.length = length
        self._file.seek(max(length - 1, 0) * self.dtype.itemsize)
        last = np.frombuffer(self._file.read(self.dtype.itemsize if length else 0), self.dtype)
        self.ends_line = bool(len(last)) and int(last[0]) == NEWLINE
        self._file.truncate()

    def finish(self) -> None:
        """Flush the file to the disk, so that it can be renamed."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if sys.platform == "win32":  # Windows neither renames nor removes an open file
            self._file.close()

    def _assign(self, codes: np.ndarray) -> np.ndarray:
        """Symbols, int32 (n,), of code points (n,)."""
        if self._symbol_of is None:
            self._symbol_of = np.full(FIRST_CODE + MOST, -1, np.int32)
            self._symbol_of[: len(self.alphabet)] = np.arange(len(self.alphabet))
        symbols = self._symbol_of[codes]
        if symbols.min() < 0:
            fresh = codes[symbols < 0]
            if ((fresh >= 0xD800) & (fresh < 0xE000)).any():
                raise CorpusError(
                    "The text has lone surrogates, which are halves of characters and not valid "
                    "alone; repair it, name its right --encoding, or train with --unit byte."
                )
            _, first = np.unique(fresh, return_index=True)
            fresh = fresh[np.sort(first)]
            self._symbol_of[fresh] = np.arange(len(self.alphabet), len(self.alphabet) + len(fresh))
            self.alphabet += fresh.tolist()
            symbols = self._symbol_of[codes]
        return symbols

    def _widen(self) -> None:
        """Copy the file to one of a wider integer type, if the alphabet has outgrown it."""
        wide = np.min_scalar_type(len(self.alphabet) - 1)
        if wide == self.dtype:
            return
        narrow_path, narrow = self.path, self._file
        self.path, self._file = _open_temporary(self.folder)
        try:
            narrow.seek(0)
            while block := narrow.read(decoding.BLOCK):
                self._file.write(np.frombuffer(block, self.dtype).astype(wide).data)
        finally:
            narrow.close()
            narrow_path.unlink()
        self.dtype = wide


def _open_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file that `tidy` leaves alone while it is open."""
    while True:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}.tmp"
        file = path.open("w+b")
        # Before the lock, another process may have removed it as abandoned.
        if lock(file) and path.exists():
            return path, file
        file.close()


def store(
    folder: Path,
    key: str,
    writer: SymbolWriter,
    size: int,
    file_count: int,
    notices: list[str],
    labels: Sequence[tuple[str, str]] = (),
) -> None:
    """Turn a written text into an entry of the cache.

    Args:
        folder: The cache.
        key: Hash of the content and of how it was read.
        writer: Has written the whole text.
        size, file_count, notices, labels: As in `Entry`.

    Raises:
        OSError: It cannot be written.
    """
    writer.finish()
    writer.path.replace(folder / f"{key}.{writer.dtype.name}")
    header = {
        "version": _VERSION,
        "dtype": writer.dtype.name,
        "length": writer.length,
        "size": size,
        "file_count": file_count,
        "sha256": key,
        "alphabet": writer.alphabet,
        "notices": notices,
        "labels": labels,
    }
    path, file = _open_temporary(folder)
    try:
        with file:
            file.write(json.dumps(header).encode())
        path.replace(folder / f"{key}.json")
    finally:
        path.unlink(missing_ok=True)


def find(folder: Path, key: str) -> Entry | None:
    """The entry of a key; None if there is none or it is damaged."""
    if not _KEY.fullmatch(key):  # it comes from a model's folder, which is untrusted
        return None
    try:
        header = json.loads((folder / f"{key}.json").read_text())
        if header["version"] != _VERSION or header["dtype"] not in _TYPES:
            return None
        path, dtype = folder / f"{key}.{header['dtype']}", np.dtype(header["dtype"])
        if path.stat().st_size != header["length"] * dtype.itemsize:
            return None
        entry = Entry(
            key,
            np.memmap(path, dtype, "r"),
            np.array(header["alphabet"], np.int64),
            header["size"],
            header["file_count"],
            tuple(map(str, header["notices"])),
            tuple((str(column), str(value)) for column, value in header.get("labels", ())),
        )
        os.utime(folder / f"{key}.json")  # `tidy` needs the time of the last use
        return entry
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def tidy(folder: Path) -> None:
    """Remove entries unused for a month, and the temporary files of killed processes."""
    now = time.time()
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(path.name):
                _remove_abandoned(path)
            elif _KEY.fullmatch(path.stem):  # the folder may hold other people's files
                header = path.with_suffix(".json")
                # Without a header, the entry is being written, or its writer was killed.
                days = _UNUSED_DAYS if header.exists() else 1
                if (header if header.exists() else path).stat().st_mtime < now - days * 86_400:
                    for part in folder.glob(f"{path.stem}.*"):
                        part.unlink()


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file, unless a running process is writing it."""
    with path.open("r+b") as file:
        if not lock(file):
            return
        if sys.platform == "win32":
            file.close()
        path.unlink()
