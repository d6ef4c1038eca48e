"""Short descriptions of a model's settings, shared by `info`, `fit` and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.display import counted
from keras_charlm.errors import brief
from keras_charlm.text.labels import Label

_LABELS = 50  # labels of a column that are listed


def describe_layers(model: ModelConfig) -> str:
    """The recurrent layers: 2 x 128 lstm."""
    return f"{model.layers} x {model.units} {model.cell}"


def describe_input(model: ModelConfig) -> str:
    """What the first layer reads: embedding 32, or one-hot."""
    return f"embedding {model.embedding}" if model.embedding else "one-hot"


def describe_network(model: ModelConfig, parameters: int) -> str:
    """A network: 2 x 128 lstm, embedding 32, tied, dropout 0.3: 219,894 parameters."""
    parts = [describe_layers(model), describe_input(model)]
    if model.tied:
        parts.append("tied")
    parts.append(f"dropout {model.dropout:g}")
    if model.noise:
        parts.append(f"noise {model.noise:g}")
    return f"{', '.join(parts)}: {counted(parameters, 'parameter')}"


def describe_text(unit: str, characters: int, size: int, distinct: int) -> str:
    """A text: 12,345 characters in 12,400 bytes, 27 distinct.

    Args:
        unit: What its symbols are called: character or byte.
        characters: How many of them it has.
        size: Bytes of its files.
        distinct: Different symbols in its training part.
    """
    length = f"{size:,} bytes" if unit == "byte" else f"{characters:,} {unit}s in {size:,} bytes"
    return f"{length}, {distinct:,} distinct"


def describe_reading(config: CorpusConfig) -> str:
    """How files were read: utf-8, NFC, one document a line."""
    if config.unit == "byte":
        parts = ["bytes"]
    else:
        normalized = "not normalized" if config.normalize == "none" else config.normalize.upper()
        parts = [config.encoding, normalized]
    if config.lines:
        parts.append("one document a line")
    elif config.documents:
        parts.append("one document a file")
    elif config.separator is not None:
        parts.append(f"documents separated by {brief(repr(config.separator_text))}")
    return ", ".join(parts)


def describe_labels(labels: Sequence[Label]) -> str:
    """The labels of a column with their shares: female 54.2%, male 45.8%."""
    shown = ", ".join(f"{brief(label.value)} {label.share:.1%}" for label in labels[:_LABELS])
    return shown + (f" and {len(labels) - _LABELS:,} more" if len(labels) > _LABELS else "")


def describe_part(size: Mapping[str, int], unit: str, document: str = "line") -> str:
    """A part of the split: 640 characters in 160 lines.

    Args:
        size: Its `characters`, and for a corpus of lines its `lines`.
        unit: What its symbols are called: character or byte.
        document: What a document of a list is called: line or document.
    """
    if not size["characters"]:
        return "no such part"
    lines = f" in {counted(size['lines'], document)}" if "lines" in size else ""
    return f"{size['characters']:,} {unit}s{lines}"


def describe_split(
    split: Mapping[str, Mapping[str, int]], unit: str, document: str = "line"
) -> str:
    """All parts of a split: train 1,350 characters, validation 150 characters, no test part."""
    return ", ".join(
        f"{part} {describe_part(size, unit, document)}" if size["characters"] else f"no {part} part"
        for part, size in split.items()
    )


def describe_optimizer(fit: FitConfig) -> str:
    """Optimizer, learning rate and its schedule: adam 0.004, cosine."""
    return f"{fit.optimizer} {fit.learning_rate:g}, {fit.schedule}"


def describe_batch(fit: FitConfig, unit: str) -> str:
    """Streams and window of a batch: 32 x 64 characters."""
    return f"{fit.batch_size} x {fit.seq_length} {unit}s"


def describe_synthetic(fit: FitConfig, unit: str) -> str:
    """How much synthetic text was read: 0.5 characters drawn from n-grams for each of the text."""
    return f"{fit.synthetic:g} {unit}s drawn from n-grams for each of the text"
