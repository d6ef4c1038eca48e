"""The defaults that depend on the text: the network's size, the length of a training, dropout, and
how much synthetic text it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from keras_charlm.config import MOST_EPOCHS, FitConfig, ModelConfig


@dataclass(frozen=True)
class NetworkSize:
    """A row of the table behind `--size`."""

    layers: int
    units: int
    embedding: int
    tied: bool
    learning_rate: float
    # (most training characters, dropout), ascending: the less text, the more dropout.
    dropout: tuple[tuple[float, float], ...]


SIZES = {
    "small": NetworkSize(
        2,
        128,
        32,
        True,
        4e-3,
        ((100_000, 0.3), (1_000_000, 0.2), (math.inf, 0.0)),
    ),
    "medium": NetworkSize(
        2, 256, 64, False, 4e-3, ((300_000, 0.5), (3_000_000, 0.2), (math.inf, 0.0))
    ),
    "large": NetworkSize(
        2, 512, 128, False, 2e-3, ((3_000_000, 0.5), (20_000_000, 0.2), (math.inf, 0.0))
    ),
}
# Chosen so that a network has about as many parameters as there are training characters:
# (most characters, size).
AUTO_SIZE = ((300_000, "small"), (3_000_000, "medium"), (math.inf, "large"))
# (most characters, synthetic characters for each of them); a few lines are to be learned by heart.
SYNTHETIC = ((1_000, 0.0), (30_000, 2.0), (100_000, 1.0), (1_500_000, 0.5), (math.inf, 0.0))


@dataclass(frozen=True)
class Length:
    """How many epochs a training takes without `--epochs`.

    A short text is soon learned by heart and takes few epochs; a long one takes few because each
    has much to read.

    Args:
        first: Epochs for the shortest text.
        growth: Characters for each further epoch.
        most: Most epochs.
        total: Characters to read in all, which limits the epochs for long texts.
        least: Least epochs.
        steps: Least number of batches in all.
    """

    first: int
    growth: float
    most: int
    total: float
    least: int
    steps: int

    def epochs(self, characters: int, batch: int) -> int:
        """The number of epochs.

        Args:
            characters: Length of the training part.
            batch: Characters of a batch.
        """
        grown = self.first + characters / self.growth
        epochs = int(min(grown, self.most, self.total / max(characters, 1)))
        return max(epochs, self.least, math.ceil(self.steps / max(1, characters // batch)))


FROM_SCRATCH = Length(40, 3000, 60, 20e6, 2, 200)


@dataclass(frozen=True)
class Tuning:
    """The defaults of a training that starts from another model."""

    learning_rate: float
    dropout: float
    length: Length
    synthetic: float = 0.0


# By whether the model to start from predicts the text's beginning well; NEAR_LONG is for a long
# text for which a network from scratch would have as many units, LIST for the lines of a list.
NEAR = Tuning(1e-3, 0.2, Length(3, 250e3, 6, 12e6, 3, 100))
NEAR_LONG = Tuning(2e-3, 0.2, Length(3, 180e3, 8, 20e6, 3, 100))
FAR = Tuning(3e-3, 0.4, Length(12, math.inf, 12, 1e6, 8, 200), 0.5)
LIST = Tuning(2e-3, 0.3, Length(8, 4000, 16, math.inf, 8, 100))


def auto_size(characters: int) -> str:
    """The size of a network that is trained from scratch on as many characters."""
    return next(size for most, size in AUTO_SIZE if characters <= most)


def resolve(
    model: ModelConfig, fit: FitConfig, characters: int, tuning: Tuning | None = None
) -> tuple[ModelConfig, FitConfig]:
    """Fill the settings that depend on the corpus.

    Args:
        model: Shape of the network; fields that are None are filled.
        fit: How to train; `epochs`, `learning_rate` and `synthetic` are filled, and `size` 'auto'
            is resolved.
        characters: Length of the training part in characters.
        tuning: The defaults for starting from another model, with its shape.

    Returns:
        The two configurations, with every such field filled.
    """
    name = fit.size
    if name == "auto":
        name = auto_size(characters)
    size = SIZES[name]
    defaults: dict[str, Any] = {
        "layers": size.layers,
        "units": size.units,
        "embedding": size.embedding,
        "tied": size.tied and model.embedding != 0,
        "dropout": next(rate for most, rate in size.dropout if characters <= most),
    }
    if tuning:
        defaults["dropout"] = tuning.dropout
    model = replace(model, **{k: v for k, v in defaults.items() if getattr(model, k) is None})
    epochs = fit.epochs
    if epochs is None:
        length = tuning.length if tuning else FROM_SCRATCH
        epochs = length.epochs(characters, fit.batch_size * fit.seq_length)
        if fit.max_time is not None:
            epochs = MOST_EPOCHS  # the time is the limit
    highest = tuning.learning_rate if tuning else size.learning_rate
    rate = highest if fit.learning_rate is None else fit.learning_rate
    synthetic = fit.synthetic
    if synthetic is None:
        synthetic = next(share for most, share in SYNTHETIC if characters <= most)
        if tuning:
            synthetic = tuning.synthetic
        if not model.dropout:  # whoever asks for none wants the text itself
            synthetic = 0.0
    return model, replace(
        fit, size=name, epochs=epochs, learning_rate=rate, synthetic=float(synthetic)
    )
