"""Prepared texts on the disk, kept under the hash of their content."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_charlm.errors import CorpusError
from keras_charlm.files import lock
from keras_charlm.text import decoding
from keras_charlm.text.decoding import NEWLINE

_CACHE_DAYS = 30


_TYPES = ("uint8", "uint16", "uint32")  # of symbols, and the suffixes of their files


_KEY = re.compile("[0-9a-f]{64}")  # of a text in the cache


_TEMPORARY = re.compile(r"\d+-\d+\.tmp")


def cache_folder() -> Path:
    """Where prepared texts are kept: $KERAS_CHARLM_CACHE, or the user's cache folder."""
    if named := os.environ.get("KERAS_CHARLM_CACHE"):
        return Path(named)
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    return Path(base or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_charlm"


class Writer:
    """Symbols on their way to the cache: assigns them, and widens their type when it must."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.alphabet = list(range(128))
        self.dtype = np.dtype(np.uint8)
        self.length = 0
        self.ends_line = False
        # Symbol of each code, -1 for none yet; made when the first code above ASCII comes.
        self._symbol: np.ndarray | None = None

    def __enter__(self) -> Writer:
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
                    "alone; mend it, name its right --encoding, or train with --unit byte."
                )
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
            while block := narrow.read(decoding.BLOCK):
                self._file.write(np.frombuffer(block, self.dtype).astype(wide).data)
        finally:
            narrow.close()
            narrow_path.unlink()
        self.dtype = wide


def _temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file that `tidy` leaves alone while it is open."""
    while True:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}.tmp"
        file = path.open("w+b")
        # Another process may have taken it for a dead one's before it was locked.
        if lock(file) and path.exists():
            return path, file
        file.close()


def save(folder: Path, key: str, writer: Writer, size: int, notices: list[str]) -> None:
    """Put the written symbols into the cache; the JSON comes last and makes them count."""
    writer.finish()
    writer.path.replace(folder / f"{key}.{writer.dtype.name}")
    header = {
        "dtype": writer.dtype.name,
        "length": writer.length,
        "size": size,
        "sha256": key,
        "alphabet": writer.alphabet,
        "notices": notices,
    }
    path, file = _temporary(folder)
    try:
        with file:
            file.write(json.dumps(header).encode())
        path.replace(folder / f"{key}.json")
    finally:
        path.unlink(missing_ok=True)


def cached(folder: Path, key: str) -> dict | None:
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
        os.utime(folder / f"{key}.json")  # used today: `tidy` spares it
        return header
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def tidy(folder: Path) -> None:
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
