"""Training: corpus to model folder, through Keras's own fit."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import keras
import numpy as np

from keras_charlm.config import FitConfig, fit_configs
from keras_charlm.config_base import expect
from keras_charlm.display import Display
from keras_charlm.errors import BundleError, OptionError
from keras_charlm.saved.weights import count_parameters
from keras_charlm.text.corpus import prepare, reopen
from keras_charlm.text.split import split_corpus
from keras_charlm.training import base, checkpoint
from keras_charlm.training.checkpoint import STATE
from keras_charlm.training.folder import TrainingFolder, choose, resumable
from keras_charlm.training.job import Job, read_state, train
from keras_charlm.training.plan import Plan, check_devices, check_size, make_plan
from keras_charlm.training.workers import Workers, addresses, assemble, worker_index

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM
    from keras_charlm.saved.bundle import Bundle


def fit(
    corpus: str | Path | Sequence[str | Path] = (),
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    init_from: str | Path | None = base.AUTO,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    stdin: BinaryIO | None = None,
    **settings: Any,
) -> CharLM | None:
    """Train a character-level language model on a text.

    Args:
        corpus: One or several files, folders (with `glob`), or '-' for stdin; '.gz' is
            decompressed. If empty, the model is trained on the bundled list of first names.
        output: The model's folder; by default saved_models/ and the corpus's name.
        overwrite: Replace the model in `output`, once this one is ready.
        init_from: A model whose weights to start from; characters in both keep theirs. 'auto' is
            the bundled English model for a short text in its characters; None is none.
        callbacks: Keras callbacks; each epoch's logs have `val_loss` in nats.
        verbose: 0 shows nothing, 1 everything, on stderr.
        stdin: Stream that '-' reads.
        **settings: Fields of CorpusConfig, ModelConfig and FitConfig.

    Returns:
        The trained model, as returned by `load`; None on workers other than the chief.

    Raises:
        OptionError, CorpusError, BundleError: An argument is wrong; nothing was changed.
        TrainingError: The training failed; the last checkpoint and the best model are kept.
        Interrupted: A signal stopped it; continue with `resume`.

    Example:
        >>> print(keras_charlm.fit("corpus.txt", max_time=600).generate("Once", seed=1))
    """
    paths = _paths(corpus)
    expect("output", output, (str, Path, type(None)), "a path")
    _check_callbacks(callbacks)
    corpus_config, model_config, fit_config = fit_configs(settings)
    _check_tensorboard(fit_config.tensorboard)
    start: Bundle | None = None
    if init_from is not None and init_from != base.AUTO:  # report a mistake before reading
        start = base.open_base(init_from)
        base.check_shape(start, corpus_config.unit, model_config, settings)
    display = _display(verbose)
    workers = assemble(fit_config)
    text = workers.in_turn(lambda: prepare(paths, corpus_config, stdin))
    folder = workers.from_chief(lambda: os.fsencode(choose(output, text.name, overwrite)))
    split = split_corpus(text, fit_config.seed, fit_config.label_dropout)
    if init_from == base.AUTO and paths:
        start = base.find_base(text, split, settings)
    plan, notices = make_plan(text, split, model_config, fit_config, workers.replicas, start)
    check_size(plan, split.vocabulary)
    for notice in notices:
        display.note(notice)
    home = TrainingFolder(Path(os.fsdecode(folder)))
    return train(Job(home, plan, text, split, workers, display, start), callbacks)


def resume(
    path: str | Path,
    *,
    devices: str | int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    stdin: BinaryIO | None = None,
) -> CharLM | None:
    """Continue a training that was stopped or killed, from its last checkpoint.

    The result is the same as without the interruption, on a CPU in float32 to the last bit
    (unless `max_time` limits the training).

    Args:
        path: The model's folder.
        devices: As `FitConfig.devices`, if other devices than before are to be used; their number
            must divide the batch size.
        callbacks: Keras callbacks for the rest; their own state is not restored.
        verbose: 0 shows nothing, 1 everything, on stderr.
        stdin: The text, if it came from stdin and is no longer in the cache.

    Returns:
        The trained model, as returned by `load`; None on workers other than the chief.

    Raises:
        BundleError: There is nothing to resume, or the checkpoint is damaged.
        CorpusError: The text is gone or has changed.
        TrainingError, Interrupted: As for `fit`.
    """
    expect("path", path, (str, Path), "a folder's path or name")
    _check_callbacks(callbacks)
    display = _display(verbose)
    began = FitConfig()
    if not addresses():  # with several workers, only the chief may have the folder
        folder = TrainingFolder(resumable(path))
        saved = checkpoint.read_json(checkpoint.read_arrays(folder.work / STATE))
        began = Plan.from_dict(saved["settings"]).fit
    workers = assemble(began if devices is None else replace(began, devices=str(devices)))
    chosen = workers.from_chief(lambda: os.fsencode(resumable(path)))
    folder = TrainingFolder(Path(os.fsdecode(chosen)))
    arrays = read_state(folder, workers)
    return train(resumed(folder, arrays, stdin, workers, display), callbacks)


def resumed(
    folder: TrainingFolder,
    arrays: dict[str, np.ndarray],
    stdin: BinaryIO | None,
    workers: Workers,
    display: Display,
) -> Job:
    """The training that a checkpoint belongs to.

    Args:
        folder: Where the checkpoint is.
        arrays: The checkpoint.
        stdin, workers, display: As for `resume`.

    Raises:
        BundleError, CorpusError, TrainingError: As for `resume`.
    """
    saved = checkpoint.read_json(arrays)
    plan = Plan.from_dict(saved["settings"])
    check_devices(plan, workers.replicas)
    text = workers.in_turn(lambda: reopen(plan.files, plan.corpus, plan.sha256, stdin))
    split = split_corpus(text, plan.fit.seed, plan.fit.label_dropout)
    vocabulary = split.vocabulary
    size = sum(array.nbytes for array in arrays.values())
    if count_parameters(plan.model, vocabulary.size, vocabulary.labels) > size:
        raise BundleError(
            "The checkpoint is smaller than the network that it names; train the model again."
        )
    return Job(
        folder, plan, text, split, workers, display, resumes=True, progress=saved["progress"]
    )


def _display(verbose: int) -> Display:
    """The display of the training; only the chief worker shows anything."""
    return Display(0 if worker_index() else verbose)


def _paths(corpus: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The corpus's paths, checked."""
    expect("corpus", corpus, (str, Path, Sequence), "a path, or several in a list")
    paths = [corpus] if isinstance(corpus, (str, Path)) else list(corpus)
    for path in paths:
        expect("corpus", path, (str, Path), "a path, or several in a list")
    return paths


def _check_callbacks(callbacks: Any) -> None:
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        expect("callbacks", callback, keras.callbacks.Callback, "a list of Keras callbacks")


def _check_tensorboard(folder: str | None) -> None:
    """Check before the training that TensorBoard's events can be written."""
    if folder is None:
        return
    if not importlib.util.find_spec("tensorboard"):
        raise OptionError(
            "--tensorboard needs the package tensorboard; install it with: "
            "pip install 'keras_charlm[tensorboard]'"
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"TensorBoard's folder {folder} cannot be made "
            f"({error.strerror or error}); name another."
        ) from error
