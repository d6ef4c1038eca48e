"""The call of Keras's fit, signals on the way, and its errors as sentences."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_charlm.config import FitConfig
from keras_charlm.errors import CharLMError, Interrupted, TrainingError
from keras_charlm.text.streams import Windows
from keras_charlm.training.schedule import Schedule
from keras_charlm.training.workers import Workers

# What can end a training early and is explained.
EXPLAINED = (OSError, KeyboardInterrupt, tf.errors.ResourceExhaustedError)


def run_epochs(
    network: keras.Model,
    windows: Windows,
    schedule: Schedule,
    workers: Workers,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Call Keras's fit: once, or for a training stopped within an epoch once for its rest.

    Args:
        network: The compiled network.
        windows: The batches.
        schedule: Says when the training ends.
        workers: The workers; each reads its own rows.
        callbacks: What happens around the batches.
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
    """Note SIGINT and SIGTERM instead of dying; a second SIGINT acts at once.

    Yields:
        A dictionary that has the number under 'signal' once one came.
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
    """One of `EXPLAINED` as an error of ours, with what to do.

    Args:
        error: The error.
        fit: The training's settings.
        folder: The model's folder.
        step: Batches done.
    """
    go_on = f"go on with: kcharlm fit --resume {folder}" if step else "start again."
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(
            f"Stopped at once; what the last checkpoint holds is not lost: {go_on}",
            signal.SIGINT,
        )
    if isinstance(error, OSError):
        return TrainingError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); make "
            f"room or mend the permissions, then {go_on}"
        )
    return TrainingError(
        f"The device has no memory for a batch of {fit.batch_size} windows of "
        f"{fit.seq_length}; lower --batch-size, --seq-length or --units."
    )
