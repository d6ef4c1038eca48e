"""The settings of the functions as types, for editors and type checkers.

Written by `python -m benchmarks.typed` from the configurations in `config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from keras.optimizers import Optimizer
    from keras.optimizers.schedules import LearningRateSchedule


class CorpusSettings(TypedDict, total=False):
    """Fields of CorpusConfig."""

    unit: Literal["char", "byte"]
    """What the model predicts: Unicode code points, or the bytes of any file."""
    encoding: str
    """Encoding of the files."""
    normalize: Literal["nfc", "nfkc", "none"]
    """Unicode normalization of the corpus, and later of prompts and texts to score."""
    keep_line_ends: bool
    """Keep \\r\\n and \\r instead of replacing them with \\n."""
    glob: str | None
    """Which files of a folder and its subfolders to read, e.g. '*.c'; hidden ones are
    skipped."""
    skip_unreadable: bool
    """Skip files that are binary, unreadable or wrongly encoded, and list them."""
    lines: bool
    """Each line is a separate document, such as a name or a title."""
    labels: str | Sequence[str]
    """A column of the CSV or TSV file that labels each text; may be repeated. The file needs a
    header, and each of its rows is a document."""
    text_column: str | None
    """The column of the CSV or TSV file that has the text."""
    label_by_file: bool
    """The name of each file, without its suffix, labels its documents, or its whole text."""
    separator: str | None
    """Text between two documents of several lines, such as poems or recipes; \\n in it is a
    newline."""
    documents: bool
    """Each file is a separate document; with labels, each row of a table, whose texts may have
    several lines."""
    keep_blanks: bool
    """With lines, separator or documents: keep the blanks at both ends of each document instead
    of removing them."""
    duplicates: bool
    """With lines, separator or documents: keep every copy of a document, so that frequent ones
    weigh more. All copies go to the same part of the split."""
    min_count: int
    """Characters that occur fewer times in the training part are read as the unknown symbol."""
    val_frac: float
    """Fraction of the text for validation."""
    test_frac: float
    """Fraction of the text for the final test."""


class ModelSettings(TypedDict, total=False):
    """Fields of ModelConfig."""

    cell: Literal["lstm", "gru", "rnn"]
    """Kind of recurrent layer."""
    layers: int | None
    """Number of recurrent layers."""
    units: int | None
    """Cells in each recurrent layer."""
    embedding: int | None
    """Width of the character embedding; 0 means one-hot vectors."""
    tied: bool | None
    """Use the embedding's weights for the output layer too."""
    dropout: float | None
    """Fraction of each layer's outputs dropped during training."""
    noise: float
    """Fraction of the input characters replaced by the unknown symbol during training; it
    regularizes long training on short texts."""


class FitSettings(CorpusSettings, ModelSettings, TypedDict, total=False):
    """Fields of FitConfig."""

    size: Literal["auto", "small", "medium", "large"]
    """Default values of layers, units, embedding, tied, dropout and learning rate; auto chooses
    by the length of the text."""
    seq_length: int
    """Window of truncated backpropagation through time, in characters."""
    batch_size: int
    """Parallel streams through the text, summed over all devices."""
    epochs: int | None
    """Passes over the training text; by default chosen from its length."""
    max_time: float | str | None
    """Stop after this time, e.g. 90s, 10m or 2h, compilation not counted; the learning rate's
    schedule ends with it."""
    optimizer: Literal["adam", "rmsprop"] | Optimizer
    """Optimizer."""
    learning_rate: float | LearningRateSchedule | None
    """Highest learning rate."""
    schedule: Literal["cosine", "char-rnn", "constant", "none"] | LearningRateSchedule
    """Learning rate over time. cosine: warm-up, then cosine decay to zero; char-rnn: multiplied
    by 0.97 each epoch from the eleventh on; constant: warm-up, then constant; none: the same
    rate throughout, unless a callback in Python changes it."""
    warmup: float
    """Fraction of the training spent on learning rate warm-up."""
    clip_norm: float
    """Gradients with a larger global norm are scaled down to it."""
    weight_decay: float
    """Share of each weight that an update takes away, times the learning rate."""
    patience: int | None
    """Stop after this many epochs without a lower validation loss; by default after a fifth of
    the training, and at least five."""
    synthetic: float | None
    """Characters drawn from n-grams of the text, for each of its own in an epoch; by default
    chosen from its length."""
    label_dropout: float
    """Fraction of the labels left out during training, so that the model also writes without
    them."""
    seed: int
    """Seed of the weights, dropout, noise, window offsets and line order."""
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """Precision of the matrix products; auto chooses bfloat16 where the hardware favours it."""
    quantize: Literal["none", "float16", "int8"]
    """Format of the stored weights: none is float32; float16 takes half the space; int8 is
    float16 with an on-device file of a quarter."""
    devices: str | int
    """Devices to train on. auto: every GPU, or else the CPU; a number: that many GPUs, or
    without a GPU that many virtual CPU devices; cpu; or certain GPUs, e.g. gpu:0,gpu:1."""
    join_timeout: float | str
    """With several workers, how long to wait for the others at the start."""
    sample_every: int | None
    """Also write a sample to samples.txt every this many batches; by default after 100, 200,
    400 and so on."""
    checkpoint_every: float | str
    """Longest time between checkpoints, e.g. 2m."""
    tensorboard: str | None
    """Folder for TensorBoard's event files."""


class ConstraintSettings(TypedDict, total=False):
    """Fields of SampleConfig."""

    starts_with: str | None
    """Draw only texts that begin with this."""
    ends_with: str | None
    """Draw only texts that end with this."""
    contains: str | None
    """Draw only texts that contain this."""
    min_length: int
    """Draw only texts with at least this many characters."""
    max_length: int | None
    """Draw only texts with at most this many characters; a line ends by itself within it."""
    ban: str | Sequence[str]
    """Never draw this text; may be repeated."""
    ban_file: str | None
    """Never draw any of the texts in this file, one a line."""
    match: str | None
    """Draw only texts that this regular expression matches as a whole."""
    ignore_case: bool
    """Constraints, novel and the search for repeated lines do not distinguish between upper and
    lower case."""


class SampleSettings(ConstraintSettings, TypedDict, total=False):
    """Fields of SampleConfig."""

    temp: float
    """Sampling temperature: lower is safer, higher is wilder; 0 always takes the most likely
    character."""
    length: int | None
    """Characters to generate; by default 500, or for a model of lines to the end of the
    line."""
    top_k: int
    """Sample from the k most likely characters only; 0 means all."""
    top_p: float
    """Sample from the smallest set of most likely characters with at least this total
    probability."""
    seed: int | None
    """Random seed: the same seed gives the same text; by default a new one each time."""
    num: int
    """Number of samples, generated as a batch."""
    stop: str | None
    """End a sample where this text appears."""
    repeat: bool
    """For models of lines: print a line again each time that it is drawn."""
    novel: bool
    """For models of lines: print only lines that are not in the training text, apart from
    blanks."""
    novel_label: bool
    """With labels: print only lines that the training text does not have with this label."""
    unknown_ok: bool
    """Read characters of the prompt that the model has never seen as the unknown symbol."""
    labels: str | Sequence[str]
    """Generate with this label, as VALUE or COLUMN=VALUE; may be repeated for several
    columns."""
    min_p: float
    """Sample from the characters that have at least this share of the most likely character's
    probability."""
    best_of: int
    """Draw this many for each sample, and keep the one with the fewest bits per character."""


class EvaluateSettings(TypedDict, total=False):
    """Fields of EvaluateConfig."""

    baseline: Literal["ngram"] | None
    """Also score an n-gram model of the training text with Kneser-Ney smoothing and the order
    that is best on the validation part."""
    dynamic: bool
    """Also score the network while it is trained further on the text that it has read so far
    (dynamic evaluation)."""
    dynamic_rate: float
    """Learning rate of dynamic."""
    window: int | None
    """Also score the text in windows of this many characters, each from a zero state, as models
    with a limited context are scored."""
    by: Literal["kind", "label"] | None
    """Also break the loss down by kind of character, or by label."""
    labels: str | Sequence[str]
    """Read FILE with this label, as VALUE or COLUMN=VALUE; may be repeated for several
    columns."""
    novelty: bool
    """Also generate text and measure how much of it is copied verbatim from the training text,
    compared with the same amount of FILE."""
    temp: float
    """Temperature of the text generated for novelty."""
    seed: int
    """Seed of the text generated for novelty."""


class ExportSettings(ConstraintSettings, TypedDict, total=False):
    """Fields of ExportConfig."""

    to: Literal["tflite", "savedmodel", "web", "android", "keras", "onnx", "rule"]
    """tflite: the on-device file; savedmodel: a folder for TensorFlow Serving; web: a page for
    the browser that contains the on-device file; android: an app, as a project for Android
    Studio; keras: a .keras file of Keras's own layers; onnx: a file for ONNX Runtime; rule:
    constraints, for an app that has the on-device file."""
    quantize: Literal["none", "float16", "int8"] | None
    """Format of the weights: none is float32; float16 takes half the space, int8 a quarter; by
    default int8 for a page or an app, and none for a file."""
    budget: int | None
    """Largest size of the file, e.g. 300KB; chooses the most precise quantize that fits."""
    min_runtime: Literal["2.13", "2.12"]
    """Oldest TensorFlow Lite that has to run the on-device file. A file for 2.12, which
    Flutter's package has on iOS, draws the same texts, somewhat slower."""
    license: str | None
    """Licence of the training text, stored in the file's card."""
    engine: Literal["own", "litert"]
    """Program that runs the model in the page: own is 23 KB; litert is LiteRT.js, 9.7 MB."""
    single_file: bool
    """Write the page as one HTML file, which also works when opened from a disk."""
    runtime: str | None
    """Folder of the npm package @litertjs/core, to include it in the page; by default a page
    with engine litert loads a fixed version from the network."""
    app_id: str | None
    """Identity of the Android app, e.g. org.me.names; by default one to be replaced later."""
    apk: bool
    """With to android: instead of a project, an installable package around the web page."""
    keystore: str | None
    """File with the key that signs the package, made if it does not exist; by default beside
    the package. Its password is KCHARLM_KEYSTORE_PASSWORD in the environment."""


class InspectSettings(TypedDict, total=False):
    """Fields of InspectConfig."""

    characters: int
    """Maximum number of characters of the file to read."""
    cells: int | None
    """Maximum number of cells to show; by default as many as fit in 3 MB."""
    labels: str | Sequence[str]
    """Read FILE with this label, as VALUE or COLUMN=VALUE; may be repeated for several
    columns."""
    value: Literal["cell", "hidden"]
    """Value that the colours show for an LSTM: tanh of the cell state, or the hidden state."""
    level: float
    """Family-wise error rate: the probability that any cell is matched to a feature by
    chance."""
