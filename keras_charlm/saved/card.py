"""What a trained model says about itself."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.errors import BundleError, CharLMError
from keras_charlm.network.equations import CELLS
from keras_charlm.text.vocabulary import Vocabulary

FORMAT = 4


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

    def on_device(
        self, vocabulary: Vocabulary, quantize: str = "none", license: str | None = None
    ) -> dict[str, Any]:
        """What an on-device file says about itself; see `device`."""
        return {
            "card": self.to_dict(),
            "vocabulary": vocabulary.to_dict(),
            "quantize": quantize,
            "license": license,
        }

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
                f"format {FORMAT}, so train the model anew."
            )
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
        return (
            isinstance(value, dict)
            and set(needed) <= set(value)
            and all(text(key) and kind(v) for key, v in value.items())
        )

    corpus, scores = card.corpus, card.scores
    right = {
        "name": text(card.name),
        "run": text(card.run),
        "created": text(card.created),
        "versions": all_of(text, card.versions),
        "model": None
        not in (
            card.model.layers,
            card.model.units,
            card.model.embedding,
            card.model.tied,
            card.model.dropout,
        ),
        "fit": None not in (card.fit.epochs, card.fit.learning_rate),
        "corpus": isinstance(corpus, dict)
        and text(corpus["name"])
        and digest(corpus["sha256"])
        and isinstance(corpus["files"], list)
        and all(map(text, corpus["files"]))
        and count(corpus["bytes"])
        and count(corpus["characters"])
        and bool(card.corpus_config),
        "split": all_of(
            lambda part: all_of(count, part, ["characters"]),
            card.split,
            ["train", "validation", "test"],
        ),
        "start": count(card.start),
        "finished": type(card.finished) is bool,
        "parameters": count(card.parameters),
        "scores": isinstance(scores, dict)
        and set(scores) <= {"epoch", "validation", "test", "baseline"}
        and count(scores.get("epoch", 0))
        and all(
            all_of(number, scores[part], ["bits_per_character", "nats_per_character"])
            for part in ("validation", "test")
            if part in scores
        )
        and (
            not scores.get("baseline")
            or (
                isinstance(scores["baseline"], list)
                and all(
                    all_of(lambda v: v is None or number(v), row, ["order", "validation", "test"])
                    and count(row["order"])
                    for row in scores["baseline"]
                )
            )
        ),
        "files": all_of(digest, card.files),
    }
    return next((name for name, fine in right.items() if not fine), None)


def count_parameters(model: ModelConfig, symbols: int) -> int:
    """Weights of a network with nothing left open and so many symbols."""
    cell = CELLS[model.cell]
    below = model.embedding or symbols
    total = symbols * model.embedding
    for _ in range(model.layers):
        total += cell.blocks * model.units * (below + model.units + cell.biases)
        below = model.units
    return total + below * (model.embedding if model.tied else symbols) + symbols


def versions() -> dict[str, str]:
    """Versions of what a model depends on."""
    names = ("keras_charlm", "keras", "tensorflow", "tensorflow-text", "ai-edge-litert", "numpy")
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
