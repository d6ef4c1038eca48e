"""The folder of one trained model: found, read, checked and published as a whole.

    config.json         what the model is, where it comes from, its scores, a hash of each file
    vocabulary.json     characters and ids
    model.tflite        the on-device file that `generate` runs; Keras reads its weights from there,
                        and it holds the card as well
    training_lines.u64  fingerprints of the training lines (lists only), for novelty
    history.csv, curve.csv, samples.txt
    report.html         what all of it comes to, for the browser
    checkpoint/         only while a training can be resumed

A .tflite file of ours opens like such a folder, with less in it. Reading needs no TensorFlow and
runs no code from the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm import device
from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig, expect
from keras_charlm.errors import BundleError, CharLMError, TrainingError
from keras_charlm.files import LARGEST_JSON, locked, regular
from keras_charlm.vocabulary import Vocabulary

FORMAT = 4
MODELS = Path("saved_models")
CONFIG, VOCABULARY = "config.json", "vocabulary.json"
DEVICE, LINES, HISTORY, SAMPLES = "model.tflite", "training_lines.u64", "history.csv", "samples.txt"
CHECKPOINT, LOCK, CURVE, REPORT = "checkpoint", "lock", "curve.csv", "report.html"
COLUMNS = {
    HISTORY: ("epoch", "step", "seconds", "train_bits_per_character", "val_bits_per_character",
              "learning_rate", "characters_per_second"),  # a row an epoch
    CURVE: ("step", "seconds", "train_bits_per_character", "learning_rate"),  # within epochs too
}
_CHECKED = (VOCABULARY, DEVICE, LINES)  # files whose hashes stand in config.json


@dataclass(frozen=True)
class Card:
    """What a model is: the content of config.json.

    Args:
        name: The folder's name at the time of training.
        run: Identifies the training run.
        created: ISO 8601 date and time, UTC.
        versions: Library versions at training.
        model, fit: The configurations with nothing left open.
        corpus: `name`, `files` (none: the embedded list), `bytes`, `characters`, `sha256`, and
            `config` (a CorpusConfig).
        split: Characters (and for lists lines) of each part.
        start: Code of the character that is read first where there is no prompt.
        finished: False where the training was stopped and can go on.
        scores: `epoch`, the Scores of `validation` and `test` where there are such parts, and
            `baseline`, what counting comes to on them (see `ngram.scores`).
        files: SHA-256 of the model's files.
    """

    name: str
    run: str
    created: str
    versions: dict[str, str]
    model: ModelConfig
    fit: FitConfig
    corpus: dict[str, Any]
    split: dict[str, Any]
    start: int
    finished: bool = True
    parameters: int = 0
    scores: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def corpus_config(self) -> CorpusConfig:
        return CorpusConfig.from_dict(self.corpus["config"])

    @property
    def lines(self) -> bool:
        return self.corpus_config.lines

    @property
    def normalize(self) -> str:
        config = self.corpus_config
        return "none" if config.unit == "byte" else config.normalize

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def on_device(self, vocabulary: Vocabulary, quantize: str = "none",
                  license: str | None = None) -> dict[str, Any]:
        """What an on-device file says about itself; see `device`."""
        return {"card": self.to_dict(), "vocabulary": vocabulary.to_dict(), "quantize": quantize,
                "license": license}

    @classmethod
    def from_dict(cls, values: Any, where: Path) -> Card:
        """Rebuild from `to_dict`'s value.

        Raises:
            BundleError: It is of another format, or not such a value.
        """
        version = values.get("format") if isinstance(values, dict) else None
        if type(version) is not int:
            raise BundleError(f"{where} is no model's configuration; name a folder that fit wrote.")
        if version > FORMAT:
            raise BundleError(
                f"{where} has format {version}, and this program reads format {FORMAT}; "
                "update keras_charlm."
            )
        if version < FORMAT:
            raise BundleError(
                f"{where} has format {version}, of a keras_charlm before 0.1.0; this program reads "
                f"format {FORMAT}, so train the model anew.")
        try:
            values = {k: v for k, v in values.items() if k != "format"}
            values["model"] = ModelConfig.from_dict(values["model"])
            values["fit"] = FitConfig.from_dict(values["fit"])
            card = cls(**values)
            if wrong := _wrong(card):
                raise TypeError(f"{wrong} is not what it should be")
            return card
        except (CharLMError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{where} is damaged ({error}); copy the model again, or train it anew."
            ) from error


def _wrong(card: Card) -> str | None:
    """The first value of a card that is not of its kind; a file can say anything."""
    def text(value):
        return isinstance(value, str)

    def count(value):
        return type(value) is int and 0 <= value < 1 << 63

    def number(value):
        return isinstance(value, float) or count(value)

    def digest(value):
        return text(value) and len(value) == 64 and set(value) <= set("0123456789abcdef")

    def all_of(kind, value, needed=()):
        return isinstance(value, dict) and set(needed) <= set(value) \
            and all(text(key) and kind(v) for key, v in value.items())

    corpus, scores = card.corpus, card.scores
    right = {
        "name": text(card.name), "run": text(card.run), "created": text(card.created),
        "versions": all_of(text, card.versions),
        "model": None not in (card.model.layers, card.model.units, card.model.embedding,
                              card.model.tied, card.model.dropout),
        "fit": None not in (card.fit.epochs, card.fit.learning_rate),
        "corpus": isinstance(corpus, dict) and text(corpus["name"]) and digest(corpus["sha256"])
        and isinstance(corpus["files"], list) and all(map(text, corpus["files"]))
        and count(corpus["bytes"]) and count(corpus["characters"]) and bool(card.corpus_config),
        "split": all_of(lambda part: all_of(count, part, ["characters"]), card.split,
                        ["train", "validation", "test"]),
        "start": count(card.start), "finished": type(card.finished) is bool,
        "parameters": count(card.parameters),
        "scores": isinstance(scores, dict) and set(scores) <= {"epoch", "validation", "test",
                                                               "baseline"}
        and count(scores.get("epoch", 0))
        and all(all_of(number, scores[part], ["bits_per_character", "nats_per_character"])
                for part in ("validation", "test") if part in scores)
        and (not scores.get("baseline") or (isinstance(scores["baseline"], list) and all(
            all_of(lambda v: v is None or number(v), row, ["order", "validation", "test"])
            and count(row["order"]) for row in scores["baseline"]))),
        "files": all_of(digest, card.files),
    }
    return next((name for name, fine in right.items() if not fine), None)


@dataclass(frozen=True)
class Bundle:
    """An opened model folder."""

    path: Path
    card: Card
    vocabulary: Vocabulary

    def file(self, name: str) -> Path:
        """The path of one of the model's files, its content checked against its hash."""
        path = regular(self.path / name)
        try:
            if _sha256(path) == self.card.files.get(name):
                return path
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror or error}); the folder is half-written: "
                "copy the model again, or train it anew."
            ) from error
        raise BundleError(
            f"{path} is not the file that training wrote (its hash differs); copy the model again, "
            "or train it anew."
        )

    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights by name; see `device.weights`."""
        return device.weights(self.file(DEVICE))

    def training_lines(self) -> np.ndarray:
        """Sorted fingerprints of the training lines, uint64 (L,); see `corpus.fingerprints`."""
        if not self.card.lines:
            raise BundleError(
                f"{self.path} was not trained on lines, so no line is novel or known; "
                "leave out --novel, or train with --lines."
            )
        return np.fromfile(self.file(LINES), "<u8")


@dataclass(frozen=True)
class DeviceFile(Bundle):
    """An opened .tflite file: a model without its training lines and history.

    Args:
        quantize: How its weights are stored.
        license: Licence of the text it was trained on, where one was given.
    """

    quantize: str = "none"
    license: str | None = None

    def file(self, name: str) -> Path:
        if name == DEVICE:
            return self.path
        raise BundleError(f"{self.path} is an on-device file alone, without {name}; name the "
                          "folder that kcharlm fit wrote.")

    def training_lines(self) -> np.ndarray:
        raise BundleError(
            f"{self.path} does not hold the training lines, so no line is novel or known; leave "
            "out --novel, or name the folder that kcharlm fit wrote."
        )


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open a model folder or an on-device file.

    Args:
        path: The folder, a name under saved_models/, or a .tflite file; None takes the newest model
            there, and the shipped name generator where there is none.

    Raises:
        BundleError: It is missing, half-written, damaged or of another format.
    """
    folder = newest() if path is None else find(path)
    if folder.is_file():
        return _open_file(folder)
    if not (folder / CONFIG).is_file():
        if (folder / CHECKPOINT).is_dir():
            raise BundleError(
                f"The training in {folder} has not ended; finish it with: "
                f"kcharlm fit --resume {folder}"
            )
        raise BundleError(
            f"{folder} is no model: it has no {CONFIG}; name a folder that kcharlm fit wrote."
        )
    card = Card.from_dict(_json(folder / CONFIG), folder / CONFIG)
    bundle = Bundle(folder, card, Vocabulary("char", (0, 1)))
    values = _json(bundle.file(VOCABULARY))
    bundle = Bundle(folder, card, Vocabulary.from_dict(values))
    _check_sizes(bundle, regular(folder / DEVICE))
    return bundle


def _open_file(path: Path) -> DeviceFile:
    values = device.read(path)
    card = Card.from_dict(values.get("card"), path)
    vocabulary = Vocabulary.from_dict(values.get("vocabulary"))
    license = values.get("license")
    bundle = DeviceFile(path, card, vocabulary, str(values.get("quantize")),
                        None if license is None else str(license))
    _check_sizes(bundle, path)
    return bundle


def _check_sizes(bundle: Bundle, file: Path) -> None:
    """Refuse a card that names a larger network than its file can hold, before any is built."""
    card, vocabulary = bundle.card, bundle.vocabulary
    weights, size = parameters(card.model, vocabulary.size), file.stat().st_size
    if weights > size:
        raise BundleError(
            f"{bundle.path} is damaged: its network would have {weights:,} weights, and its file "
            f"has {size:,} bytes; copy the model again, or train it anew.")
    if card.start not in vocabulary.codes:
        raise BundleError(f"{bundle.path} is damaged: its start symbol {card.start} is not in its "
                          "vocabulary; copy the model again, or train it anew.")


def parameters(model: ModelConfig, symbols: int) -> int:
    """Weights of a network with nothing left open and so many symbols."""
    gates, biases = {"lstm": (4, 1), "gru": (3, 2), "rnn": (1, 1)}[model.cell]
    below = model.embedding or symbols
    total = symbols * model.embedding
    for _ in range(model.layers):
        total += gates * model.units * (below + model.units + biases)
        below = model.units
    return total + below * (model.embedding if model.tied else symbols) + symbols


def find(path: str | Path) -> Path:
    """A model's folder by path or by name under saved_models/, or a .tflite file."""
    expect("model", path, (str, Path), "a folder's path or name, or a .tflite file")
    folder = Path(path)
    try:
        folder.exists()
    except OSError as error:
        raise BundleError(f"A model cannot have that name ({error.strerror}); name a folder that "
                          "kcharlm fit wrote.") from error
    if not folder.is_dir() and len(folder.parts) == 1 and (MODELS / folder).is_dir():
        folder = MODELS / folder
    if not folder.exists() and folder.suffix == ".tflite":
        raise BundleError(f"There is no file {path}; write one with: "
                          f"kcharlm export MODEL -o {path}")
    if str(path) == "names" and not folder.exists() and (home := shipped()):
        return home
    if not folder.exists():
        if _leftovers(folder)[0].exists():
            raise BundleError(f"{path} was being replaced when its training was killed; put it "
                              f"back with: kcharlm fit --resume {path}")
        raise BundleError(f"There is no model {path}; train one with: kcharlm fit CORPUS -o {path}")
    return folder


def newest() -> Path:
    """The newest model under saved_models/, or the shipped name generator."""
    found = list(MODELS.glob(f"*/{CONFIG}"))
    if found:
        return max(found, key=lambda p: (p.stat().st_mtime, p)).parent
    if home := shipped():
        return home
    raise BundleError("There is no model yet; train one with: kcharlm fit CORPUS")


def shipped() -> Path | None:
    """The folder of the name generator that comes with the program."""
    package = Path(__file__).parent
    homes = (home / MODELS / "names" for home in (package, package.parent))  # wheel, checkout
    return next((home for home in homes if (home / CONFIG).is_file()), None)


def versions() -> dict[str, str]:
    """Versions of what a model depends on."""
    names = ("keras_charlm", "keras", "tensorflow", "tensorflow-text", "ai-edge-litert", "numpy")
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def publish(folder: Path, card: Card, write: Callable[[Path], None],
            finish: Callable[[Path], None] = lambda folder: None) -> Card:
    """Write a model folder under another name and put it in place as a whole.

    Args:
        folder: Where the model goes; what is there is replaced at the very end.
        card: What config.json says; the files' hashes are filled in.
        write: Fills an empty folder with the model's other files.
        finish: Adds what is made from the whole model, once it can be opened there.

    Returns:
        The card with the hashes.
    """
    old, temporary = _leftovers(folder)
    for leftover in (old, temporary):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        hashes = {name: _sha256(temporary / name) for name in _CHECKED
                  if (temporary / name).exists()}
        card = Card(**{**card.__dict__, "files": hashes})
        write_json(temporary / CONFIG, card.to_dict())
        finish(temporary)
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return card


def recover(folder: Path) -> None:
    """Finish or undo a `publish` that a crash cut short.

    Raises:
        TrainingError: Another process trains there, and may be publishing at this moment.
    """
    old, temporary = _leftovers(folder)
    if any(locked(home / CHECKPOINT / LOCK) for home in (folder, old)):
        raise TrainingError(
            f"Another training runs in {folder}; wait for it, or name another --output.")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (old, temporary):
        shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(folder: Path) -> tuple[Path, Path]:
    """Where `publish` keeps the model before and the one to come."""
    return folder.with_name(f".{folder.name}.old"), folder.with_name(f".{folder.name}.new")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file that is there whole or not at all."""
    replace_file(path, lambda p: p.write_text(
        json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, flush it to the disk, and put it in place."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _json(path: Path) -> Any:
    try:
        return json.loads(regular(path, LARGEST_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}); copy the model again, or train it anew."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()
