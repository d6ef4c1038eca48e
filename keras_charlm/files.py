"""Files and folders: atomic writes, locks between processes, checks before reading."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_charlm.errors import BundleError, OptionError, brief

LARGEST = 1 << 31  # bytes of a model's file; a FlatBuffer cannot be larger
LARGEST_JSON = 1 << 26  # bytes; a vocabulary of all of Unicode takes 12 MB
_BLOCK = 1 << 20


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed or the process ends.

    `filelock` does not fit: this locks the very file that is written, keeps the lock when the
    file's folder is renamed, can test a lock without creating a file, and continues where the file
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
    """Check that a model's file is a regular file of plausible size, and return its path.

    Args:
        path: The file.
        largest: Maximum size in bytes.

    Raises:
        BundleError: It is missing, a link, a pipe or a device, or too large.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{brief(path)} cannot be read ({reason}), so the model is incomplete; copy it "
            "again, or train it again."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(
            f"{path} is a link or not a regular file, and a model needs regular files; copy the "
            "model again, with the files themselves."
        )
    if status.st_size > largest:
        raise BundleError(
            f"{path} has {status.st_size:,} bytes, and at most {largest:,} are possible; copy the "
            "model again, or train it again."
        )
    return path


def check_output(path: Path, overwrite: bool = False, *, folder: bool = False) -> None:
    """Check before any work that an output can be written at `path`.

    Args:
        path: The file or folder to write.
        overwrite: Whether an existing one may be replaced.
        folder: Whether the output is a folder.

    Raises:
        OptionError: No file can have that name, it exists already, or its folder does not.
    """
    check_name(path)
    if path.is_dir() and not folder:
        raise OptionError(f"{brief(path)} is a folder; name a file with --output.")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OptionError(
            f"{brief(path)} exists; name another --output, or replace it with --overwrite."
        )
    if not path.parent.is_dir():
        raise OptionError(
            f"There is no folder {brief(path.parent)} for {brief(path.name)}; make it, or name "
            "another --output."
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate an OSError raised while `path` is written into an OptionError.

    Raises:
        OptionError: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OptionError(
            f"{brief(path)} cannot be written ({error.strerror or error}); make room, or "
            "name another --output."
        ) from error


def is_kind(path: str | Path, kind: Callable[[Path], bool]) -> bool:
    """Whether a path is of this kind, such as `Path.is_file`; False where no file can have it."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


def check_name(path: Path) -> None:
    """Raise OptionError if no file can have this path: it is too long, or has a NUL in it."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{brief(path)} cannot be the name of a file or folder "
            f"({getattr(error, 'strerror', None) or error}); give another."
        ) from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file atomically; text as UTF-8."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def reserve(path: Path, size: int) -> None:
    """Make sure that there is room for a file, by writing as many bytes.

    Raises:
        OSError: There is not.
    """
    with path.open("wb") as file:
        for at in range(0, size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - at)))


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically."""
    write_file(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file atomically: write a temporary one, flush it to the disk and rename it.

    Args:
        path: The file.
        write: Called with the path of the temporary file, which it writes.
    """
    temporary = unfinished(path)
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """The temporary file that `replace_file` writes and renames; a crash may leave it behind."""
    return path.with_name(f"{path.name}.tmp")


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Replace a folder by renaming: a context manager that yields a new, empty folder to fill.

    The old folder is removed last, and kept if filling the new one fails. `recover_folder` repairs
    a crash between the two renames.
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
    """The temporary names of the old and the new folder during `replace_folder`."""
    return folder.with_name(f".{folder.name}.old"), folder.with_name(f".{folder.name}.new")


def remove(path: Path) -> None:
    """Remove a file or a folder, ignoring errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file to the disk, so that it survives a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
