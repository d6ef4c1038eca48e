"""The Keras callbacks of a training: pace, validation, report, saving.

Their order matters: the user's own callbacks run between the report and the saving.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_charlm.display import Display, command, duration
from keras_charlm.errors import Interrupted, TrainingError
from keras_charlm.evaluation.evaluator import Evaluator
from keras_charlm.evaluation.scores import Tally
from keras_charlm.text.split import Split
from keras_charlm.text.streams import Windows
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.training.checkpoint import Checkpoints, restore
from keras_charlm.training.samples import SampleWriter
from keras_charlm.training.schedule import Schedule
from keras_charlm.training.workers import Workers

_BITS = 1 / math.log(2)  # bits in a nat

# A shorter validation part does not tell good epochs from bad ones: the last one is kept.
JUDGED = 500

# Batches after which a sample is drawn by default: most is learned early.
_EARLY = frozenset(100 * 2**i for i in range(20))

_SHORT = 1.0  # seconds: not every epoch shorter than this is shown and saved


class Pace(keras.callbacks.Callback):
    """Sets the learning rate, counts steps and time, and synchronizes the workers' decisions after
    each batch.

    Args:
        schedule: The training's schedule and progress.
        windows: The batches.
        workers: The workers that train together.
        saving: Is notified of the workers' joint decision.
        display: Shows the progress.
        split: The text's parts; scoring the held-out ones at the end takes time too.
        resumed: The state of a resumed training; emptied once it is restored.
    """

    def __init__(
        self,
        schedule: Schedule,
        windows: Windows,
        workers: Workers,
        saving: Saving,
        display: Display,
        split: Split,
        resumed: dict[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.schedule, self.windows = schedule, windows
        self.workers, self.saving = workers, saving
        self.display, self.vocabulary = display, split.vocabulary
        # The last epoch's validation, then the scores of both parts.
        self.scored = 2 * split.validation.length + split.test.length
        self.resumed = resumed  # until it is restored
        self.rate = 0.0  # learning rate of the last batch
        self.loss = math.nan  # nats, mean of the epoch's targets up to the last batch
        self.compiled = self.estimated = False
        self.characters, self.busy = 0, 0.0  # trained on, and seconds, since the process began
        self.before = 0, 0.0  # the same at the epoch's start

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.last_set = self._optimizer_rate()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.before = self.characters, self.busy
        if self.resumed is not None and self.schedule.progress.step % self.schedule.steps:
            # Keras has just reset the metrics: restore those of the epoch's first part.
            restore(self.resumed, self.model, self.workers)
            self.last_set = self._optimizer_rate()
        if self.resumed is not None:
            self.resumed.clear()  # frees memory: it is as large as the training state itself
            self.resumed = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.rate = self._set_rate()
        self.began = time.perf_counter()

    def _set_rate(self) -> float:
        """Set the learning rate of the next batch, or look up the one that the optimizer has."""
        current = self._optimizer_rate()
        if not self.schedule.sets_rate:
            return current
        if current != self.last_set:
            raise TrainingError(
                "A callback set the learning rate, which the schedule "
                f"{self.schedule.config.schedule} sets too; train with schedule='none'."
            )
        rate = self.schedule.learning_rate()
        # TensorFlow caches every Python number converted to a tensor: half a kilobyte each.
        self.model.optimizer.learning_rate = np.float32(rate)
        self.last_set = float(np.float32(rate))
        return rate

    def _optimizer_rate(self) -> float:
        return float(np.asarray(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        schedule, saving = self.schedule, self.saving
        config, progress = schedule.config, schedule.progress
        # The mean of the epoch so far in nats; Keras counts what is past a segment's end as 0.
        epoch, step = divmod(progress.step, schedule.steps)
        places = (step + 1) * config.batch_size * config.seq_length
        logs["loss"] *= places / self.windows.targets(epoch, step + 1)
        self.loss, took, stop, due = self.workers.mean(
            float(logs["loss"]),
            time.perf_counter() - self.began,
            saving.stopped,
            saving.due(config.checkpoint_every),
        )
        logs["loss"] = self.loss
        saving.agree(stop > 0, due > 0)
        progress.step += 1
        if self.compiled:  # the first batch compiles: it would distort the speed
            progress.seconds += took
            self.busy += took
            self.characters += config.batch_size * config.seq_length
        self.compiled = True
        if not math.isfinite(self.loss):
            raise TrainingError(
                f"The loss became {self.loss} at batch {progress.step:,}, and any best model so "
                f"far is kept; try a lower --learning-rate than {config.learning_rate:g}, a lower "
                "--clip-norm or --precision float32."
            )
        progress.note(self.loss * _BITS, self.rate)
        if schedule.out_of_time:
            self.model.stop_training = True
        self._show(self.loss * _BITS)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        logs["loss"] = self.loss  # Keras has just put its own mean there again

    def _show(self, bits: float) -> None:
        schedule, unit = self.schedule, self.vocabulary.unit
        speed = self.speed()
        left = schedule.seconds_left(speed)
        if not self.estimated and self.busy > 1.0:
            self.estimated = True
            if not schedule.progress.ending:
                schedule.progress.ending = self.scored / speed
                left = schedule.seconds_left(speed)
            self.display.note(
                f"estimate    {duration(left + schedule.progress.ending)} at {speed:,.0f} "
                f"{self.vocabulary.unit_name}s per second"
            )
        epoch, step = divmod(schedule.progress.step - 1, schedule.steps)
        self.display.update(
            f"epoch {epoch + 1}" + ("" if schedule.config.max_time else f"/{schedule.epochs}"),
            schedule.fraction(),
            f"{bits:.3f} bits/{unit}  {duration(left + schedule.progress.ending)} left",
            f"batch {step + 1:,}/{schedule.steps:,}  {speed:,.0f} {unit}/s",
        )

    def speed(self) -> float:
        """Characters per second since the process started, excluding validation."""
        return self.characters / self.busy if self.busy else 0.0

    def epoch_speed(self) -> float:
        """Characters per second over this epoch's batches."""
        busy = self.busy - self.before[1]
        return (self.characters - self.before[0]) / busy if busy else 0.0


class Validation(keras.callbacks.Callback):
    """After each epoch: validation loss, best weights, early stopping.

    Args:
        schedule: The training's schedule and progress.
        workers: The workers, each of which reads its share of the rows.
        split: Its validation part is scored.
        checkpoints: Stores the best weights.
        display: Shows why the training stops.
    """

    def __init__(
        self,
        schedule: Schedule,
        workers: Workers,
        split: Split,
        checkpoints: Checkpoints,
        display: Display,
    ):
        super().__init__()
        self.schedule, self.workers, self.checkpoints = schedule, workers, checkpoints
        self.stream, self.display = split.validation, display
        self.start = split.vocabulary.id_of(split.start)
        self.evaluator: Evaluator | None = None
        self.compiled = False  # the first time compiles

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        began, workers = time.perf_counter(), self.workers
        if self.stream.length > self.stream.lead:
            self.evaluator = self.evaluator or Evaluator(self.model, self.start)
            tally = self.evaluator.total(self.stream, part=workers.index, parts=workers.count)
            characters, bits, correct, unknown = workers.sum(*dataclasses.astuple(tally))
            scores = Tally(int(characters), bits, int(correct), int(unknown)).scores()
            logs["val_loss"] = scores.nats_per_character
            if characters < JUDGED and self.schedule.config.patience is None:
                self.keep(epoch)
            else:
                self.compare(epoch, scores.bits_per_character)
        else:
            self.keep(epoch)
        (took,) = workers.mean(time.perf_counter() - began)
        if self.compiled:
            self.schedule.progress.seconds += took
        self.compiled = True

    def compare(self, epoch: int, bits: float) -> None:
        """Keep the weights if the validation loss is the best so far; stop if out of patience.

        Args:
            epoch: The epoch, from 0.
            bits: Validation loss, bits per character.
        """
        progress = self.schedule.progress
        # NaN is never the best: it is below nothing.
        if bits < (math.inf if progress.best is None else progress.best):
            progress.best, progress.stale = bits, 0
            progress.best_done = self.schedule.fraction()
            self.keep(epoch)
            return
        progress.stale += 1
        if self.schedule.out_of_patience:
            self.model.stop_training = True
            self.display.note(f"Stopping: no lower validation loss for {progress.stale} epochs.")

    def keep(self, epoch: int) -> None:
        """Keep the weights of this epoch (from 0) as the best, if all are finite."""
        weights = [np.asarray(w) for w in self.model.weights]
        if all(np.isfinite(w).all() for w in weights):
            self.schedule.progress.best_epoch = epoch + 1
            self.checkpoints.keep_best(weights)


class EpochReport(keras.callbacks.Callback):
    """Records and shows the figures of each epoch, with a sample.

    Args:
        schedule: The training's schedule and progress.
        pace: Knows the speed and the learning rate.
        samples: Draws and writes the samples.
        display: Shows the epochs.
        vocabulary: Names the unit.
        lines: Whether the documents are lines.
    """

    def __init__(
        self,
        schedule: Schedule,
        pace: Pace,
        samples: SampleWriter,
        display: Display,
        vocabulary: Vocabulary,
        lines: bool,
    ):
        super().__init__()
        self.schedule, self.pace, self.samples = schedule, pace, samples
        self.display, self.unit, self.lines = display, vocabulary.unit, lines
        self.shown = -math.inf
        self.explained = False  # whether a note has said what * means

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        every, step = self.schedule.config.sample_every, self.schedule.progress.step
        if step % every == 0 if every else step in _EARLY:
            self.samples.write(self.model, None, float(logs["loss"]) * _BITS)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        progress = self.schedule.progress
        train = float(logs["loss"]) * _BITS
        validation = float(logs["val_loss"]) * _BITS if "val_loss" in logs else None
        progress.history.append(
            [
                epoch + 1,
                progress.step,
                round(progress.seconds, 2),
                round(train, 5),
                None if validation is None else round(validation, 5),
                float(f"{self.pace.rate:.4g}"),
                round(self.pace.epoch_speed()),
            ]
        )
        last = epoch + 1 == self.schedule.epochs or self.model.stop_training
        if time.monotonic() - self.shown < _SHORT and not last:
            return
        sample = self.samples.write(self.model, epoch + 1, train, validation)
        figures = f"train {train:.4f}"
        if validation is not None:
            figures += f"  val {validation:.4f}"
        best = "  "
        if progress.best is not None and progress.best_epoch == epoch + 1:
            best = " *" if self.explained else " * (best epoch so far)"
            self.explained = True
        self.display.note(
            f"epoch {epoch + 1:>3}   {figures} bits/{self.unit}{best}"
            + (f"  {sample}" if self.lines else f"\n{self.display.wrapped(sample)}\n")
        )
        self.shown = time.monotonic()


class Saving(keras.callbacks.Callback):
    """Writes checkpoints, and stops all workers after the batch during which a signal arrived.

    Args:
        schedule: The training's schedule and progress.
        checkpoints: Writes them.
        workers: The workers that train together.
        signals: Has the key `signal` once one has arrived; see `loop.noted_signals`.
        display: Shows that the training stops.
        folder: The model's folder, for the advice to resume.
    """

    def __init__(
        self,
        schedule: Schedule,
        checkpoints: Checkpoints,
        workers: Workers,
        signals: dict[str, int],
        display: Display,
        folder: Path,
    ):
        super().__init__()
        self.schedule, self.checkpoints, self.workers = schedule, checkpoints, workers
        self.signals, self.display, self.folder = signals, display, folder
        self.saved = time.monotonic()
        self.stop = self.save_now = False  # what the workers agreed on after the batch

    @property
    def stopped(self) -> bool:
        """Whether this worker has received a signal."""
        return "signal" in self.signals

    def agree(self, stop: bool, due: bool) -> None:
        """Note what the workers agreed on: to stop, or to save."""
        self.stop, self.save_now = stop, due

    def due(self, seconds: float) -> bool:
        """Whether the last checkpoint is older than this."""
        return time.monotonic() - self.saved > seconds

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.schedule.progress.step % self.schedule.steps == 0:
            return  # on_epoch_end saves, after validation
        self._act()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # With very short epochs the training would otherwise do little but save.
        stop, due, self.model.stop_training = self.workers.any(
            self.stopped, self.due(_SHORT), self.model.stop_training
        )
        self.agree(stop, due)
        self._act()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.save()

    def _act(self) -> None:
        if self.stop:
            self.display.note("Stopping: saving the training so far.")
            self.save()
            raise Interrupted(
                f"Stopped after batch {self.schedule.progress.step:,}, and nothing is lost; "
                f"continue with: {command('kcharlm', 'fit', '--resume', self.folder)}",
                self.signals.get("signal", signal.SIGTERM),
            )
        if self.save_now:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        self.checkpoints.save(self.model)
        self.saved = time.monotonic()
