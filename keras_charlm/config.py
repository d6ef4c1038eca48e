"""Every setting and its default, in frozen dataclasses.

The command line's options, its help and the documentation's tables are generated from these fields:
a field's `metadata` holds its help text and its bounds, and `__post_init__` checks them. Where None
means "chosen from the corpus", `defaults.resolve` fills it.
"""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from keras_charlm.config_base import Settings, refuse_unknown, setting, take_texts
from keras_charlm.config_export import ExportConfig as ExportConfig
from keras_charlm.config_studies import EvaluateConfig as EvaluateConfig
from keras_charlm.config_studies import InspectConfig as InspectConfig
from keras_charlm.errors import OptionError, brief

MOST_EPOCHS = 1_000_000
_LEAST_NORMAL = 2.0**-126  # of float32; processors may treat smaller numbers as 0


@dataclass(frozen=True)
class CorpusConfig(Settings):
    """How files are read, and how the text is split into training, validation and test parts."""

    unit: str = setting(
        "char",
        "What the model predicts: Unicode code points, or the bytes of any file.",
        choices=("char", "byte"),
    )
    encoding: str = setting("utf-8", "Encoding of the files.")
    normalize: str = setting(
        "nfc",
        "Unicode normalization of the corpus, and later of prompts and texts to score.",
        choices=("nfc", "nfkc", "none"),
    )
    keep_line_ends: bool = setting(False, "Keep \\r\\n and \\r instead of replacing them with \\n.")
    glob: str | None = setting(
        None,
        "Which files of a folder and its subfolders to read, e.g. '*.c'; hidden ones are skipped.",
    )
    skip_unreadable: bool = setting(
        False, "Skip files that are binary, unreadable or wrongly encoded, and list them."
    )
    lines: bool = setting(
        False, "Each line is a separate document, such as a name or a title.", usual=True
    )
    labels: tuple[str, ...] = setting(
        (),
        "A column of the CSV or TSV file that labels each text; may be repeated. The file needs a "
        "header, and each of its rows is a document.",
        flag="--label",
        usual=True,
    )
    text_column: str | None = setting(
        None, "The column of the CSV or TSV file that has the text.", flag="--text"
    )
    label_by_file: bool = setting(
        False, "The name of each file, without its suffix, labels its documents, or its whole text."
    )
    separator: str | None = setting(
        None,
        "Text between two documents of several lines, such as poems or recipes; \\n in it is a "
        "newline.",
    )
    documents: bool = setting(
        False,
        "Each file is a separate document; with --label, each row of a table, whose texts may have "
        "several lines.",
    )
    keep_blanks: bool = setting(
        False,
        "With --lines, --separator or --documents: keep the blanks at both ends of each document "
        "instead of removing them.",
    )
    duplicates: bool = setting(
        False,
        "With --lines, --separator or --documents: keep every copy of a document, so that frequent "
        "ones weigh more. All copies go to the same part of the split.",
    )
    min_count: int = setting(
        1,
        "Characters that occur fewer times in the training part are read as the unknown symbol.",
        low=1,
        high=2**31 - 1,
    )
    val_frac: float = setting(0.05, "Fraction of the text for validation.", low=0, high=0.9)
    test_frac: float = setting(0.05, "Fraction of the text for the final test.", low=0, high=0.9)

    def __post_init__(self) -> None:
        take_texts(self, "labels")
        super().__post_init__()
        if self.table and self.separator is not None:
            raise OptionError(
                "Each row of a table is a document, so separator does not go with its columns; "
                "leave it out, or take labels from the files' names with label_by_file."
            )
        if self.table and not self.documents:
            object.__setattr__(self, "lines", True)  # the class is frozen
        if repeated := [name for name in self.labels if self.labels.count(name) > 1]:
            raise OptionError(f"The label {repeated[0]!r} was given twice; give it once.")
        if self.val_frac + self.test_frac > 0.95:
            raise OptionError(
                f"val_frac {self.val_frac} and test_frac {self.test_frac} leave less than 5% of "
                "the text to train on; lower them."
            )
        if self.lines + self.documents + (self.separator is not None) > 1:
            raise OptionError(
                "lines, separator and documents are different ways to divide a text; give one."
            )
        if self.separator == "":
            raise OptionError("separator is empty; give the text between two documents.")

    def unlabelled(self) -> CorpusConfig:
        """The same, but without labels: how other texts are read."""
        return replace(self, labels=(), text_column=None, label_by_file=False)

    @property
    def records(self) -> bool:
        """Whether the text is a list of documents, lines or longer ones, that end themselves."""
        return self.lines or self.documents or self.separator is not None

    @property
    def end(self) -> int:
        """Code of the symbol that ends a document: the newline for lines, U+001E for others."""
        return 0x0A if self.lines else 0x1E

    @property
    def separator_text(self) -> str:
        """What separates two documents in a file; empty where the file is one."""
        text = (self.separator or "").replace("\\n", "\n").replace("\\t", "\t")
        return text.replace("\r\n", "\n")

    @property
    def table(self) -> bool:
        """Whether the files are tables with a header, such as CSV."""
        return bool(self.labels or self.text_column)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of the network: embedding, stacked recurrent layers with dropout, logits."""

    cell: str = setting("lstm", "Kind of recurrent layer.", choices=("lstm", "gru", "rnn"))
    layers: int | None = setting(None, "Number of recurrent layers.", low=1, high=16)
    units: int | None = setting(None, "Cells in each recurrent layer.", low=1, high=16384)
    embedding: int | None = setting(
        None, "Width of the character embedding; 0 means one-hot vectors.", low=0, high=16384
    )
    tied: bool | None = setting(None, "Use the embedding's weights for the output layer too.")
    dropout: float | None = setting(
        None,
        "Fraction of each layer's outputs dropped during training.",
        low=0,
        high=1,
        open_high=True,
    )
    noise: float = setting(
        0.0,
        "Fraction of the input characters replaced by the unknown symbol during training; it "
        "regularizes long training on short texts.",
        low=0,
        high=1,
        open_high=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding == 0:
            raise OptionError(
                "tied is true and embedding is 0; the output layer can only share the weights of "
                "an embedding, so give embedding a width, or leave tied out."
            )


@dataclass(frozen=True)
class FitConfig(Settings):
    """How the network is trained."""

    size: str = setting(
        "auto",
        "Default values of layers, units, embedding, tied, dropout and learning rate; auto chooses "
        "by the length of the text.",
        choices=("auto", "small", "medium", "large"),
        usual=True,
    )
    seq_length: int = setting(
        64, "Window of truncated backpropagation through time, in characters.", low=1, high=100_000
    )
    batch_size: int = setting(
        32, "Parallel streams through the text, summed over all devices.", low=1, high=100_000
    )
    epochs: int | None = setting(
        None,
        "Passes over the training text; by default chosen from its length.",
        low=1,
        high=MOST_EPOCHS,
        usual=True,
    )
    max_time: float | None = setting(
        None,
        "Stop after this time, e.g. 90s, 10m or 2h, compilation not counted; the learning rate's "
        "schedule ends with it.",
        low=0,
        open_low=True,
        duration=True,
        usual=True,
    )
    optimizer: str = setting("adam", "Optimizer.", choices=("adam", "rmsprop"), own=True)
    learning_rate: float | None = setting(
        None, "Highest learning rate.", low=0, open_low=True, high=10
    )
    schedule: str = setting(
        "cosine",
        "Learning rate over time. cosine: warm-up, then cosine decay to zero; char-rnn: multiplied "
        "by 0.97 each epoch from the eleventh on; constant: warm-up, then constant; none: the same "
        "rate throughout, unless a callback in Python changes it.",
        choices=("cosine", "char-rnn", "constant", "none"),
        own=True,
    )
    warmup: float = setting(
        0.05, "Fraction of the training spent on learning rate warm-up.", low=0, high=1
    )
    clip_norm: float = setting(
        1.0, "Gradients with a larger global norm are scaled down to it.", low=0, open_low=True
    )
    weight_decay: float = setting(
        0.0,
        "Share of each weight that an update takes away, times the learning rate.",
        low=0,
        high=1,
    )
    patience: int | None = setting(
        None,
        "Stop after this many epochs without a lower validation loss; by default after a fifth of "
        "the training, and at least five.",
        low=1,
        high=MOST_EPOCHS,
    )
    synthetic: float | None = setting(
        None,
        "Characters drawn from n-grams of the text, for each of its own in an epoch; by default "
        "chosen from its length.",
        low=0,
        high=100,
    )
    label_dropout: float = setting(
        0.1,
        "Fraction of the labels left out during training, so that the model also writes without "
        "them.",
        low=0,
        high=1,
    )
    seed: int = setting(
        0,
        "Seed of the weights, dropout, noise, window offsets and line order.",
        low=0,
        high=2**31 - 1,
        usual=True,
    )
    precision: str = setting(
        "auto",
        "Precision of the matrix products; auto chooses bfloat16 where the hardware favours it.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    quantize: str = setting(
        "none",
        "Format of the stored weights: none is float32; float16 takes half the space; int8 is "
        "float16 with an on-device file of a quarter.",
        choices=("none", "float16", "int8"),
    )
    devices: str = setting(
        "auto",
        "Devices to train on. auto: every GPU, or else the CPU; a number: that many GPUs, or "
        "without a GPU that many virtual CPU devices; cpu; or certain GPUs, e.g. gpu:0,gpu:1.",
    )
    join_timeout: float = setting(
        600.0,
        "With several workers, how long to wait for the others at the start.",
        low=0,
        open_low=True,
        duration=True,
    )
    sample_every: int | None = setting(
        None,
        "Also write a sample to samples.txt every this many batches; by default after 100, 200, "
        "400 and so on.",
        low=1,
        high=2**31 - 1,
    )
    checkpoint_every: float = setting(
        120.0, "Longest time between checkpoints, e.g. 2m.", low=0, open_low=True, duration=True
    )
    tensorboard: str | None = setting(None, "Folder for TensorBoard's event files.")

    def __post_init__(self) -> None:
        devices: Any = self.devices
        if isinstance(devices, numbers.Integral) and not isinstance(devices, bool):  # devices=2
            object.__setattr__(self, "devices", str(devices))
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|[1-9]\d*|gpu:\d+(,gpu:\d+)*", self.devices):
            raise OptionError(
                f"devices is {brief(repr(self.devices))}; it takes auto, a number of devices, "
                "cpu, or GPUs such as gpu:0,gpu:1."
            )


def fit_configs(settings: dict[str, Any]) -> tuple[CorpusConfig, ModelConfig, FitConfig]:
    """Build the configurations of `fit` from all of its settings.

    Raises:
        OptionError: A setting is unknown, or its value is out of range.
    """
    kinds = CorpusConfig, ModelConfig, FitConfig
    names = [[field.name for field in fields(kind)] for kind in kinds]
    refuse_unknown("fit", settings, [name for own in names for name in own])
    corpus, model, fit = ({k: v for k, v in settings.items() if k in own} for own in names)
    return CorpusConfig(**corpus), ModelConfig(**model), FitConfig(**fit)


@dataclass(frozen=True)
class SampleConfig(Settings):
    """How text is drawn from a trained model."""

    temp: float = setting(
        0.8,
        "Sampling temperature: lower is safer, higher is wilder; 0 always takes the most likely "
        "character.",
        low=0,
        high=100,
    )
    length: int | None = setting(
        None,
        "Characters to generate; by default 500, or for a model of lines to the end of the line.",
        low=0,
        high=2**31 - 1,
    )
    top_k: int = setting(0, "Sample from the k most likely characters only; 0 means all.", low=0)
    top_p: float = setting(
        1.0,
        "Sample from the smallest set of most likely characters with at least this total "
        "probability.",
        low=0,
        open_low=True,
        high=1,
    )
    seed: int | None = setting(
        None,
        "Random seed: the same seed gives the same text; by default a new one each time.",
        low=0,
        high=2**31 - 1,
    )
    num: int = setting(1, "Number of samples, generated as a batch.", low=1, high=10_000_000)
    stop: str | None = setting(None, "End a sample where this text appears.")
    repeat: bool = setting(
        False, "For models of lines: print a line again each time that it is drawn."
    )
    novel: bool = setting(
        False,
        "For models of lines: print only lines that are not in the training text, apart from "
        "blanks.",
    )
    novel_label: bool = setting(
        False,
        "With --label: print only lines that the training text does not have with this label.",
    )
    unknown_ok: bool = setting(
        False, "Read characters of the prompt that the model has never seen as the unknown symbol."
    )
    labels: tuple[str, ...] = setting(
        (),
        "Generate with this label, as VALUE or COLUMN=VALUE; may be repeated for several columns.",
        flag="--label",
    )
    starts_with: str | None = setting(None, "Draw only texts that begin with this.")
    ends_with: str | None = setting(None, "Draw only texts that end with this.")
    contains: str | None = setting(None, "Draw only texts that contain this.")
    min_length: int = setting(
        0, "Draw only texts with at least this many characters.", low=0, high=10_000
    )
    max_length: int | None = setting(
        None,
        "Draw only texts with at most this many characters; a line ends by itself within it.",
        low=1,
        high=10_000,
    )
    ban: tuple[str, ...] = setting((), "Never draw this text; may be repeated.")
    ban_file: str | None = setting(None, "Never draw any of the texts in this file, one a line.")
    match: str | None = setting(
        None, "Draw only texts that this regular expression matches as a whole."
    )
    ignore_case: bool = setting(
        False,
        "Constraints, --novel and the search for repeated lines do not distinguish between upper "
        "and lower case.",
    )
    min_p: float = setting(
        0.0,
        "Sample from the characters that have at least this share of the most likely character's "
        "probability.",
        low=0,
        high=1,
    )
    best_of: int = setting(
        1,
        "Draw this many for each sample, and keep the one with the fewest bits per character.",
        low=1,
        high=10_000,
    )

    def __post_init__(self) -> None:
        take_texts(self, "ban")
        take_texts(self, "labels")
        super().__post_init__()
        if self.temp < _LEAST_NORMAL:
            object.__setattr__(self, "temp", 0.0)
        if self.novel_label and not self.labels:
            raise OptionError("novel_label needs labels; give one with --label, or use --novel.")


# The fields that restrict which texts are drawn.
CONSTRAINTS = (
    "starts_with",
    "ends_with",
    "contains",
    "min_length",
    "max_length",
    "ban",
    "ban_file",
    "match",
    "ignore_case",
)
