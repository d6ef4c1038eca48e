"""What happens around the batches of a training, as Keras callbacks in the order of `for_run`."""

from __future__ import annotations

import math
import signal
import time
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_charlm.config import FitConfig
from keras_charlm.display import duration
from keras_charlm.errors import Interrupted, TrainingError
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.evaluation.scores import Scores
from keras_charlm.export import graph
from keras_charlm.saved import bundle
from keras_charlm.training import checkpoint

if TYPE_CHECKING:
    from keras_charlm.training.run import Run

_BITS = 1 / math.log(2)  # bits in a nat


# Most is learnt early: samples at these batches show it, unless told when to draw them.
_EARLY = frozenset(100 * 2**i for i in range(20))


_SHORT = 1.0  # seconds: epochs shorter than this are not all shown and saved


def training_callbacks(
    run: Run, users: list[keras.callbacks.Callback], stop: dict[str, int]
) -> list:
    """The callbacks of a training; the user's come after the validation and before the saving."""
    saving = Saving(run, stop)
    pace = Pace(run, saving)
    reports = [EpochReport(run, pace)] if run.workers.chief else []
    return [pace, Validation(run), *reports, *users, saving]


class Pace(keras.callbacks.Callback):
    """Zeroes the states at an epoch's start, sets the learning rate, counts steps and time, and
    lets the workers agree after each batch."""

    def __init__(self, run: Run, saving: Saving):
        super().__init__()
        self.run, self.saving = run, saving
        self.resumed_at = run.progress.step if run.resumes else None
        self.compiled = self.estimated = False
        self.characters, self.busy = 0, 0.0  # trained on, and seconds, since the process began
        self.before = 0, 0.0  # the same at the epoch's start

    def on_epoch_begin(self, epoch, logs=None):
        progress, run = self.run.progress, self.run
        self.before = self.characters, self.busy
        if progress.step == self.resumed_at and progress.step % run.windows.steps:
            # Keras has just reset the metrics of the epoch's first part: bring them back.
            checkpoint.restore(run.saved, self.model, run.workers)
        else:
            checkpoint.set_states(self.model)
        run.saved = None

    def on_train_batch_begin(self, batch, logs=None):
        run = self.run
        self.rate = learning_rate(
            run.plan.fit, run.progress.step, run.windows.steps, run.fraction(1)
        )
        # TensorFlow keeps every Python number that it made a tensor of: half a kilobyte each.
        self.model.optimizer.learning_rate = np.float32(self.rate)
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        run, progress, fit = self.run, self.run.progress, self.run.plan.fit
        saving = self.saving
        # The loss is in nats, the mean of the epoch so far.
        loss, took, told, due = run.workers.mean(
            float(logs["loss"]),
            time.perf_counter() - self.began,
            "signal" in saving.stop,
            saving.due(fit.checkpoint_every),
        )
        logs["loss"], saving.told, saving.wanted = loss, told > 0, due > 0
        progress.step += 1
        progress.seconds += took
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss} at batch {progress.step:,}; the best model so far is kept "
                f"where there is one: try a lower --learning-rate than {fit.learning_rate:g}, a "
                "lower --clip-norm or --precision float32."
            )
        progress.note(loss * _BITS, self.rate)
        if self.compiled:  # by the first batch, which would spoil the speed
            self.busy += took
            self.characters += fit.batch_size * fit.seq_length
        self.compiled = True
        if run.out_of_time():
            self.model.stop_training = True
        left = self.left()
        if not self.estimated and self.busy > 1.0:
            self.estimated = True
            run.display.note(
                f"estimate    {duration(left)} at {self.speed():,.0f} "
                f"{run.split.vocabulary.unit_name}s a second"
            )
        epoch, step = divmod(progress.step - 1, run.windows.steps)
        run.display.update(
            f"epoch {epoch + 1}" + ("" if fit.max_time else f"/{fit.epochs}"),
            run.fraction(),
            f"batch {step + 1:,}/{run.windows.steps:,}  {loss * _BITS:.3f} bits/{run.unit}  "
            f"{self.speed():,.0f} {run.unit}/s  {duration(left)} left",
        )

    def speed(self) -> float:
        """Characters a second since the process began, validation not counted."""
        return self.characters / self.busy if self.busy else 0.0

    def epoch_speed(self) -> float:
        """Characters a second of this epoch's batches."""
        busy = self.busy - self.before[1]
        return (self.characters - self.before[0]) / busy if busy else 0.0

    def left(self) -> float:
        """Seconds to go."""
        run, fit = self.run, self.run.plan.fit
        batches = run.windows.steps * fit.epochs - run.progress.step
        speed = self.speed()
        seconds = batches * fit.batch_size * fit.seq_length / speed if speed else math.inf
        if fit.max_time:
            seconds = min(seconds, max(0.0, fit.max_time - run.progress.seconds))
        return seconds


class Validation(keras.callbacks.Callback):
    """After an epoch: the validation figure, the best weights, early stopping."""

    def __init__(self, run: Run):
        super().__init__()
        self.run, self.evaluator = run, None

    def on_epoch_end(self, epoch, logs=None):
        run, progress = self.run, self.run.progress
        stream, began = run.split.validation, time.perf_counter()
        if stream.length > stream.lead:
            self.evaluator = self.evaluator or Evaluator(self.model, run.start)
            workers = run.workers  # each reads its share of the rows
            scores = Scores.of(
                *workers.sum(*self.evaluator.total(stream, part=workers.index, parts=workers.count))
            )
            logs["val_loss"] = scores.nats_per_character
            # A figure that is not a number is below no other.
            best = math.inf if progress.best is None else progress.best
            if scores.bits_per_character < best:
                progress.best, progress.stale = scores.bits_per_character, 0
                self.keep(epoch)
            else:
                progress.stale += 1
                if run.out_of_patience():
                    self.model.stop_training = True
                    run.display.note(
                        f"Stopping: no better validation figure for {progress.stale} epochs."
                    )
        else:
            self.keep(epoch)
        (took,) = run.workers.mean(time.perf_counter() - began)
        progress.seconds += took

    def keep(self, epoch: int) -> None:
        weights = [np.asarray(w) for w in self.model.weights]
        if all(np.isfinite(w).all() for w in weights):
            self.run.progress.best_epoch = epoch + 1
            self.run.best = weights if self.run.workers.chief else None


class EpochReport(keras.callbacks.Callback):
    """Notes an epoch's figures and shows them with a sample; writes samples.txt."""

    def __init__(self, run: Run, pace: Pace):
        super().__init__()
        self.run, self.pace, self.shown, self.device = run, pace, -math.inf, None

    def on_train_batch_end(self, batch, logs=None):
        every, progress = self.run.plan.fit.sample_every, self.run.progress
        if progress.step % every == 0 if every else progress.step in _EARLY:
            self.write_sample(
                f"step {progress.step}, training loss "
                f"{float(logs['loss']) * _BITS:.4f} bits per "
                f"{self.run.split.vocabulary.unit_name}"
            )

    def on_epoch_end(self, epoch, logs=None):
        run, progress = self.run, self.run.progress
        train = float(logs["loss"]) * _BITS
        val = float(logs["val_loss"]) * _BITS if "val_loss" in logs else None
        progress.history.append(
            [
                epoch + 1,
                progress.step,
                round(progress.seconds, 2),
                round(train, 5),
                None if val is None else round(val, 5),
                float(f"{self.pace.rate:.4g}"),
                round(self.pace.epoch_speed()),
            ]
        )
        last = epoch + 1 == run.plan.fit.epochs or self.model.stop_training
        if time.monotonic() - self.shown < _SHORT and not last:
            return
        figures = f"train {train:.4f}" + ("" if val is None else f"  val {val:.4f}")
        sample = self.write_sample(
            f"epoch {epoch + 1}, step {progress.step}, {figures} bits per "
            f"{run.split.vocabulary.unit_name}"
        )
        best = " *" if val is not None and progress.best_epoch == epoch + 1 else "  "
        lines = run.text.config.lines
        run.display.note(
            f"epoch {epoch + 1:>3}   {figures} bits/{run.unit}{best}"
            + (f"  {sample}" if lines else f"\n{sample}\n")
        )
        self.shown = time.monotonic()

    def write_sample(self, title: str) -> str:
        """Draw a sample and append it to samples.txt."""
        run, progress = self.run, self.run.progress
        if self.device is None:
            self.device = graph.OnDeviceGraph(self.model, run.plan.model, run.split.vocabulary)
        else:
            self.device.assign(self.model)
        text = run.sample(self.device.runner(), seed=progress.step % 2**31)
        with (run.work / bundle.SAMPLES).open("r+b") as file:
            file.truncate(progress.samples_size)  # what a killed run wrote after its checkpoint
            file.seek(progress.samples_size)
            file.write(f"==== {title} ====\n{text}\n\n".encode("utf-8", "surrogatepass"))
            progress.samples_size = file.tell()
        return text


class Saving(keras.callbacks.Callback):
    """Writes checkpoints, and stops after the batch in which a signal came; all workers at once."""

    def __init__(self, run: Run, stop: dict[str, int]):
        super().__init__()
        self.run, self.stop, self.saved = run, stop, time.monotonic()
        self.told = self.wanted = False  # what the workers agreed on after the batch

    def on_train_batch_end(self, batch, logs=None):
        run = self.run
        if run.progress.step % run.windows.steps == 0:
            return  # the epoch's end, with its validation, belongs to this state
        self.stop_if_told()
        if self.wanted:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        # A training of very short epochs would otherwise do little but save.
        self.told, self.wanted, self.model.stop_training = self.run.workers.any(
            "signal" in self.stop, self.due(_SHORT), self.model.stop_training
        )
        self.stop_if_told()
        if self.wanted:
            self.save()

    def due(self, seconds: float) -> bool:
        return time.monotonic() - self.saved > seconds

    def stop_if_told(self) -> None:
        if self.told:
            self.run.display.note("Stopping: saving what was learnt so far.")
            self.save()
            raise Interrupted(
                f"Stopped after batch {self.run.progress.step:,}, and nothing is lost; go on with: "
                f"kcharlm fit --resume {self.run.folder}",
                self.stop.get("signal", signal.SIGTERM),
            )

    def on_train_end(self, logs=None):
        self.save()

    def save(self) -> None:
        self.run.save(self.model)
        self.saved = time.monotonic()


def learning_rate(config: FitConfig, step: int, steps: int, fraction: float) -> float:
    """The learning rate of a batch.

    Args:
        config: `learning_rate` is the highest; `schedule` and `warmup` shape it.
        step: Batches done before this one.
        steps: Batches of an epoch.
        fraction: Share of the training that is done with this batch, above 0 to 1.

    Returns:
        For 'cosine' a linear warm-up, then a half cosine to zero (Loshchilov and Hutter, "SGDR",
        2017, section 3, without restarts); for 'char-rnn' the highest rate for ten epochs, then in
        each epoch 0.97 times that of the one before.
    """
    highest = config.learning_rate
    if config.schedule == "char-rnn":
        return highest * 0.97 ** max(0, step // steps - 9)
    if fraction < config.warmup:
        return highest * fraction / config.warmup
    if config.schedule == "constant":
        return highest
    rest = (fraction - config.warmup) / max(1 - config.warmup, 1e-9)
    return highest * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
