"""Files as this program wants them: of one process at a time, regular, and of a possible size."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from keras_charlm.errors import BundleError

LARGEST = 1 << 31  # bytes of a model's file; a FlatBuffer has no room for more
LARGEST_JSON = 1 << 26  # bytes; a vocabulary of all of Unicode takes 12 MB


def lock(file: BinaryIO) -> bool:
    """Take an open file for this process until it is closed; the system frees a dead process's.

    Returns:
        False where another process has it. Where the system or the file system has no such locks,
        always True.
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
    """Whether a living process has taken the file."""
    try:
        with path.open("r+b") as file:
            return not lock(file)
    except OSError:
        return False


def regular(path: Path, largest: int = LARGEST) -> Path:
    """The path of a model's file, if it may be read.

    Raises:
        BundleError: It is missing, a link, a pipe or a device, or larger than such a file can be.
    """
    try:
        found = path.lstat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{path} cannot be read ({reason}); the folder is half-written: "
            "copy the model again, or train it anew."
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path} is a link or no regular file, and a model's files are never "
                          "that; copy the model again, with the files themselves.")
    if found.st_size > largest:
        raise BundleError(f"{path} has {found.st_size:,} bytes and such a file has at most "
                          f"{largest:,}; copy the model again, or train it anew.")
    return path
