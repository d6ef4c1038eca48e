"""The folder of a training: chosen, created, locked by one process, cleared, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_charlm.display import command
from keras_charlm.errors import BundleError, TrainingError
from keras_charlm.files import check_name, lock
from keras_charlm.saved.bundle import (
    CHECKPOINT,
    CONFIG,
    CURVE,
    HISTORY,
    LOCK,
    MODELS,
    NOVELTY,
    SAMPLES,
    recover,
)
from keras_charlm.training.checkpoint import BEST, STATE


class TrainingFolder:
    """The folder of a model in training.

    Args:
        path: The model's folder.

    Attributes:
        work: The folder within it that holds the checkpoint.
    """

    def __init__(self, path: Path):
        self.path, self.work = path, path / CHECKPOINT
        self._made: list[Path] = []  # folders that did not exist before, innermost first

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Create the folder and lock it for this process.

        Raises:
            BundleError: It cannot be created.
            TrainingError: Another process trains there.
        """
        self._make()
        with (self.work / LOCK).open("wb") as file:
            if not lock(file):
                raise TrainingError(
                    f"Another training runs in {self.path}; wait for it, or name another --output."
                )
            for leftover in self.work.glob("*.tmp"):  # half-written by a process that died
                leftover.unlink()
            yield

    def _make(self) -> None:
        self._made = [p for p in (self.work, *self.work.parents) if not p.exists()]
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / LOCK).touch()
        except OSError as error:
            self._remove_made()
            raise BundleError(
                f"The folder {self.path} cannot be written ({error.strerror or error}); name "
                "another with --output."
            ) from error

    def clear(self) -> None:
        """Remove the files of an earlier training."""
        for name in (STATE, BEST, HISTORY, CURVE, *NOVELTY):
            (self.work / name).unlink(missing_ok=True)
        (self.work / SAMPLES).write_bytes(b"")

    def discard(self) -> None:
        """Remove the checkpoint's folder, and the empty folders that were created for it."""
        shutil.rmtree(self.work, ignore_errors=True)
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def choose(output: str | Path | None, name: str, overwrite: bool) -> Path:
    """The folder of a new model: the given one, or a new one named after the corpus.

    Args:
        output: The folder, if one was given.
        name: The corpus's name.
        overwrite: Whether an existing model may be replaced.

    Returns:
        The folder, which need not exist.

    Raises:
        BundleError: The folder has content that may not be replaced.
        OptionError: No folder can have that name.
    """
    if output is None:
        folder, number = MODELS / name, 2
        while not (overwrite or _free(folder)):
            folder, number = MODELS / f"{name}-{number}", number + 1
        return folder
    if str(output) == "":
        raise BundleError("--output is empty; name a folder for the model.")
    folder = Path(output)
    check_name(folder)
    check_replaceable(folder)
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; name a folder for the model with --output.")
    model, checkpoint = (folder / CONFIG).exists(), (folder / CHECKPOINT).exists()
    if (folder / CHECKPOINT / STATE).exists() and not overwrite:
        raise BundleError(
            f"{folder} holds a training that has not ended; continue it with "
            f"{command('kcharlm', 'fit', '--resume', folder)}, or replace it with --overwrite."
        )
    if model and not overwrite:
        raise BundleError(
            f"{folder} holds a model; name another --output, or replace it with --overwrite."
        )
    if folder.exists() and any(folder.iterdir()) and not (model or checkpoint):
        raise BundleError(f"{folder} holds something that is not a model; name another --output.")
    return folder


def check_replaceable(folder: Path) -> None:
    """Raise BundleError if a folder cannot be renamed, as it is when the model is ready."""
    real = folder.resolve()
    here = Path.cwd()
    if real == here or real in here.parents:
        raise BundleError(
            f"{folder} is the current folder or one around it, which cannot be replaced by the "
            "model; name a new folder in it, or leave it first (cd ..)."
        )
    parent = next(path for path in real.parents if path.exists())
    if os.path.ismount(real) or (real.exists() and not os.access(parent, os.W_OK)):
        why = "is a mount point" if os.path.ismount(real) else f"is in {parent}, a read-only folder"
        raise BundleError(
            f"{folder} {why}, so it cannot be replaced by the model; name a new folder in it."
        )


def _free(folder: Path) -> bool:
    """Whether a new training may use a folder: it does not exist, or it holds a training that was
    killed before its first checkpoint."""
    try:
        recover(folder)
    except TrainingError:
        return False
    if not folder.exists():
        return not folder.is_symlink()
    return (
        folder.is_dir()
        and {p.name for p in folder.iterdir()} <= {CHECKPOINT}
        and not (folder / CHECKPOINT / STATE).exists()
    )


def _is_training(folder: Path) -> bool:
    """Whether a folder holds a model or a training."""
    return (folder / CHECKPOINT).is_dir() or (folder / CONFIG).is_file()


def resumable(path: str | Path) -> Path:
    """The folder of a model whose training has not ended, by its path or name.

    Raises:
        BundleError: There is none, or its training has ended.
        OptionError: No folder can have that name.
    """
    if str(path) == "":
        raise BundleError("The model's name is empty; name the folder of a training.")
    folder = Path(path)
    check_name(folder)
    check_replaceable(folder)
    recover(folder)
    if len(folder.parts) == 1 and not _is_training(folder):
        recover(MODELS / folder)
        if _is_training(MODELS / folder):
            folder = MODELS / folder
    if (folder / CHECKPOINT / STATE).is_file():
        return folder
    if (folder / CONFIG).is_file():
        raise BundleError(
            f"The training of {folder} has ended, so there is nothing to resume; start a new one "
            "from its weights with: "
            f"{command('kcharlm', 'fit', 'CORPUS', '--init-from', folder)}"
        )
    raise BundleError(
        f"There is no training to resume in {folder}; start one with: kcharlm fit CORPUS"
    )
