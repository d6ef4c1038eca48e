"""TensorFlow, loaded without what its libraries log, and only where it can work."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_charlm.display import quiet
from keras_charlm.errors import OptionError

_forked = {"started": False}  # whether TensorFlow had started in the parent of this process


def load(start: bool = False) -> None:
    """Import TensorFlow, unless it cannot work in this process.

    Args:
        start: Whether to initialize its devices too; after that the CPU cannot be divided into
            virtual devices.

    Raises:
        OptionError: Keras has another backend, or this process was forked from one in which
            TensorFlow had started.
    """
    if (backend := _keras_backend()) != "tensorflow":
        raise OptionError(
            f"The backend of Keras is {backend}, and this package needs the TensorFlow backend; "
            "set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    if _forked["started"]:
        raise OptionError(
            "This process was forked from one in which TensorFlow had started, and would wait for "
            "its threads for ever; start it with multiprocessing's method 'spawn'."
        )
    first = "tensorflow" not in sys.modules
    if first:  # it logs a missing GPU or a lost worker as errors; what matters is raised as well
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():  # the level does not hold for the first lines
        import tensorflow as tf

        if start:
            tf.config.list_logical_devices()
    if first:
        tf.get_logger().setLevel("ERROR")  # its warnings are for programmers


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep back what TensorFlow tells programmers, such as "Assets written", even if its user has
    imported it before this package."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _keras_backend() -> str:
    """The backend that Keras has, or will have once it is imported."""
    keras: Any = sys.modules.get("keras")
    if hasattr(keras, "config"):
        return keras.config.backend()
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    try:
        home = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
        return str(json.loads((Path(home) / "keras.json").read_text())["backend"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # RuntimeError: no home
        return "tensorflow"


def _note_fork() -> None:
    """Note in a child whether its threads are missing, which only the parent has."""
    tensorflow: Any = sys.modules.get("tensorflow")
    if not hasattr(tensorflow, "config"):
        return
    threads = tensorflow.config.threading
    number = threads.get_inter_op_parallelism_threads()
    try:  # TensorFlow refuses another number once it has started
        threads.set_inter_op_parallelism_threads(number + 1)
        threads.set_inter_op_parallelism_threads(number)
    except RuntimeError:
        _forked["started"] = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
