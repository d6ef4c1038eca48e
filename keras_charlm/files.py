"""Files and folders: written whole or not at all, locked by one process, checked before reading."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_charlm.errors import BundleError, OptionError

LARGEST = 1 << 31  # bytes of a model's file; a FlatBuffer has no room for more
LARGEST_JSON = 1 << 26  # bytes; a vocabulary of all of Unicode takes 12 MB


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed or the process ends.

    Not by `filelock`: this locks the very file that is written, keeps the lock when the file's
    folder is renamed, can be tested without creating a file, and lets the work go on where the file
    system has no locks.

    Returns:
        False if another process has locked it. Where the system or the file system has no such
        locks, always True.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def locked(path: Path) -> bool:
    """Whether a running process has locked the file."""
    try:
        with path.open("r+b") as file:
            return not lock(file)
    except OSError:
        return False


def regular(path: Path, largest: int = LARGEST) -> Path:
    """The path of a model's file, if it may be read.

    Args:
        path: The file.
        largest: Most bytes that such a file has.

    Raises:
        BundleError: It is missing, a link, a pipe or a device, or larger than such a file can be.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{path} cannot be read ({reason}); the folder is half-written: "
            "copy the model again, or train it again."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(
            f"{path} is a link or no regular file, as a model's files never are; copy the model "
            "again, with the files themselves."
        )
    if status.st_size > largest:
        raise BundleError(
            f"{path} has {status.st_size:,} bytes and such a file has at most "
            f"{largest:,}; copy the model again, or train it again."
        )
    return path


def check_output(path: Path, overwrite: bool = False, *, folder: bool = False) -> None:
    """Check before any work whether something can be written at `path`.

    Args:
        path: The file or folder to write.
        overwrite: Replace what is there.
        folder: A folder is to be written there, not a file.

    Raises:
        OptionError: Something is there already, or the folder around it is not.
    """
    if path.is_dir() and not folder:
        raise OptionError(f"{path} is a folder; name a file with --output.")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OptionError(f"{path} exists; name another --output, or replace it with --overwrite.")
    if not path.parent.is_dir():
        raise OptionError(
            f"There is no folder {path.parent} for {path.name}; make it, or name another --output."
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a system's error while `path` is written into one of this package.

    Raises:
        OptionError: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written ({error.strerror or error}); make room, or "
            "name another --output."
        ) from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file atomically; text as UTF-8."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically."""
    write_file(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file atomically: write a temporary one, flush it to the disk and rename it.

    Args:
        path: The file.
        write: Writes the temporary file, whose path it is given.
    """
    temporary = unfinished(path)
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where `replace_file` writes a file before it is put in place; a crash may leave it there."""
    return path.with_name(f"{path.name}.tmp")


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Replace a folder by renaming: a context manager that gives a new, empty folder to fill.

    The old folder is removed at the very end, and stays if filling the new one fails. A crash
    between the two renames is undone by `recover_folder`.
    """
    old, new = leftovers(folder)
    for leftover in (old, new):
        remove(leftover)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                _flush(path)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        remove(new)
        raise
    remove(old)


def recover_folder(folder: Path) -> None:
    """Finish or undo a `replace_folder` that was interrupted by a crash."""
    old, new = leftovers(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (old, new):
        remove(leftover)


def leftovers(folder: Path) -> tuple[Path, Path]:
    """Where `replace_folder` keeps the old and the new folder meanwhile."""
    return folder.with_name(f".{folder.name}.old"), folder.with_name(f".{folder.name}.new")


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Force a file's content to the disk, so that it survives a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
