"""When a training ends, and its learning rate schedule."""

from __future__ import annotations

import math

from keras_charlm.config import FitConfig
from keras_charlm.training.progress import Progress

# Without --patience: a training stops if the validation loss has not fallen for this share of it,
# and for this many epochs.
PATIENCE, PATIENT_EPOCHS = 0.2, 5


class Schedule:
    """A training's progress, measured against its settings.

    Args:
        config: The settings.
        steps: Batches of an epoch.
        progress: The training's progress; read at each call.
    """

    def __init__(self, config: FitConfig, steps: int, progress: Progress):
        self.config, self.steps, self.progress = config, steps, progress

    @property
    def epochs(self) -> int:
        """Maximum number of epochs."""
        return self.config.epochs or 0

    def fraction(self, ahead: int = 0) -> float:
        """Share of the training that is done `ahead` batches from now: by steps or by time,
        whichever is further."""
        steps = (self.progress.step + ahead) / (self.steps * self.epochs)
        if self.limit is not None:
            return max(steps, self.progress.seconds / self.limit)
        return steps

    @property
    def limit(self) -> float | None:
        """Seconds to train: `max_time` without the time for scoring, at least half of it."""
        most = self.config.max_time
        return None if most is None else max(most - self.progress.ending, most / 2)

    @property
    def out_of_time(self) -> bool:
        """Whether the time to train is over."""
        return self.limit is not None and self.progress.seconds >= self.limit

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for `patience` epochs, or by default for
        a fifth of the training."""
        progress, limit = self.progress, self.config.patience
        if limit is not None:
            return progress.stale >= limit
        late = self.fraction() - progress.best_done >= PATIENCE
        return late and progress.stale >= PATIENT_EPOCHS

    @property
    def ended(self) -> bool:
        """Whether no batch is left to train on."""
        return self.fraction() >= 1 or self.out_of_patience

    @property
    def sets_rate(self) -> bool:
        """Whether the learning rate follows this schedule, and not the optimizer or a callback."""
        return self.config.schedule in ("cosine", "char-rnn", "constant")

    def learning_rate(self) -> float:
        """The learning rate of the next batch, if this schedule sets it."""
        return learning_rate(self.config, self.progress.step, self.steps, self.fraction(1))

    def seconds_left(self, speed: float) -> float:
        """Seconds to the end of the last batch at a speed in characters per second; infinite if the
        speed is 0."""
        config = self.config
        batches = self.steps * self.epochs - self.progress.step
        seconds = batches * config.batch_size * config.seq_length / speed if speed else math.inf
        if self.limit is not None:
            seconds = min(seconds, max(0.0, self.limit - self.progress.seconds))
        return seconds


def learning_rate(config: FitConfig, step: int, steps: int, fraction: float) -> float:
    """The learning rate of a batch.

    Args:
        config: `learning_rate` is the highest; `schedule` and `warmup` shape it.
        step: Batches done before this one.
        steps: Batches of an epoch.
        fraction: Share of the training that is done with this batch, above 0 to 1.

    Returns:
        For 'cosine' a linear warm-up, then cosine decay to zero (Loshchilov and Hutter, "SGDR",
        2017, section 3, without restarts); for 'char-rnn' the highest rate for ten epochs, then
        multiplied by 0.97 each epoch; for 'constant' a linear warm-up, then the highest rate.
    """
    highest = config.learning_rate or 0.0
    if config.schedule == "char-rnn":
        return highest * 0.97 ** max(0, step // steps - 9)
    if fraction < config.warmup:
        return highest * fraction / config.warmup
    if config.schedule == "constant":
        return highest
    rest = (fraction - config.warmup) / max(1 - config.warmup, 1e-9)
    return highest * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
