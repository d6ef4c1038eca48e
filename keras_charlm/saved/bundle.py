"""The folder of one trained model: found, read, verified, and written atomically.

    config.json         configuration, corpus, scores, and a hash of each file
    vocabulary.json     characters and ids
    model.weights.h5    the weights, saved by Keras
    model.tflite        the on-device file that `generate` runs; it contains the card as well
    training_lines.u64  fingerprints of the training lines (models of lines only), for novelty
    training_lines_nocase.u64  the same for lines in upper and lower case alike
    training_labels.u64 the same with the labels of each line (models of labelled lines only)
    history.csv         figures of each epoch; curve.csv also has them within epochs
    samples.jsonl       texts drawn during the training; samples.txt has them in readable form
    report.html         scores, training curves and samples, for the browser
    checkpoint/         only while a training can be resumed

A .tflite file of this package opens like such a folder, with less content. Reading needs no
TensorFlow and runs no code from the folder.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config_base import expect
from keras_charlm.display import command
from keras_charlm.errors import BundleError, TrainingError, brief
from keras_charlm.files import (
    LARGEST,
    LARGEST_JSON,
    leftovers,
    locked,
    recover_folder,
    regular,
    replace_folder,
    write_json,
)
from keras_charlm.saved import tflite_card
from keras_charlm.saved.card import Card
from keras_charlm.saved.weights import count_parameters, read_weights
from keras_charlm.text.labels import Label, columns
from keras_charlm.text.vocabulary import Vocabulary

MODELS = Path("saved_models")
# The bundled models: source code, English prose, and first names.
CODE, ENGLISH, NAMES = "code", "english", "names"

CONFIG, VOCABULARY = "config.json", "vocabulary.json"
WEIGHTS, DEVICE, LINES = "model.weights.h5", "model.tflite", "training_lines.u64"
LINES_NOCASE = "training_lines_nocase.u64"
NOVELTY = (LINES, LINES_NOCASE)
LABELS = "training_labels.u64"
HISTORY, CURVE, REPORT = "history.csv", "curve.csv", "report.html"
SAMPLES, SAMPLES_TEXT = "samples.jsonl", "samples.txt"
CHECKPOINT, LOCK = "checkpoint", "lock"

_CHECKED = (  # files whose hashes are in config.json
    VOCABULARY,
    WEIGHTS,
    DEVICE,
    *NOVELTY,
    LABELS,
)

# Maximum bytes of a file; float32 weights take twice the space of a float16 on-device file.
_LARGEST = {WEIGHTS: 2 * LARGEST + (1 << 20)}


@dataclass(frozen=True)
class Bundle:
    """An opened model folder."""

    path: Path
    card: Card
    vocabulary: Vocabulary

    def file(self, name: str) -> Path:
        """The path of one of the model's files, its content checked against its hash.

        Raises:
            BundleError: The file is missing, not a regular file, or not what training wrote.
        """
        path = regular(self.path / name, _LARGEST.get(name, LARGEST))
        try:
            if _sha256(path) == self.card.files.get(name):
                return path
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror or error}), so the model is incomplete; "
                "copy it again, or train it again."
            ) from error
        raise BundleError(
            f"{path} is not the file that training wrote (its hash differs); copy the model again, "
            "or train it again."
        )

    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights by name, float32; see `weights.weight_shapes`.

        Raises:
            BundleError: This is only an on-device file, or the weights are damaged.
        """
        return read_weights(
            self.file(WEIGHTS), self.card.model, self.vocabulary.size, self.vocabulary.labels
        )

    def training_lines(self, ignore_case: bool = False) -> np.ndarray:
        """Sorted fingerprints of the training lines, uint64 (L,); see `likeness.line_key`.

        Args:
            ignore_case: Whether upper and lower case are the same.

        Raises:
            BundleError: The model was not trained on lines, or the file is missing or damaged.
        """
        if not self.card.lines:
            raise BundleError(
                f"{self.path} was not trained on lines, so no line is novel or known; "
                "leave out --novel, or train with --lines."
            )
        if ignore_case and LINES_NOCASE not in self.card.files:
            raise BundleError(
                f"{self.path} was trained by a version that did not store its lines without upper "
                "and lower case; leave out --ignore-case, or train it again."
            )
        return np.fromfile(self.file(LINES_NOCASE if ignore_case else LINES), "<u8")

    def labelled_lines(self, labels: Sequence[Label]) -> np.ndarray:
        """Sorted fingerprints of the training lines that have all these labels, uint64 (L,).

        Raises:
            BundleError: As for `training_lines`.
        """
        names = list(columns(self.card.labels))
        self.training_lines()  # raises an error if there are none
        values = np.fromfile(self.file(LABELS), "<u8")
        if not names or values.size % (1 + len(names)):
            raise BundleError(
                f"{self.path / LABELS} does not have the labels of the training lines; copy the "
                "model again, or train it again."
            )
        rows = values.reshape(-1, 1 + len(names))  # fingerprint and the id of each column's label
        kept = np.ones(len(rows), bool)
        for label in labels:
            kept &= rows[:, 1 + names.index(label.column)] == label.id
        return np.unique(rows[kept, 0])


@dataclass(frozen=True)
class DeviceFile(Bundle):
    """An opened .tflite file: a model without its training lines and history.

    Args:
        quantize: How its weights are stored.
        license: Licence of the text it was trained on, where one was given.
        constraints: What all texts that it draws fit, as options of `kcharlm generate`.
    """

    quantize: str = "none"
    license: str | None = None
    constraints: str | None = None

    def file(self, name: str) -> Path:
        if name == DEVICE:
            return self.path
        raise BundleError(
            f"{self.path} is only an on-device file, without {name}; name the "
            "folder that kcharlm fit wrote."
        )

    def training_lines(self, ignore_case: bool = False) -> np.ndarray:
        raise BundleError(
            f"{self.path} does not hold the training lines, so no line is novel or known; leave "
            "out --novel, or name the folder that kcharlm fit wrote."
        )


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open a model folder or an on-device file.

    Args:
        path: The folder, a name under saved_models/, or a .tflite file; None is the newest model
            under saved_models/, or the bundled name generator if there is none.

    Returns:
        The bundle; a DeviceFile for a .tflite file.

    Raises:
        BundleError: It is missing, incomplete, damaged or of another format.
    """
    folder = newest() if path is None else find(path)
    if folder.is_file():
        return _open_file(folder)
    if not (folder / CONFIG).is_file():
        if (folder / CHECKPOINT).is_dir():
            raise BundleError(
                f"The training in {folder} has not ended; finish it with: "
                f"{command('kcharlm', 'fit', '--resume', folder)}"
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
    values: Any = tflite_card.read(path)
    card = Card.from_dict(values.get("card"), path)
    vocabulary = Vocabulary.from_dict(values.get("vocabulary"))
    license, constraints = values.get("license"), values.get("constraints")
    bundle = DeviceFile(
        path,
        card,
        vocabulary,
        str(values.get("quantize")),
        None if license is None else str(license),
        None if constraints is None else str(constraints),
    )
    _check_sizes(bundle, path)
    return bundle


def _check_sizes(bundle: Bundle, file: Path) -> None:
    """Refuse a card whose network is larger than its file can hold, before it is built."""
    card, vocabulary = bundle.card, bundle.vocabulary
    weights = count_parameters(card.model, vocabulary.size, vocabulary.labels)
    size = file.stat().st_size
    if weights > size:
        raise BundleError(
            f"{bundle.path} is damaged: its network would have {weights:,} weights, and its file "
            f"has {size:,} bytes; copy the model again, or train it again."
        )
    if card.start not in vocabulary.codes:
        raise BundleError(
            f"{bundle.path} is damaged: its start symbol {card.start} is not in its "
            "vocabulary; copy the model again, or train it again."
        )
    if [label.id for label in card.labels] != list(range(vocabulary.size, vocabulary.inputs)):
        raise BundleError(
            f"{bundle.path} is damaged: its labels are not those of its vocabulary; copy the model "
            "again, or train it again."
        )


def find(path: str | Path) -> Path:
    """A model's folder by path or by name under saved_models/, or a .tflite file."""
    expect("model", path, (str, Path), "a folder's path or name, or a .tflite file")
    folder = Path(path)
    try:
        folder.exists()
    except OSError as error:
        raise BundleError(
            f"A model cannot have that name ({error.strerror}); name a folder that "
            "kcharlm fit wrote."
        ) from error
    if str(path) == "":
        raise BundleError("The model's name is empty; name a folder that kcharlm fit wrote.")
    if len(folder.parts) == 1 and not _holds_model(folder):
        # Another file or folder of that name gives way to a model of that name.
        homes = [MODELS / folder, shipped().get(str(path))]
        folder = next((home for home in homes if home and _holds_model(home)), folder)
    if not folder.exists() and folder.suffix == ".tflite":
        raise BundleError(
            f"There is no file {brief(path)}; write one with: "
            f"{command('kcharlm', 'export', 'MODEL', '-o', folder)}"
        )
    if not folder.exists():
        if leftovers(folder)[0].exists():
            raise BundleError(
                f"{path} was being replaced when its training was killed; put it "
                f"back with: {command('kcharlm', 'fit', '--resume', folder)}"
            )
        raise BundleError(
            f"There is no model {brief(path)}; train one with: "
            f"{command('kcharlm', 'fit', 'CORPUS', '-o', brief(path))}"
        )
    return folder


def _holds_model(path: Path) -> bool:
    """Whether a path is a folder of a model, finished or not, or an on-device file."""
    if path.is_file():
        return path.suffix == ".tflite"
    return (path / CONFIG).exists() or (path / CHECKPOINT).exists()


def newer(path: Path) -> Path | None:
    """The newest model of the same corpus, if `fit` named it after the model in `path`."""
    others = [
        other
        for other in MODELS.glob(f"{glob.escape(path.name)}-*/{CONFIG}")
        if other.parent.name.removeprefix(f"{path.name}-").isdecimal()
    ]
    if path.parent != MODELS or not others:
        return None
    latest = max(others, key=lambda other: other.stat().st_mtime)
    if (path / CONFIG).exists() and latest.stat().st_mtime <= (path / CONFIG).stat().st_mtime:
        return None
    return latest.parent


def newest() -> Path:
    """The newest model under saved_models/, or the bundled name generator."""
    homes = shipped()
    own = {home.resolve() for home in homes.values()}
    # A hidden folder is a temporary one of `replace_folder`.
    configs = [path for path in MODELS.glob(f"*/{CONFIG}") if path.parent.name[0] != "."]
    configs = [path for path in configs if path.parent.resolve() not in own]
    if configs:
        return max(configs, key=lambda path: (path.stat().st_mtime, path)).parent
    if home := homes.get(NAMES):
        return home
    raise BundleError("There is no model yet; train one with: kcharlm fit CORPUS")


def shipped() -> dict[str, Path]:
    """The folders of the bundled models, by name."""
    package = Path(__file__).parent.parent
    homes = [home / MODELS for home in (package.parent, package)]  # checkout, wheel
    return {
        name: home / name
        for home in homes
        for name in (CODE, ENGLISH, NAMES)
        if (home / name / CONFIG).is_file()
    }


def publish(
    folder: Path,
    card: Card,
    write: Callable[[Path], None],
    finish: Callable[[Path], None] = lambda folder: None,
) -> Card:
    """Write a model folder under a temporary name, and rename it.

    Args:
        folder: The model's folder; an existing one is replaced last.
        card: The content of config.json; the files' hashes are filled in.
        write: Fills an empty folder with the model's other files.
        finish: Adds files derived from the model, once the folder can be opened.

    Returns:
        The card with the hashes.
    """
    with replace_folder(folder) as temporary:
        write(temporary)
        hashes = {
            name: _sha256(temporary / name) for name in _CHECKED if (temporary / name).exists()
        }
        card = replace(card, files=hashes)
        write_json(temporary / CONFIG, card.to_dict())
        finish(temporary)
    return card


def recover(folder: Path) -> None:
    """Finish or undo a `publish` that was interrupted by a crash.

    Raises:
        TrainingError: Another process trains there, and may be publishing at this moment.
    """
    if any(locked(home / CHECKPOINT / LOCK) for home in (folder, leftovers(folder)[0])):
        raise TrainingError(
            f"Another training runs in {folder}; wait for it, or name another --output."
        )
    recover_folder(folder)


def _json(path: Path) -> Any:
    try:
        return json.loads(regular(path, LARGEST_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}); copy the model again, or train it again."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )
