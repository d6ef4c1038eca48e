"""Training: corpus to model folder, through Keras's own fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Unpack

import keras
import numpy as np

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.config_base import expect, lists_settings
from keras_charlm.defaults import Tuning
from keras_charlm.display import Display
from keras_charlm.effects import unused
from keras_charlm.errors import BundleError, OptionError
from keras_charlm.network.model import recurrent_layers
from keras_charlm.saved.weights import count_parameters
from keras_charlm.settings import FitSettings
from keras_charlm.text.corpus import reopen
from keras_charlm.text.given import Given, given_text
from keras_charlm.text.preparation import holds
from keras_charlm.text.sources import Paths
from keras_charlm.text.split import Split, split_corpus
from keras_charlm.training import base, checkpoint, synthetic
from keras_charlm.training.arguments import (
    Callbacks,
    Config,
    Request,
    callback_list,
    request,
)
from keras_charlm.training.checkpoint import STATE
from keras_charlm.training.folder import TrainingFolder, choose, resumable
from keras_charlm.training.job import Job, read_state, train
from keras_charlm.training.network import Network, described, template
from keras_charlm.training.own import Own, restored
from keras_charlm.training.plan import Plan, check_devices, check_size, make_plan
from keras_charlm.training.workers import Workers, addresses, assemble, worker_index

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM
    from keras_charlm.saved.bundle import Bundle


@lists_settings(CorpusConfig, ModelConfig, FitConfig)
def fit(
    corpus: Paths = (),
    output: str | Path | None = None,
    *,
    text: Given | None = None,
    config: Config | Iterable[Config] = (),
    network: Network | None = None,
    overwrite: bool = False,
    init_from: str | Path | None = base.AUTO,
    callbacks: Callbacks = (),
    verbose: int = 1,
    stdin: BinaryIO | None = None,
    **settings: Unpack[FitSettings],
) -> CharLM | None:
    """Train a character-level language model on a text.

    Args:
        corpus: One or several files, folders (with `glob`), or '-' for stdin; what
            is compressed is unpacked. If empty, it is the bundled list of first names.
        output: The model's folder; by default saved_models/ and the corpus's name.
        text: The text itself instead of `corpus`: a string; several, each of which is a document;
            bytes; or an open file.
        config: A FitConfig, ModelConfig or CorpusConfig, or several; settings given by name win.
        network: A stateful Sequential from ids to logits, or a function of the batch size (and of
            the vocabulary's size) that returns one; a copy is trained. Besides dropout it has an
            embedding, recurrent layers of one kind and width, and a dense layer.
        overwrite: Replace the model in `output`, once this one is ready.
        init_from: A model whose weights to start from; characters in both keep theirs. 'auto' is
            the bundled model that is nearest to a short text in its characters; None is none.
        callbacks: A Keras callback or several; each epoch's logs have `loss` and `val_loss` in
            nats. Those that set the learning rate are obeyed, with `schedule` none.
        verbose: 0 shows nothing, 1 everything, on stderr.
        stdin: Stream that '-' reads.
        **settings: Fields of CorpusConfig, ModelConfig and FitConfig. `optimizer` may also be an
            optimizer of Keras's, and `learning_rate` a schedule of Keras's.

    Returns:
        The trained model, as returned by `load`; None on workers other than the chief.

    Raises:
        OptionError, CorpusError, BundleError: An argument is wrong; nothing was changed.
        TrainingError: The training failed; the last checkpoint and the best model are kept.
        Interrupted: A signal stopped it; continue with `resume`.

    Example:
        >>> print(keras_charlm.fit("corpus.txt", max_time=600).generate("Once", seed=1))
    """
    expect("output", output, (str, Path, type(None)), "a path")
    asked = request(corpus, text, config, network, callbacks, stdin, settings)
    job = _job(asked, output, overwrite, init_from, _display(verbose))
    return train(job, asked.callbacks)


def _job(
    asked: Request,
    output: str | Path | None,
    overwrite: bool,
    init_from: str | Path | None,
    display: Display,
) -> Job:
    """Read the text, and plan a training on it; the arguments are those of `fit`."""
    start: Bundle | None = None
    tuning: Tuning | None = None
    if asked.network is not None:
        if init_from not in (None, base.AUTO):
            raise OptionError(
                "Both a network and init_from were given; a network keeps its own weights, so "
                "leave init_from out."
            )
        init_from = None
    if init_from is not None and init_from != base.AUTO:  # report a mistake before reading
        start = base.open_base(init_from)
        base.check_shape(start, asked.corpus.unit, asked.model, asked.settings)
    workers = assemble(asked.fit)
    text = workers.in_turn(asked.read)
    folder = workers.from_chief(lambda: os.fsencode(choose(output, text.name, overwrite)))
    split = split_corpus(text, asked.fit.seed, asked.fit.label_dropout)
    if init_from == base.AUTO and asked.paths:
        start, tuning = base.find_base(text, split, asked.settings)
    elif start:
        tuning = base.find_tuning(start, split, text.config.lines)
    plan, notices = make_plan(text, split, asked.model, asked.fit, workers.replicas, start, tuning)
    plan, own = _with_own(asked, plan, split, workers)
    check_size(plan, split.vocabulary)
    for notice in [*notices, *_unused_in_fit(asked, split, start)]:
        display.note(notice)
    home = TrainingFolder(Path(os.fsdecode(folder)))
    return Job(home, plan, text, split, workers, display, start, own=own)


def _with_own(asked: Request, plan: Plan, split: Split, workers: Workers) -> tuple[Plan, Own]:
    """The plan with the user's own objects, and the objects."""
    own, symbols = asked.own, split.vocabulary.size
    if asked.network is not None:
        if workers.count > 1:
            raise OptionError("A network of one's own trains in one process; unset TF_CONFIG.")
        network = template(asked.network, plan.fit.batch_size // workers.replicas, symbols)
        own = replace(own, network=network)
        policy = recurrent_layers(network)[0].dtype_policy.name
        fit = replace(plan.fit, synthetic=asked.fit.synthetic or 0.0)
        plan = replace(plan, model=described(network, symbols), fit=fit, policy=policy)
    return replace(plan, own=own.serialized()), own


def resume(
    path: str | Path,
    *,
    devices: str | int | None = None,
    text: Given | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Callbacks = (),
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
        text: The text, if it was given as a text and is no longer in the cache.
        optimizer: The optimizer again, if its class is not Keras's.
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
    users = callback_list(callbacks)
    if text is not None:
        stdin = given_text(text, {}).stream
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
    return train(resumed(folder, arrays, stdin, workers, display, Own(optimizer)), users)


def resumed(
    folder: TrainingFolder,
    arrays: dict[str, np.ndarray],
    stdin: BinaryIO | None,
    workers: Workers,
    display: Display,
    own: Own | None = None,
) -> Job:
    """The training that a checkpoint belongs to.

    Args:
        folder: Where the checkpoint is.
        arrays: The checkpoint.
        stdin, workers, display: As for `resume`.
        own: Objects that the user gives again.

    Raises:
        BundleError, CorpusError, TrainingError: As for `resume`.
    """
    saved = checkpoint.read_json(arrays)
    plan = Plan.from_dict(saved["settings"])
    check_devices(plan, workers.replicas)
    text = workers.in_turn(lambda: reopen(plan.files, plan.corpus, plan.sha256, stdin))
    if workers.chief and not holds(plan.files, plan.corpus, plan.sha256):
        display.note(f"{text.name} has changed since; the training goes on with the old text.")
    split = split_corpus(text, plan.fit.seed, plan.fit.label_dropout)
    vocabulary = split.vocabulary
    size = sum(array.nbytes for array in arrays.values())
    if count_parameters(plan.model, vocabulary.size, vocabulary.labels) > size:
        raise BundleError(
            "The checkpoint is smaller than the network that it names; train the model again."
        )
    own = restored(plan.own, own or Own())
    progress = saved["progress"]
    return Job(
        folder, plan, text, split, workers, display, resumes=True, progress=progress, own=own
    )


def _unused_in_fit(asked: Request, split: Split, start: Bundle | None) -> Iterator[str]:
    """A sentence for each setting of `fit` that has no effect on this text."""
    fit_config = asked.fit
    yield from unused(asked.corpus)
    yield from unused(fit_config)
    if asked.paths and asked.corpus.glob and not any(Path(p).is_dir() for p in asked.paths):
        yield "glob has no effect without a folder."
    if start and fit_config.size != base.AUTO:
        yield f"size has no effect: the network is that of {start.card.name}."
    if fit_config.patience and split.validation.length <= split.validation.lead:
        yield "patience has no effect without a validation part."
    if fit_config.label_dropout != FitConfig().label_dropout and not split.labels:
        yield "label_dropout has no effect without labels."
    if fit_config.synthetic and not synthetic.possible(split):
        yield "synthetic has no effect with label_by_file, except with documents."
    if fit_config.join_timeout != FitConfig().join_timeout and not addresses():
        yield "join_timeout has no effect without several workers."


def _display(verbose: int) -> Display:
    """The display of the training; only the chief worker shows anything."""
    return Display(0 if worker_index() else verbose)
