"""Training: corpus to model folder, through Keras's own fit."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import (
    CorpusConfig,
    FitConfig,
    ModelConfig,
    SampleConfig,
    fit_configs,
    resolve,
)
from keras_charlm.display import Display, counted, duration, quiet
from keras_charlm.errors import BundleError, Interrupted, OptionError, TrainingError
from keras_charlm.evaluation import ngram
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.export import graph, packing, tflite
from keras_charlm.files import replace_file, write_json
from keras_charlm.generation.samples import draw_samples
from keras_charlm.network import model
from keras_charlm.saved import bundle
from keras_charlm.saved.card import Card, count_parameters, versions
from keras_charlm.settings import expect
from keras_charlm.text import streams
from keras_charlm.text.corpus import Corpus, prepare, reopen
from keras_charlm.text.split import Split, split_corpus
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.training import callbacks, checkpoint, compiled, devices
from keras_charlm.training.checkpoint import BEST, STATE, Progress
from keras_charlm.training.workers import Workers, addresses, assemble, worker_index

if TYPE_CHECKING:
    from keras_charlm.charlm import CharLM

_SOON_COUNTED = 3_000_000  # characters whose baseline is counted at a training's end, in seconds


def fit(
    corpus: str | Path | Sequence[str | Path] = (),
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    init_from: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    stdin: BinaryIO | None = None,
    **settings: Any,
) -> CharLM | None:
    """Train a character-level language model on a text.

    Args:
        corpus: A file, several, folders (with `glob`), '-' for stdin; '.gz' is unpacked. Nothing
            trains on the embedded list of first names.
        output: The model's folder; by default a new one under saved_models/, named for the corpus.
        overwrite: Replace a model that is in `output`, once the new one is ready.
        init_from: A model whose weights to start from; characters both know keep theirs.
        callbacks: Keras callbacks; they see `val_loss` in nats in each epoch's logs.
        verbose: 0 shows nothing, 1 everything, on stderr.
        stdin: What '-' reads.
        **settings: Fields of CorpusConfig, ModelConfig and FitConfig.

    Returns:
        The trained model, as `load` gives it; on workers other than the chief None.

    Raises:
        OptionError, CorpusError, BundleError: Something given is wrong; nothing was changed.
        TrainingError: The training could not go on; the last checkpoint and the best model stay.
        Interrupted: A signal stopped it; go on with `resume`.

    Example:
        >>> model = keras_charlm.fit("corpus.txt", max_time=600)
        >>> print(model.generate("Once", length=200, seed=1))
    """
    expect("corpus", corpus, (str, Path, Sequence), "a path, or several in a list")
    paths = [corpus] if isinstance(corpus, (str, Path)) else list(corpus)
    for path in paths:
        expect("corpus", path, (str, Path), "a path, or several in a list")
    if output is not None:
        expect("output", output, (str, Path), "a path")
    _check_callbacks(callbacks)
    corpus_config, model_config, fit_config = fit_configs(settings)
    if not paths:
        corpus_config = replace(corpus_config, lines=True)
    _check_tensorboard(fit_config.tensorboard)
    base = bundle.open_bundle(init_from) if init_from else None
    if base:
        model_config = _shape_of(base, model_config)
    display = _display(verbose)
    workers = assemble(fit_config)
    text = workers.in_turn(lambda: prepare(paths, corpus_config, stdin))
    folder = workers.from_chief(lambda: os.fsencode(_folder(output, text.name, overwrite)))
    run = Run.new(Path(os.fsdecode(folder)), text, model_config, fit_config, base, workers, display)
    return run.train(callbacks)


def resume(
    path: str | Path,
    *,
    devices: str | int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    stdin: BinaryIO | None = None,
) -> CharLM | None:
    """Go on with a training that was stopped or killed, from its last checkpoint.

    The result is the one that the training would have had without the stop; on a CPU in float32
    to the last bit (unless `max_time` decided how long it took).

    Args:
        path: The model's folder.
        devices: Other devices than it began with, as `FitConfig.devices`; any number goes that
            divides the batch.
        callbacks: Keras callbacks for the rest; their own state is not kept.
        verbose: 0 shows nothing, 1 everything, on stderr.
        stdin: The text again, where it came from stdin and is no longer in the cache.

    Returns:
        The trained model, as `load` gives it; on workers other than the chief None.

    Raises:
        BundleError: There is nothing to resume, or the checkpoint is damaged.
        CorpusError: The text is gone or has changed.
        TrainingError, Interrupted: As for `fit`.
    """
    expect("path", path, (str, Path), "a folder's path or name")
    _check_callbacks(callbacks)
    display = _display(verbose)
    began = FitConfig()
    if not addresses():  # of several workers the chief alone may have the folder
        saved = checkpoint.read_json(checkpoint.read_arrays(_resumable(path) / STATE))
        began = Plan.from_dict(saved["settings"]).fit
    workers = assemble(began if devices is None else replace(began, devices=devices))
    work = Path(os.fsdecode(workers.from_chief(lambda: os.fsencode(_resumable(path)))))
    run = Run.resumed(work.parent, _saved(work, workers), stdin, workers, display)
    return run.train(callbacks)


def _resumable(path: str | Path) -> Path:
    """The folder of a training that has not ended, given its model's."""
    folder = Path(path)
    bundle.recover(folder)
    if not folder.is_dir() and len(folder.parts) == 1:
        bundle.recover(bundle.MODELS / folder)
        if (bundle.MODELS / folder).is_dir():
            folder = bundle.MODELS / folder
    if (folder / bundle.CHECKPOINT / STATE).is_file():
        return folder / bundle.CHECKPOINT
    if (folder / bundle.CONFIG).is_file():
        raise BundleError(
            f"The training of {folder} has ended, so there is nothing to resume; train on from "
            f"it with: kcharlm fit CORPUS --init-from {folder}"
        )
    raise BundleError(
        f"There is no training to resume in {folder}; start one with: kcharlm fit CORPUS"
    )


def _saved(work: Path, workers: Workers) -> dict[str, np.ndarray]:
    """The chief's last checkpoint, on every worker."""
    path = work / STATE
    return checkpoint.parse(workers.from_chief(lambda: checkpoint.read(path)), path)


def _display(verbose: int) -> Display:
    """What shows the training: of several workers the chief's."""
    return Display(0 if worker_index() else verbose)


def _check_callbacks(callbacks: Any) -> None:
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        expect("callbacks", callback, keras.callbacks.Callback, "a list of Keras callbacks")


def _check_tensorboard(folder: str | None) -> None:
    """Find out before the training whether its events can be written."""
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


def _shape_of(base: bundle.Bundle, asked: ModelConfig) -> ModelConfig:
    """The shape of the model to start from; only dropout and noise may differ."""
    have = base.card.model
    for name in ("cell", "layers", "units", "embedding", "tied"):
        default = getattr(ModelConfig(), name)
        if getattr(asked, name) not in (default, getattr(have, name)):
            raise OptionError(
                f"{name} is {getattr(asked, name)}, but the model in {base.path} has "
                f"{getattr(have, name)}; leave it out, or start without --init-from."
            )
    dropout = have.dropout if asked.dropout is None else asked.dropout
    return replace(have, dropout=dropout, noise=asked.noise)


def _folder(output: str | Path | None, name: str, overwrite: bool) -> Path:
    """Where the model goes: as named, or new and named for the corpus."""
    if output is None:
        folder, number = bundle.MODELS / name, 2
        while not (overwrite or _free(folder)):
            folder, number = bundle.MODELS / f"{name}-{number}", number + 1
        return folder
    folder = Path(output)
    bundle.recover(folder)
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; name a folder for the model with --output.")
    if (folder / bundle.CHECKPOINT / STATE).exists() and not overwrite:
        raise BundleError(
            f"{folder} holds a training that has not ended; go on with kcharlm fit --resume "
            f"{folder}, or start over it with --overwrite."
        )
    if (folder / bundle.CONFIG).exists() and not overwrite:
        raise BundleError(
            f"{folder} holds a model; name another --output, or replace it with --overwrite."
        )
    if (
        folder.exists()
        and any(folder.iterdir())
        and not (folder / bundle.CONFIG).exists()
        and not (folder / bundle.CHECKPOINT).exists()
    ):
        raise BundleError(f"{folder} holds something that is no model; name another --output.")
    return folder


def _free(folder: Path) -> bool:
    """Whether a new training may take a folder: none is there, or one that was killed before its
    first checkpoint."""
    try:
        bundle.recover(folder)
    except TrainingError:
        return False
    if not folder.exists():
        return not folder.is_symlink()
    return (
        folder.is_dir()
        and {p.name for p in folder.iterdir()} <= {bundle.CHECKPOINT}
        and not (folder / bundle.CHECKPOINT / STATE).exists()
    )


@dataclass(frozen=True)
class Plan:
    """What a run is, in one object that its checkpoint keeps."""

    run: str
    files: tuple[str, ...]
    name: str
    sha256: str
    corpus: CorpusConfig
    model: ModelConfig
    fit: FitConfig
    policy: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        kinds = {"corpus": CorpusConfig, "model": ModelConfig, "fit": FitConfig}
        try:
            values = {**values, "files": tuple(values["files"])}
            plan = cls(**{**values, **{k: c.from_dict(values[k]) for k, c in kinds.items()}})
            texts = (plan.run, plan.name, plan.sha256, plan.policy, *plan.files)
            if not all(isinstance(text, str) for text in texts) or None in (
                plan.model.layers,
                plan.model.units,
                plan.model.embedding,
                plan.model.dropout,
                plan.fit.epochs,
                plan.fit.learning_rate,
            ):
                raise TypeError("a value has the wrong type")
            return plan
        except (KeyError, TypeError, AttributeError, OptionError) as error:
            raise BundleError(
                f"The checkpoint's settings are damaged ({error}); train the model anew."
            ) from error


class Run:
    """One training from its first batch, or from a checkpoint, to the finished model folder."""

    def __init__(
        self,
        folder: Path,
        text: Corpus,
        split: Split,
        plan: Plan,
        workers: Workers,
        display: Display,
        saved: dict[str, np.ndarray] | None = None,
        base: bundle.Bundle | None = None,
    ):
        self.folder, self.text, self.split, self.plan = folder, text, split, plan
        self.workers, self.display = workers, display
        self.base = base
        self.resumes = saved is not None
        self.saved = saved  # the checkpoint, until the training goes on
        self.progress = checkpoint.read_json(saved)["progress"] if saved else Progress()
        self.best: list[np.ndarray] | None = None  # the best weights, until they are saved
        self.windows = streams.Windows(
            self.split.train, plan.fit.batch_size, plan.fit.seq_length, plan.fit.seed
        )
        self.start = self.split.vocabulary.id_of(self.split.start)
        self.work = folder / bundle.CHECKPOINT
        self.unit = split.vocabulary.unit  # char or byte, where there is little room

    @classmethod
    def new(cls, folder, text, model_config, fit_config, base, workers, display) -> Run:
        split = split_corpus(text, fit_config.seed)
        given = fit_config.batch_size
        shared = _divisible(given, workers.replicas)
        asked = shared, fit_config.seq_length
        batch, window = streams.fit_windows(split.train, *asked, workers.replicas)
        fit_config = replace(fit_config, batch_size=batch, seq_length=window)
        model_config, fit_config = resolve(model_config, fit_config, split.train.length)
        plan = Plan(
            uuid.uuid4().hex,
            text.files,
            text.name,
            text.sha256,
            text.config,
            model_config,
            fit_config,
            _policy(fit_config.precision),
        )
        run = cls(folder, text, split, plan, workers, display, base=base)
        for notice in text.notices:
            display.note(notice)
        if shared != given:
            display.note(
                f"{workers.replicas} devices cannot share a batch of {given} evenly: "
                f"going on with {shared}."
            )
        if (batch, window) != asked:
            display.note(
                f"The text is shorter than a batch of {asked[0]} windows of {asked[1]} characters: "
                f"going on with a batch of {batch} and windows of {window} characters."
            )
        if not text.config.lines and text.looks_like_list():
            display.note(
                "This looks like a list, one item a line: --lines would treat each line "
                "as a document of its own."
            )
        return run

    @classmethod
    def resumed(cls, folder, arrays, stdin, workers, display) -> Run:
        plan = Plan.from_dict(checkpoint.read_json(arrays)["settings"])
        batch, replicas = plan.fit.batch_size, workers.replicas
        if batch % replicas:
            fit = [str(n) for n in range(1, min(batch, 1024) + 1) if batch % n == 0]
            raise TrainingError(
                f"The training has a batch of {batch}, which {replicas} devices cannot share "
                f"evenly; go on with {', '.join(fit[:-1])} or {fit[-1]} of them."
            )
        text = workers.in_turn(lambda: reopen(plan.files, plan.corpus, plan.sha256, stdin))
        split = split_corpus(text, plan.fit.seed)
        if count_parameters(plan.model, split.vocabulary.size) > sum(
            array.nbytes for array in arrays.values()
        ):
            raise BundleError(
                "The checkpoint is smaller than the network that it names; train the model anew."
            )
        return cls(folder, text, split, plan, workers, display, saved=arrays)

    def facts(self) -> dict[str, str]:
        """What all workers must have in common, by the names that users know."""
        plan = self.plan
        settings = {**plan.model.to_dict(), **plan.fit.to_dict(), **plan.corpus.to_dict()}
        for own in ("devices", "join_timeout", "tensorboard", "glob"):
            del settings[own]
        return {
            "program": json.dumps(versions()),
            "number of devices": str(len(self.workers.parts)),
            "text": plan.sha256,
            "vocabulary": json.dumps(self.split.vocabulary.to_dict()),
            "precision": plan.policy,
            **{name: str(value) for name, value in settings.items() if name != "precision"},
            "starting model": json.dumps(self.base.card.files) if self.base else "none",
        }

    def train(self, users: Sequence[keras.callbacks.Callback]) -> CharLM | None:
        """Train to the end and publish the model."""
        from keras_charlm.charlm import load

        chief = self.workers.chief
        try:
            self.workers.compare(self.facts())
            network = self.build()
            self.summarize(network)
            with self.claimed() if chief else contextlib.nullcontext():
                self.begin(network)
                with _signals() as stop:
                    self.run_epochs(network, users, stop)
                if chief:
                    self.finish(network)
            self.workers.in_turn(lambda: None)  # no worker ends before the model is there
        except tf.errors.OpError as error:
            if (lost := self.workers.lost(error)) is None:
                raise
            raise TrainingError(
                f"{lost} is gone, and the training stopped after batch {self.progress.step:,}; "
                f"start every worker again with: kcharlm fit --resume {self.folder}"
            ) from error
        finally:
            self.display.stop()
        return load(self.folder) if chief else None

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """The training's folder, made and for this process alone. Where the training ends early,
        the folder holds what it had learnt, or is removed if that was nothing."""
        made = self.make_folder()
        with checkpoint.claim(self.work):
            try:
                yield
            except (
                Interrupted,
                TrainingError,
                OSError,
                KeyboardInterrupt,
                tf.errors.ResourceExhaustedError,
            ) as error:
                if self.progress.step == 0:  # nothing was trained: leave no trace
                    _remove(self.work, made)
                elif isinstance(error, (Interrupted, TrainingError)):
                    try:
                        self.publish_unfinished()
                    except OSError as full:  # the checkpoint has it all the same
                        self.display.note(
                            f"The model so far was not put into {self.folder} "
                            f"({full.strerror or full})."
                        )
                raise self.explained(error) from error

    def build(self) -> keras.Model:
        """The compiled network, on all devices."""
        plan, workers = self.plan, self.workers
        with workers.strategy.scope():
            network = model.build(
                plan.model,
                self.split.vocabulary.size,
                plan.fit.batch_size // workers.replicas,
                plan.fit.seed,
                plan.policy,
            )
            # Keras's automatic XLA would compile the time loop too, which is slower than without.
            network.compile(_optimizer(plan.fit), model.loss(), jit_compile=False)
            network.optimizer.build(network.trainable_variables)
        return network

    def make_folder(self) -> list[Path]:
        """Make the folders that are not there; returns those, innermost first."""
        missing = [p for p in (self.work, *self.work.parents) if not p.exists()]
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / bundle.LOCK).touch()
        except OSError as error:
            _remove(None, missing)
            raise BundleError(
                f"The folder {self.folder} cannot be written ({error.strerror or error}); name "
                "another with --output."
            ) from error
        return missing

    def begin(self, network: keras.Model) -> None:
        """Bring the network to where the training starts or goes on."""
        if self.resumes:
            # Read again: the training that ran here until a moment ago may have gone on.
            self.saved = _saved(self.work, self.workers)
            self.progress = checkpoint.read_json(self.saved)["progress"]
            checkpoint.restore(self.saved, network, self.workers, metrics=False)
            return
        if self.base:
            known = _start_from(network, self.base, self.split.vocabulary)
            self.display.note(
                f"init from   {self.base.path}: it knows {known} of the "
                f"{self.split.vocabulary.size - 1} characters"
            )
        if self.workers.chief:
            self.clear()
        self.save(network)

    def clear(self) -> None:
        """Remove what an earlier training left."""
        for old in (STATE, BEST, bundle.HISTORY, bundle.CURVE):
            (self.work / old).unlink(missing_ok=True)
        (self.work / bundle.SAMPLES).write_bytes(b"")

    def run_epochs(
        self, network: keras.Model, users: Sequence[keras.callbacks.Callback], stop: dict[str, int]
    ) -> None:
        """Call Keras's fit: once, or for a training stopped within an epoch once for its rest."""
        fit, steps = self.plan.fit, self.windows.steps
        workers = self.workers
        boards = (
            [keras.callbacks.TensorBoard(fit.tensorboard)]
            if fit.tensorboard and workers.chief
            else []
        )
        around = callbacks.training_callbacks(self, [*boards, *users], stop)
        self.display.start()
        network.stop_training = False
        while not (network.stop_training or self.fraction() >= 1 or self.out_of_patience()):
            epoch, within = divmod(self.progress.step, steps)
            epochs = epoch + 1 if within else fit.epochs
            data = workers.strategy.distribute_datasets_from_function(
                lambda _, first=self.progress.step, last=steps * epochs: self.windows.dataset(
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
                callbacks=around,
            )

    def fraction(self, ahead: int = 0) -> float:
        """How much of the training is done, `ahead` batches from now: by steps or by time,
        whichever is further."""
        fit = self.plan.fit
        steps = (self.progress.step + ahead) / (self.windows.steps * fit.epochs)
        return max(steps, self.progress.seconds / fit.max_time) if fit.max_time else steps

    def out_of_time(self) -> bool:
        return (
            self.plan.fit.max_time is not None and self.progress.seconds >= self.plan.fit.max_time
        )

    def out_of_patience(self) -> bool:
        return self.plan.fit.patience is not None and self.progress.stale >= self.plan.fit.patience

    def explained(self, error: BaseException) -> Exception:
        """The error as one of ours, with what to do."""
        go_on = (
            f"go on with: kcharlm fit --resume {self.folder}"
            if self.progress.step
            else "start again."
        )
        if isinstance(error, KeyboardInterrupt):
            return Interrupted(
                f"Stopped at once; what the last checkpoint holds is not lost: {go_on}",
                signal.SIGINT,
            )
        if isinstance(error, OSError):
            where = error.filename or self.folder
            return TrainingError(
                f"{where} cannot be written ({error.strerror or error}); make "
                f"room or mend the permissions, then {go_on}"
            )
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return TrainingError(
                f"The device has no memory for a batch of {self.plan.fit.batch_size} windows of "
                f"{self.plan.fit.seq_length}; lower --batch-size, --seq-length or --units."
            )
        return error

    def save(self, network: keras.Model) -> None:
        """Collect a checkpoint on all workers; the chief writes it. The best weights come first:
        should a crash part them from the state, resuming from the older state makes the same ones
        again."""
        state = checkpoint.collect(network, self.workers)
        if not self.workers.chief:
            return
        if self.best is not None:
            checkpoint.write_weights(self.work / BEST, self.best)
            self.best = None
        checkpoint.save(self.work / STATE, state, self.progress, self.plan.to_dict())
        self.write_tables(self.work)

    def write_tables(self, folder: Path) -> None:
        for name, rows in (
            (bundle.HISTORY, self.progress.history),
            (bundle.CURVE, self.progress.curve(self.windows.steps)),
        ):
            table = io.StringIO(newline="")
            csv.writer(table, lineterminator="\n").writerows([bundle.COLUMNS[name], *rows])
            text = table.getvalue()
            replace_file(folder / name, lambda p, text=text: p.write_text(text, encoding="utf-8"))

    # What the model becomes.

    def finish(self, network: keras.Model) -> None:
        """Score the best model, write its folder, and say where it is."""
        weights = self.best_weights() or [np.asarray(w) for w in network.weights]
        self.display.stop()
        card = self.write(weights, finished=True)
        for part in ("validation", "test"):
            if scores := card.scores.get(part):
                self.display.note(
                    f"{part:<12}{scores['bits_per_character']:.4f} bits per "
                    f"{self.split.vocabulary.unit_name} "
                    f"({scores['nats_per_character']:.4f} nats)"
                )
        self.display.note(f"model       {self.folder}")
        if (page := self.folder / bundle.REPORT).exists():
            self.display.note(f"report      {page}")
        self.display.note(f"next        kcharlm generate {self.folder}")

    def publish_unfinished(self) -> None:
        """Make the best model so far usable, unless an older model stands in its place."""
        best = self.best_weights()
        if best is None:
            return
        config = self.folder / bundle.CONFIG
        if config.exists() and bundle.open_bundle(self.folder).card.run != self.plan.run:
            return
        self.write(best, finished=False)

    def best_weights(self) -> list[np.ndarray] | None:
        if self.best is not None:
            return self.best
        path = self.work / BEST
        return checkpoint.read_weights(path) if path.exists() else None

    def write(self, weights: list[np.ndarray], finished: bool) -> Card:
        """Publish weights as the model folder."""
        plan, split = self.plan, self.split
        if plan.fit.quantize == "float16":  # what is scored and stored is the rounded model
            weights = [w.astype(np.float16).astype(np.float32) for w in weights]
        network = model.build(plan.model, split.vocabulary.size)
        network.set_weights(weights)
        scores: dict[str, Any] = {"epoch": self.progress.best_epoch}
        if finished:
            evaluator = Evaluator(network, self.start)
            for part in ("validation", "test"):
                if (stream := getattr(split, part)).length > stream.lead:
                    scores[part] = evaluator(stream).to_dict()
            if (counted := self.baseline()) is not None:
                scores["baseline"] = counted
        elif self.progress.best is not None:
            scores["validation"] = {
                "bits_per_character": self.progress.best,
                "nats_per_character": self.progress.best * math.log(2),
            }
        source = graph.OnDeviceGraph(network, plan.model, split.vocabulary)
        content = tflite.convert(source, plan.fit.quantize)
        tflite.check(content, source)
        card = Card(
            name=self.folder.name,
            run=plan.run,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            model=plan.model,
            fit=plan.fit,
            corpus={
                "name": plan.name,
                "files": list(plan.files),
                "bytes": self.text.size,
                "characters": len(self.text.symbols),
                "sha256": plan.sha256,
                "config": plan.corpus.to_dict(),
            },
            split=self.describe_split(),
            start=split.start,
            finished=finished,
            parameters=network.count_params(),
            scores=scores,
        )
        content = packing.pack(
            content, card.on_device(split.vocabulary, plan.fit.quantize), source.named_weights()
        )

        def fill(folder: Path) -> None:
            write_json(folder / bundle.VOCABULARY, split.vocabulary.to_dict())
            (folder / bundle.DEVICE).write_bytes(content)
            if split.train_lines is not None:
                np.unique(split.train_lines.fingerprints).astype("<u8").tofile(
                    folder / bundle.LINES
                )
            # Not copied: a kill may have parted the tables from the state it belongs to.
            self.write_tables(folder)
            shutil.copy(self.work / bundle.SAMPLES, folder / bundle.SAMPLES)
            if not finished:  # what resuming needs moves along
                (folder / bundle.CHECKPOINT).mkdir()
                for path in self.work.iterdir():
                    _link(path, folder / bundle.CHECKPOINT / path.name)

        return bundle.publish(self.folder, card, fill, self.report)

    def baseline(self) -> list[dict[str, Any]] | None:
        """What counting comes to on the same text, where that is soon known."""
        held_out = sum(getattr(self.split, part).length for part in ("validation", "test"))
        if held_out and self.split.train.length <= _SOON_COUNTED:
            return ngram.scores(self.split)
        return None

    def report(self, folder: Path) -> None:
        """Write the page of a model that is about to be published; the model matters more."""
        try:
            with quiet():  # Matplotlib talks where it finds its folders new or closed
                from keras_charlm.report import report

            report.write(folder, place=self.folder, count=False)
        except Exception as error:
            self.display.note(
                f"The report could not be written ({error}); try again with: "
                f"kcharlm report {self.folder}"
            )

    def describe_split(self) -> dict[str, Any]:
        split: dict[str, Any] = {}
        for part in ("train", "validation", "test"):
            stream = getattr(self.split, part)
            split[part] = {"characters": max(0, stream.length - stream.lead)}
            if self.text.config.lines:
                split[part]["lines"] = len(stream.lines)
        return split

    # What is seen.

    def summarize(self, network: keras.Model) -> None:
        plan, note, text = self.plan, self.display.note, self.text
        what = f"{self.split.vocabulary.unit_name}s"
        form = (
            ""
            if text.config.unit == "byte" or text.config.normalize == "none"
            else f", {text.config.normalize.upper()}"
        )
        note(
            f"corpus      {text.name}: {len(text.symbols):,} {what}, "
            f"{self.split.vocabulary.size - 1} distinct{form}"
        )
        parts = []
        for part, values in self.describe_split().items():
            unit = "lines" if "lines" in values else "characters"
            parts.append(f"{values[unit]:,} {part}" if values[unit] else f"no {part} part")
        note(
            f"split       {', '.join(parts)}"
            f"{' (distinct lines)' if text.config.lines and not text.config.duplicates else ''}"
        )
        m, f = plan.model, plan.fit
        note(
            f"model       {m.layers} x {m.units} {m.cell}, "
            f"{f'embedding {m.embedding}' if m.embedding else 'one-hot'}"
            f"{', tied' if m.tied else ''}, dropout {m.dropout:g}"
            f"{f', noise {m.noise:g}' if m.noise else ''}: "
            f"{network.count_params():,} parameters"
        )
        batches = counted(self.windows.steps, "batch", "batches")
        note(
            "training    "
            + (
                f"{batches} an epoch"
                if f.max_time
                else f"{counted(f.epochs, 'epoch')} of {batches}"
            )
            + f", {f.batch_size} x {f.seq_length} "
            f"{what}, {f.optimizer} {f.learning_rate:g}, {f.schedule}"
            f"{f', at most {duration(f.max_time)}' if f.max_time else ''}"
        )
        workers = self.workers
        note(
            f"device      {f'{workers.count} workers of ' if workers.count > 1 else ''}"
            f"{devices.describe(len(workers.parts))}, {plan.policy.removeprefix('mixed_')}"
        )
        note(f"output      {self.folder}")
        if self.resumes:
            note(
                f"resuming    after epoch {self.progress.step // self.windows.steps}, "
                f"batch {self.progress.step % self.windows.steps}"
            )

    def sample(self, runner, seed: int) -> str:
        """A sample for the screen and samples.txt: a few lines of a list, or a piece of text."""
        split, lines = self.split, self.text.config.lines
        form = "none" if split.vocabulary.unit == "byte" else self.text.config.normalize
        config = SampleConfig(num=5 if lines else 1, length=None if lines else 300, seed=seed)
        drawn = list(
            draw_samples(
                runner, split.vocabulary, config, lines=lines, start=split.start, normalize=form
            )
        )
        texts = [
            s.text.decode("utf-8", "replace") if isinstance(s.text, bytes) else s.text
            for s in drawn
        ]
        return ", ".join(texts) if lines else "".join(texts)


def _remove(work: Path | None, made: list[Path]) -> None:
    """Remove a training folder, and the empty folders that were made for it."""
    if work:
        shutil.rmtree(work, ignore_errors=True)
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without links
        shutil.copy(path, copy)


def _optimizer(config: FitConfig) -> keras.optimizers.Optimizer:
    kinds = {"adam": compiled.Adam, "rmsprop": compiled.RMSprop}
    return kinds[config.optimizer](config.learning_rate, global_clipnorm=config.clip_norm)


def _divisible(batch: int, replicas: int) -> int:
    """The batch nearest to `batch` that the devices can share evenly."""
    return max(1, (batch + replicas // 2) // replicas) * replicas


def _policy(precision: str) -> str:
    """The Keras dtype policy of a precision; 'auto' asks the hardware."""
    if precision == "auto":
        precision = "bfloat16" if devices.prefer_bfloat16() else "float32"
    return "float32" if precision == "float32" else f"mixed_{precision}"


def _start_from(network: keras.Model, base: bundle.Bundle, vocabulary: Vocabulary) -> int:
    """Copy another model's weights. Characters that both know keep their rows of the embedding (or,
    with one-hot input, of the first kernel), their columns of the logits and their biases.

    Returns:
        How many characters of the vocabulary those are.
    """
    theirs = base.vocabulary.lookup(np.array(vocabulary.codes))  # their id of each of our codes
    known = np.concatenate([[True], theirs > 0])  # the unknown symbol is always id 0
    theirs = np.concatenate([[0], theirs])
    mine, values = model.named_weights(network), base.weights()
    # Name: axis of the characters. The logits' kernel has one unless the embedding gives them.
    by_character = {next(iter(mine)): 0, f"{model.LOGITS}/bias": 0}
    if not base.card.model.tied:
        by_character[f"{model.LOGITS}/kernel"] = 1
    for name, variable in mine.items():
        value, axis = values[name], by_character.get(name)
        if axis is not None:
            rows = np.moveaxis(np.asarray(variable), axis, 0).copy()
            rows[known] = np.moveaxis(value, axis, 0)[theirs[known]]
            value = np.moveaxis(rows, 0, axis)
        variable.assign(value)
    return int(known[1:].sum())


@contextlib.contextmanager
def _signals() -> Iterator[dict[str, int]]:
    """Note SIGINT and SIGTERM instead of dying; a second SIGINT acts at once."""
    stop: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def noted(number, _frame):
        stop["signal"] = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    kept = {number: signal.signal(number, noted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
