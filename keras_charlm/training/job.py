"""The sequence of a training: build, start or resume, train, publish."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.display import Display, command
from keras_charlm.errors import CharLMError, Interrupted, TrainingError
from keras_charlm.saved.bundle import NOVELTY, Bundle
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.split import Split
from keras_charlm.text.streams import Windows
from keras_charlm.training import checkpoint, compiled, loop, summary
from keras_charlm.training.callbacks import EpochReport, Pace, Saving, Validation
from keras_charlm.training.checkpoint import STATE, Checkpoints
from keras_charlm.training.folder import TrainingFolder
from keras_charlm.training.outcome import Outcome
from keras_charlm.training.own import Own
from keras_charlm.training.plan import Plan
from keras_charlm.training.progress import Progress
from keras_charlm.training.samples import SampleWriter
from keras_charlm.training.schedule import Schedule
from keras_charlm.training.synthetic import find_synthetic
from keras_charlm.training.workers import Workers

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM


@dataclass
class Job:
    """A training that is ready to start or resume.

    Args:
        folder: Folder of the model.
        plan: The plan of the training.
        text: The text.
        split: Its parts.
        workers: The workers that train together.
        display: Shows the training.
        base: The model to start from.
        resumes: Whether it resumes from the checkpoint in the folder.
        progress: Its progress so far.
        own: The user's own objects.
    """

    folder: TrainingFolder
    plan: Plan
    text: Corpus
    split: Split
    workers: Workers
    display: Display
    base: Bundle | None = None
    resumes: bool = False
    progress: Progress = field(default_factory=Progress)
    own: Own = field(default_factory=Own)


def train(job: Job, users: Sequence[keras.callbacks.Callback]) -> CharLM | None:
    """Train to the end and publish the model.

    Args:
        job: The training.
        users: The user's callbacks.

    Returns:
        As for `fit`.

    Raises:
        BundleError, TrainingError, Interrupted: As for `fit`.
    """
    from keras_charlm.charlm import load

    plan, split, workers = job.plan, job.split, job.workers
    start = split.vocabulary.id_of(split.start)
    fit = plan.fit
    windows = Windows(
        split.train,
        fit.batch_size,
        fit.seq_length,
        fit.seed,
        start,
        find_synthetic(split, fit),
    )
    try:
        workers.compare(plan.shared_facts(split, workers, job.base))
        network = compiled.build(
            plan.model, plan.fit, plan.policy, split.vocabulary, workers, job.own
        )
        _show_beginning(job, windows, network.count_params())
        with job.folder.claimed() if workers.chief else contextlib.nullcontext():
            _train(job, windows, network, users)
        workers.in_turn(lambda: None)  # no worker ends before the model is published
    except tf.errors.OpError as error:
        if (lost := workers.lost(error)) is None:
            raise
        raise TrainingError(
            f"{lost} is gone, and the training stopped after batch {job.progress.step:,}; "
            "start every worker again with: "
            f"{command('kcharlm', 'fit', '--resume', job.folder.path)}"
        ) from error
    finally:
        job.display.stop()
    return load(job.folder.path) if workers.chief else None


def _train(
    job: Job,
    windows: Windows,
    network: keras.Model,
    users: Sequence[keras.callbacks.Callback],
) -> None:
    """Train in the folder that this process has locked. If the training ends early, the folder has
    the best model so far, or is removed if nothing was trained."""
    folder, plan, workers = job.folder, job.plan, job.workers
    arrays: dict[str, np.ndarray] | None = None
    if job.resumes:
        # Read again: a training that ran here until the lock was taken may have advanced.
        arrays = read_state(folder, workers)
        job.progress = checkpoint.read_json(arrays)["progress"]
    progress = job.progress
    checkpoints = Checkpoints(folder.work, plan.to_dict(), progress, windows.steps, workers)
    samples = SampleWriter(folder.work, plan.model, plan.corpus, job.split, progress)
    outcome = Outcome(
        folder.path, plan, job.text, job.split, progress, checkpoints, samples, job.display
    )
    try:
        _begin(job, network, checkpoints, arrays)
        _run(job, windows, network, users, checkpoints, samples, arrays)
        if workers.chief:
            job.display.stop()
            held_out = job.split.validation.length + job.split.test.length
            unit = job.split.vocabulary.unit_name
            with job.display.status(f"scoring {held_out:,} {unit}s and writing the model ..."):
                card = outcome.publish(network)
            for line in summary.end(card, folder.path, unit, progress):
                job.display.note(line)
    except (Interrupted, TrainingError, *loop.EXPLAINED) as error:
        if not workers.chief:
            raise
        _leave(job, outcome, error)
        if isinstance(error, CharLMError):
            raise
        raise loop.explained(error, plan.fit, folder.path, progress.step) from error


def _begin(
    job: Job,
    network: keras.Model,
    checkpoints: Checkpoints,
    arrays: dict[str, np.ndarray] | None,
) -> None:
    """Load the state from which the training starts or resumes."""
    if arrays is not None:
        checkpoint.restore(arrays, network, job.workers, metrics=False)
        return
    if job.base:
        known = compiled.start_from(network, job.base, job.split)
        for line in summary.begun_from(job.base, job.text, job.split, known):
            job.display.note(line)
    if job.workers.chief:
        job.folder.clear()
        if job.base and job.base.card.lines:  # what it was trained on is not novel
            for name in set(NOVELTY) & set(job.base.card.files):
                shutil.copyfile(job.base.file(name), job.folder.work / name)
    checkpoints.save(network)


def _run(
    job: Job,
    windows: Windows,
    network: keras.Model,
    users: Sequence[keras.callbacks.Callback],
    checkpoints: Checkpoints,
    samples: SampleWriter,
    arrays: dict[str, np.ndarray] | None,
) -> None:
    """Run the epochs with their callbacks."""
    plan, split = job.plan, job.split
    workers, display = job.workers, job.display
    vocabulary, lines = split.vocabulary, plan.corpus.lines
    schedule = Schedule(plan.fit, windows.steps, job.progress)
    with loop.noted_signals() as signals:
        path = job.folder.path
        saving = Saving(schedule, checkpoints, workers, signals, display, path)
        pace = Pace(schedule, windows, workers, saving, display, split, arrays)
        around = [pace, Validation(schedule, workers, split, checkpoints, display)]
        if workers.chief:
            around.append(EpochReport(schedule, pace, samples, display, vocabulary, lines))
            if plan.fit.tensorboard:
                around.append(keras.callbacks.TensorBoard(plan.fit.tensorboard))
        display.start()
        loop.run_epochs(network, windows, schedule, workers, [*around, *users, saving])


def _leave(job: Job, outcome: Outcome, error: BaseException) -> None:
    """Publish the model so far, or remove the folder if nothing was trained."""
    if job.progress.step == 0:
        job.folder.discard()
    elif isinstance(error, CharLMError):
        try:
            outcome.publish_unfinished()
        except OSError as full:  # the checkpoint still has it
            job.display.note(
                f"The model so far was not written to {job.folder.path} ({full.strerror or full})."
            )


def read_state(folder: TrainingFolder, workers: Workers) -> dict[str, np.ndarray]:
    """The chief's last checkpoint, on every worker."""
    path = folder.work / STATE
    return checkpoint.parse(workers.from_chief(lambda: checkpoint.read(path)), path)


def _show_beginning(job: Job, windows: Windows, parameters: int) -> None:
    lines = summary.beginning(job.text, job.split, job.plan, windows, parameters, job.workers)
    for line in [*lines, f"output      {job.folder.path}"]:
        job.display.note(line)
    if job.resumes:
        epoch, batch = divmod(job.progress.step, windows.steps)
        job.display.note(f"resuming    after epoch {epoch}, batch {batch}")
