"""Every setting and its default, in frozen dataclasses.

The command line's options, its help and the README's tables follow these fields: a field's
`metadata` holds its help text and its bounds, and `__post_init__` checks them. `None` stands for
"chosen from the corpus": `resolve` fills it from the table `SIZES`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from keras_charlm.errors import OptionError
from keras_charlm.settings import Settings, refuse_unknown, setting


@dataclass(frozen=True)
class CorpusConfig(Settings):
    """How files become characters, and which part of them is for what."""

    unit: str = setting(
        "char",
        "A symbol of the text: a Unicode code point, or a byte of any file.",
        choices=("char", "byte"),
    )
    encoding: str = setting("utf-8", "Encoding of the files.")
    normalize: str = setting(
        "nfc",
        "Unicode normalization of the corpus, and of every later prompt and text.",
        choices=("nfc", "nfkc", "none"),
    )
    keep_line_ends: bool = setting(False, "Keep \\r\\n and \\r instead of making them \\n.")
    glob: str | None = setting(
        None, "Which files of a folder to read, e.g. '*.c'; folders are searched in depth."
    )
    skip_unreadable: bool = setting(
        False, "Name and skip files that are binary, unreadable or wrongly encoded."
    )
    lines: bool = setting(
        False, "Each line is a document of its own (names, titles, recipes one a line)."
    )
    duplicates: bool = setting(
        False,
        "Keep every copy of a line, so that frequent ones count for more; all go to the "
        "same part of the split.",
    )
    min_count: int = setting(
        1, "Characters seen fewer times in training become the unknown one.", low=1
    )
    val_frac: float = setting(0.05, "Share of the text for validation.", low=0, high=0.9)
    test_frac: float = setting(0.05, "Share of the text for the final test.", low=0, high=0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_frac + self.test_frac > 0.95:
            raise OptionError(
                f"val_frac {self.val_frac} and test_frac {self.test_frac} leave less than 5% of "
                "the text to train on; lower them."
            )


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of the network: embedding, stacked recurrent layers with dropout, logits."""

    cell: str = setting("lstm", "Kind of recurrent layer.", choices=("lstm", "gru", "rnn"))
    layers: int | None = setting(None, "Number of recurrent layers.", low=1, high=16)
    units: int | None = setting(None, "Cells in each recurrent layer.", low=1, high=16384)
    embedding: int | None = setting(
        None, "Width of the character embedding; 0 feeds one-hot vectors.", low=0, high=16384
    )
    tied: bool | None = setting(
        None, "Whether the embedding's vectors give the logits too, or weights of their own do."
    )
    dropout: float | None = setting(
        None, "Share of each layer's outputs dropped in training.", low=0, high=1, open_high=True
    )
    noise: float = setting(
        0.0,
        "Share of the characters read as the unknown one in training: more to learn for long "
        "trainings on short texts.",
        low=0,
        high=1,
        open_high=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding == 0:
            raise OptionError(
                "tied is true and embedding is 0; logits can be tied to an embedding "
                "only: give it a width, or leave tied out."
            )


@dataclass(frozen=True)
class FitConfig(Settings):
    """How the network is trained."""

    size: str = setting(
        "auto",
        "Fills layers, units, embedding, tied and dropout where they are not given; "
        "auto goes by the length of the text.",
        choices=("auto", "small", "medium", "large"),
    )
    seq_length: int = setting(
        64, "Window of truncated backpropagation through time, in characters.", low=1, high=100_000
    )
    batch_size: int = setting(
        32, "Parallel streams through the text; over all devices.", low=1, high=100_000
    )
    epochs: int | None = setting(
        None, "Passes over the training text; by default from its length.", low=1
    )
    max_time: float | None = setting(
        None,
        "Stop after this time, e.g. 90s, 10m or 2h; the learning rate's schedule ends with it.",
        low=0,
        open_low=True,
        duration=True,
    )
    optimizer: str = setting("adam", "Optimizer.", choices=("adam", "rmsprop"))
    learning_rate: float | None = setting(
        None, "Highest learning rate.", low=0, open_low=True, high=10
    )
    schedule: str = setting(
        "cosine",
        "cosine: warm-up, then a half cosine to the end; char-rnn: times 0.97 an epoch from the "
        "eleventh on; constant: warm-up, then flat.",
        choices=("cosine", "char-rnn", "constant"),
    )
    warmup: float = setting(
        0.05, "Share of the training in which the learning rate rises.", low=0, high=1
    )
    clip_norm: float = setting(
        1.0, "Gradients are scaled down to this global norm.", low=0, open_low=True
    )
    patience: int | None = setting(
        None, "Stop after this many epochs without a better validation figure.", low=1
    )
    seed: int = setting(
        0, "Seed of weights, dropout, noise, window offsets and line order.", low=0, high=2**31 - 1
    )
    precision: str = setting(
        "auto",
        "Precision of the products; auto takes bfloat16 where the hardware is faster by it.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    quantize: str = setting(
        "none",
        "How the model's weights are stored at the end: none is float32, float16 rounds them to "
        "take half of it.",
        choices=("none", "float16"),
    )
    devices: str = setting(
        "auto",
        "What to train on: auto takes every GPU, or else the CPU; a number takes so many GPUs, or "
        "where there are none cuts the CPU into so many devices; cpu; or GPUs by number, e.g. "
        "gpu:0,gpu:1.",
    )
    join_timeout: float = setting(
        600.0,
        "Of several workers: longest wait for the others at the start.",
        low=0,
        open_low=True,
        duration=True,
    )
    sample_every: int | None = setting(
        None,
        "Also write a sample to samples.txt every so many batches; by default after 100, 200, 400, "
        "and so on.",
        low=1,
    )
    checkpoint_every: float = setting(
        120.0, "Longest time between checkpoints, e.g. 2m.", low=0, open_low=True, duration=True
    )
    tensorboard: str | None = setting(None, "Folder for TensorBoard's event files.")

    def __post_init__(self) -> None:
        if type(self.devices) is int:  # devices=2 in Python
            object.__setattr__(self, "devices", str(self.devices))
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|[1-9]\d*|gpu:\d+(,gpu:\d+)*", self.devices):
            raise OptionError(
                f"devices is {self.devices!r}; it takes auto, a number of devices, "
                "cpu, or GPUs such as gpu:0,gpu:1."
            )


def deal(settings: dict[str, Any]) -> tuple[CorpusConfig, ModelConfig, FitConfig]:
    """Deal the settings of `fit` out to the configurations that have them.

    Raises:
        OptionError: None has it, or its value is out of range.
    """
    kinds = CorpusConfig, ModelConfig, FitConfig
    names = [[field.name for field in fields(kind)] for kind in kinds]
    refuse_unknown("fit", settings, [name for own in names for name in own])
    return tuple(
        kind(**{k: v for k, v in settings.items() if k in own})
        for kind, own in zip(kinds, names, strict=True)
    )


@dataclass(frozen=True)
class SampleConfig(Settings):
    """How text is drawn from a trained model."""

    temp: float = setting(
        0.8,
        "Temperature: below 1 safer, above 1 wilder; 0 takes the likeliest character.",
        low=0,
        high=100,
    )
    length: int | None = setting(
        None, "Characters to draw; by default 500, or for a list up to the end of the line.", low=0
    )
    top_k: int = setting(0, "Draw among the k likeliest characters only; 0 for all.", low=0)
    top_p: float = setting(
        1.0,
        "Draw among the likeliest characters that hold this share of the probability.",
        low=0,
        open_low=True,
        high=1,
    )
    seed: int | None = setting(
        None, "Same seed, same text; by default a new one each time.", low=0, high=2**31 - 1
    )
    num: int = setting(1, "Number of samples, drawn as a batch.", low=1, high=10_000_000)
    stop: str | None = setting(None, "End a sample where this text appears.")
    novel: bool = setting(False, "For lists: only lines that are not in the training text.")
    unknown_ok: bool = setting(
        False, "Accept characters in the prompt that the model has never seen."
    )


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """What is measured beside the loss over a text."""

    baseline: str | None = setting(
        None,
        "Also score a model that counts: n-grams of the training text with Kneser-Ney smoothing, "
        "of the order that is best on the validation part.",
        choices=("ngram",),
    )
    dynamic: bool = setting(
        False, "Also score the network as it learns on from the text that it has read."
    )
    dynamic_rate: float = setting(
        0.001, "Learning rate of --dynamic.", low=0, open_low=True, high=1
    )
    by: str | None = setting(
        None, "Also break the loss down, by kinds of characters.", choices=("kind",)
    )
    novelty: bool = setting(
        False,
        "Also draw text and tell how much of it stands in the training text word for word, beside "
        "as much of FILE.",
    )
    temp: float = setting(0.8, "Temperature of the text drawn for --novelty.", low=0, high=100)
    seed: int = setting(0, "Seed of the text drawn for --novelty.", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class ExportConfig(Settings):
    """How a trained model is written for another place."""

    to: str = setting(
        "tflite",
        "tflite: the on-device file; savedmodel: a folder for TensorFlow's servers; web: a page "
        "for the browser, with the on-device file inside.",
        choices=("tflite", "savedmodel", "web"),
    )
    quantize: str = setting(
        "none",
        "How weights are stored: none is float32, float16 takes half of it, int8 a quarter.",
        choices=("none", "float16", "int8"),
    )
    budget: int | None = setting(
        None,
        "Most bytes of the file, e.g. 300KB: the best --quantize that fits is taken.",
        low=1,
        size=True,
    )
    license: str | None = setting(None, "Licence of the training text, for the file's card.")
    runtime: str | None = setting(
        None,
        "Folder of the npm package @litertjs/core, for a page that carries it; by default the page "
        "fetches it from a pinned address.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, places in (
            ("quantize", ("tflite", "web")),
            ("budget", ("tflite", "web")),
            ("license", ("tflite", "web")),
            ("runtime", ("web",)),
        ):
            if self.to not in places and getattr(self, name) not in (None, "none"):
                raise OptionError(
                    f"--{name} is for --to {' or '.join(places)}; leave it out with --to {self.to}."
                )
        if self.budget is not None and self.quantize != "none":
            raise OptionError(
                "Both --budget and --quantize were given; the budget chooses how "
                "weights are stored, so give one."
            )


@dataclass(frozen=True)
class InspectConfig(Settings):
    """What is looked at in a trained network, and how strictly."""

    characters: int = setting(
        20_000, "Most characters of the file to read, from its beginning.", low=1, high=1_000_000
    )
    cells: int | None = setting(
        None, "Most cells in the page; by default as many as fit in 3 MB.", low=1
    )
    value: str = setting(
        "cell",
        "What the colours of an LSTM show: the tanh of the cell state, or the hidden state.",
        choices=("cell", "hidden"),
    )
    level: float = setting(
        0.05,
        "Probability, at most, of naming any cell after a feature where there is nothing to find.",
        low=0.001,
        high=0.5,
    )


@dataclass(frozen=True)
class Size:
    """A row of the table behind `--size`."""

    layers: int
    units: int
    embedding: int
    tied: bool
    learning_rate: float
    # (most training characters, dropout), in rising order: the less text, the more dropout.
    dropout: tuple[tuple[float, float], ...]


SIZES = {
    "small": Size(2, 128, 32, True, 4e-3, ((100_000, 0.3), (1_000_000, 0.2), (math.inf, 0.0))),
    "medium": Size(2, 256, 64, False, 4e-3, ((300_000, 0.5), (3_000_000, 0.2), (math.inf, 0.0))),
    "large": Size(2, 512, 128, False, 2e-3, ((3_000_000, 0.5), (20_000_000, 0.2), (math.inf, 0.0))),
}
# Parameters of the order of the training characters: (most training characters, size).
AUTO_SIZE = ((300_000, "small"), (3_000_000, "medium"), (math.inf, "large"))

# Without --epochs: about this many characters are read in all, within these numbers of epochs, and
# at least this many steps are taken.
AUTO_CHARACTERS, AUTO_EPOCHS, AUTO_STEPS = 20_000_000, (2, 100), 600


def resolve(model: ModelConfig, fit: FitConfig, characters: int) -> tuple[ModelConfig, FitConfig]:
    """Fill what was left to the corpus.

    Args:
        model: Shape of the network; fields that are None are filled.
        fit: How to train; `epochs` and `learning_rate` are filled, `size` becomes a named one.
        characters: Characters of the training part.

    Returns:
        The two configurations with nothing left open.
    """
    name = fit.size
    if name == "auto":
        name = next(size for most, size in AUTO_SIZE if characters <= most)
    size = SIZES[name]
    defaults = {
        "layers": size.layers,
        "units": size.units,
        "embedding": size.embedding,
        "tied": size.tied and model.embedding != 0,
        "dropout": next(rate for most, rate in size.dropout if characters <= most),
    }
    model = replace(model, **{k: v for k, v in defaults.items() if getattr(model, k) is None})
    epochs = fit.epochs
    if epochs is None:
        low, high = AUTO_EPOCHS
        epochs = min(max(AUTO_CHARACTERS // max(characters, 1), low), high)
        steps = max(1, characters // (fit.batch_size * fit.seq_length))
        epochs = max(epochs, -(-AUTO_STEPS // steps))
        if fit.max_time is not None:
            epochs = 1_000_000  # the time is the limit
    rate = size.learning_rate if fit.learning_rate is None else fit.learning_rate
    return model, replace(fit, size=name, epochs=epochs, learning_rate=rate)
