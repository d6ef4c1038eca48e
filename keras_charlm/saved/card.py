"""The card of a trained model: its configuration, corpus and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.errors import BundleError, CharLMError
from keras_charlm.text.labels import Label
from keras_charlm.text.vocabulary import Vocabulary

FORMAT = 6


@dataclass(frozen=True)
class Card:
    """The description of a model: the content of config.json.

    Args:
        name: The folder's name at the time of training.
        run: Identifies the training run.
        created: ISO 8601 date and time, UTC.
        versions: Library versions at training.
        model, fit: The resolved configurations.
        corpus: `name`, `files` (empty for the bundled list of names), `bytes`, `characters`,
            `sha256`, and `config` (a CorpusConfig).
        split: Number of characters of each part; for a corpus of lines also of lines, and of the
            characters of the longest one.
        start: Code of the character that is read first if there is no prompt.
        finished: False if the training was stopped and can be resumed.
        scores: `epoch`, the Scores of `validation` and `test` if there are such parts, `baseline`,
            the scores of n-grams on them (see `ngram.scores`), and `labels`, the scores by label on
            them (see `evaluation.labels.bits_by_label`).
        files: SHA-256 of the model's files.
        base: Name of the model that the training started from; empty for none.
        labels: Labels that the model can be given, in the order of their ids.
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
    base: str = ""
    labels: tuple[Label, ...] = ()

    @property
    def corpus_config(self) -> CorpusConfig:
        """How the text was read."""
        return CorpusConfig.from_dict(self.corpus["config"])

    @property
    def lines(self) -> bool:
        """Whether the text is a list of documents, lines or longer ones, that end themselves."""
        return self.corpus_config.records

    @property
    def document(self) -> str:
        """What a document of the list is called: line or document."""
        return "line" if self.corpus_config.lines else "document"

    @property
    def line_limit(self) -> int | None:
        """Characters at which a drawn line or document is cut: twice those of the longest one of
        the training part; None if that is unknown, or for a model of texts."""
        longest = self.split["train"].get("longest")
        return 2 * longest if self.lines and longest else None

    @property
    def normalize(self) -> str:
        """Unicode normalization of every text that the model reads; 'none' for bytes."""
        config = self.corpus_config
        return "none" if config.unit == "byte" else config.normalize

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON values."""
        return {"format": FORMAT, **asdict(self)}

    def on_device(
        self,
        vocabulary: Vocabulary,
        quantize: str = "none",
        license: str | None = None,
        constraints: str | None = None,
    ) -> dict[str, Any]:
        """The card of an on-device file; see `tflite_card`.

        The file may be shared, so paths are reduced to file names, and hashes of other files are
        left out.

        Args:
            vocabulary: The model's vocabulary.
            quantize: Format of its weights.
            license: Licence of the training text.
            constraints: Those of the file's own rule.

        Returns:
            The card as JSON values.
        """
        names = [Path(name).name for name in self.corpus["files"]]
        card = replace(
            self,
            corpus={**self.corpus, "files": names},
            fit=replace(self.fit, tensorboard=None),
            files={},
        )
        return {
            "card": card.to_dict(),
            "vocabulary": vocabulary.to_dict(),
            "quantize": quantize,
            "license": license,
            "constraints": constraints,
        }

    @classmethod
    def from_dict(cls, values: Any, where: Path) -> Card:
        """Rebuild from the value of `to_dict`.

        Args:
            values: The JSON value.
            where: The file it was read from, for errors.

        Raises:
            BundleError: It is of another format, or invalid.
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
                f"format {FORMAT}, so train the model again."
            )
        try:
            values = {k: v for k, v in values.items() if k != "format"}
            values["model"] = ModelConfig.from_dict(values["model"])
            values["fit"] = FitConfig.from_dict(values["fit"])
            values["labels"] = tuple(Label(**label) for label in values.get("labels", ()))
            card = cls(**values)
            if wrong := _wrong(card):
                raise TypeError(f"{wrong} is not what it should be")
            return card
        except (CharLMError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{where} is damaged ({error}); copy the model again, or train it again."
            ) from error


def _wrong(card: Card) -> str | None:
    """The first field of a card with an invalid value, as files are untrusted; else None."""
    model, fit = card.model, card.fit
    chosen = (model.layers, model.units, model.embedding, model.tied, model.dropout)
    right = {
        "name": _is_text(card.name),
        "run": _is_text(card.run),
        "created": _is_text(card.created),
        "versions": _is_table(card.versions, _is_text),
        "model": None not in chosen,
        "fit": None not in (fit.epochs, fit.learning_rate),
        "corpus": _is_corpus(card.corpus) and bool(card.corpus_config),
        "split": _is_table(card.split, _is_part, "train", "validation", "test"),
        "start": _is_count(card.start),
        "finished": type(card.finished) is bool,
        "parameters": _is_count(card.parameters),
        "scores": _are_scores(card.scores),
        "files": _is_table(card.files, _is_digest),
        "base": _is_text(card.base),
        "labels": all(map(_is_label, card.labels)),
    }
    return next((name for name, fine in right.items() if not fine), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_count(value)


def _is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_table(value: Any, kind: Callable[[Any], bool], *needed: str) -> bool:
    """Whether a value is an object with at least these names and only values of a kind."""
    return (
        isinstance(value, dict)
        and set(needed) <= set(value)
        and all(_is_text(key) and kind(v) for key, v in value.items())
    )


def _is_part(value: Any) -> bool:
    """Whether a value is the size of a part of the text."""
    return _is_table(value, _is_count, "characters")


def _is_label(label: Label) -> bool:
    texts = label.column, label.value
    return (
        all(_is_text(text) and text for text in texts)
        and _is_number(label.share)
        and _is_count(label.id)
        and _is_count(label.code)
    )


def _is_corpus(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value["name"])
        and _is_digest(value["sha256"])
        and isinstance(value["files"], list)
        and all(map(_is_text, value["files"]))
        and _is_count(value["bytes"])
        and _is_count(value["characters"])
    )


def _are_scores(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {
        "epoch",
        "validation",
        "test",
        "baseline",
        "labels",
    }:
        return False
    baseline = value.get("baseline")
    by_label = [row for rows in value.get("labels", {}).values() for row in rows]
    return (
        all(_is_number(row["bits_per_character"]) and _is_text(row["label"]) for row in by_label)
        and _is_count(value.get("epoch", 0))
        and all(
            _is_table(value[part], _is_number, "bits_per_character", "nats_per_character")
            for part in ("validation", "test")
            if part in value
        )
        and (not baseline or (isinstance(baseline, list) and all(map(_is_counted, baseline))))
    )


def _is_counted(value: Any) -> bool:
    """Whether a value is a row of the baseline."""
    return _is_table(
        value, lambda v: v is None or _is_number(v), "order", "validation", "test"
    ) and _is_count(value["order"])


def versions() -> dict[str, str]:
    """Installed versions of the packages that a model depends on."""
    names = ("keras_charlm", "keras", "tensorflow", "tensorflow-text", "ai-edge-litert", "numpy")
    installed = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed
