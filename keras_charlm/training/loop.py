"""The call of Keras's fit, with signal handling, and its errors as messages."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_charlm.config import FitConfig
from keras_charlm.display import command
from keras_charlm.errors import CharLMError, Interrupted, TrainingError
from keras_charlm.text.streams import Windows
from keras_charlm.training.schedule import Schedule
from keras_charlm.training.workers import Workers

# Errors that can end a training early and get a message of ours.
EXPLAINED = (OSError, KeyboardInterrupt, tf.errors.ResourceExhaustedError)


def run_epochs(
    network: keras.Model,
    windows: Windows,
    schedule: Schedule,
    workers: Workers,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Call Keras's fit: once, or twice if the training resumes within an epoch.

    Args:
        network: The compiled network.
        windows: The batches.
        schedule: Decides when the training ends.
        workers: The workers; each reads its own rows.
        callbacks: The callbacks.
    """
    steps, progress = schedule.steps, schedule.progress
    network.stop_training = False
    while not (network.stop_training or schedule.ended):
        epoch, within = divmod(progress.step, steps)
        epochs = epoch + 1 if within else schedule.epochs
        data = workers.strategy.distribute_datasets_from_function(
            lambda _, first=progress.step, last=steps * epochs: windows.dataset(
                first, last, workers.parts, workers.replicas
            )
        )
        network.fit(
            data,
            verbose=0,
            shuffle=False,
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=steps - within,
            callbacks=list(callbacks),
        )


@contextlib.contextmanager
def noted_signals() -> Iterator[dict[str, int]]:
    """Record SIGINT and SIGTERM instead of exiting; a second SIGINT interrupts immediately.

    Yields:
        A dictionary with the signal's number under 'signal', once one has arrived.
    """
    noted: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, _frame: object) -> None:
        noted["signal"] = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explained(error: BaseException, fit: FitConfig, folder: Path, step: int) -> CharLMError:
    """Translate one of `EXPLAINED` into an error of this package that says what to do.

    Args:
        error: The error.
        fit: The training's settings.
        folder: The model's folder.
        step: Batches done.
    """
    go_on = "start again."
    if step:
        go_on = f"continue with: {command('kcharlm', 'fit', '--resume', folder)}"
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(
            f"Stopped immediately, and only the work since the last checkpoint is lost; {go_on}",
            signal.SIGINT,
        )
    if isinstance(error, OSError):
        return TrainingError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); make "
            f"room or correct the permissions, then {go_on}"
        )
    return TrainingError(
        f"The device has too little memory for a batch of {fit.batch_size} windows of "
        f"{fit.seq_length}; lower --batch-size, --seq-length or --units."
    )
