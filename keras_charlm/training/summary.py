"""The summary shown at the start and at the end of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_charlm.display import command, counted, duration
from keras_charlm.saved.bundle import REPORT, Bundle, shipped
from keras_charlm.saved.card import Card
from keras_charlm.saved.description import (
    describe_batch,
    describe_labels,
    describe_network,
    describe_optimizer,
)
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.labels import columns
from keras_charlm.text.split import Split
from keras_charlm.text.streams import SyntheticText, Windows
from keras_charlm.training.base import known_lines
from keras_charlm.training.devices import describe
from keras_charlm.training.plan import Plan
from keras_charlm.training.progress import Progress
from keras_charlm.training.workers import Workers

_FEW = 100  # batches; a shorter training has hardly begun


def part_sizes(text: Corpus, split: Split) -> dict[str, Any]:
    """Number of characters, and for a corpus of lines also of lines and of
    the longest line, in each part of the text."""
    sizes: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        stream = getattr(split, name)
        sizes[name] = {"characters": max(0, stream.length - stream.lead)}
        if text.config.records:
            sizes[name]["lines"] = len(stream.lines)
            sizes[name]["longest"] = int(stream.lines.lengths.max(initial=0))
    return sizes


def beginning(
    text: Corpus, split: Split, plan: Plan, windows: Windows, parameters: int, workers: Workers
) -> list[str]:
    """The lines shown before the first batch.

    Args:
        text: The text.
        split: Its parts.
        plan: The training's plan.
        windows: The batches.
        parameters: The network's parameters.
        workers: The workers that train together.
    """
    unit = split.vocabulary.unit_name
    form = text.config.normalize.upper()
    normalized = "" if text.config.unit == "byte" or form == "NONE" else f", {form}"
    files = f"{text.file_count:,} files, " if text.file_count > 1 else ""
    several = f"{workers.count} workers of " if workers.count > 1 else ""
    devices = f"{several}{describe(len(workers.parts))}"
    return [
        f"corpus      {text.name}: {files}{text.characters:,} {unit}s, "
        f"{split.vocabulary.size - 1} distinct{normalized}",
        *(
            f"label       {column}: {describe_labels(labels)}"
            for column, labels in columns(split.labels).items()
        ),
        f"split       {_parts(text, split)}",
        f"model       {describe_network(plan.model, parameters)}",
        f"training    {_training(plan, windows.steps, unit)}",
        *([f"synthetic   {_synthetic(windows.synthetic, unit)}"] if windows.synthetic else []),
        f"device      {devices}, {plan.policy.removeprefix('mixed_')}",
    ]


def begun_from(base: Bundle, text: Corpus, split: Split, known: int) -> list[str]:
    """The lines shown when a training has started from another model.

    Args:
        base: The model.
        text, split: The text and its parts.
        known: How many of its characters the model knows.
    """
    bundled = base.path in shipped().values()
    name = f"the bundled model {base.card.name}" if bundled else base.path
    lines = [
        f"begun from  {name}: it knows {known} of the {split.vocabulary.size - 1} characters"
        + ("; --from-scratch starts from none" if bundled else "")
    ]
    if same := known_lines(base, text, split):
        lines.append(
            f"{'':<12}it was trained on {same:,} of the {len(split.train_lines or ()):,} training "
            "lines, so that its scores on this list look better than on new lines"
        )
    return lines


def _parts(text: Corpus, split: Split) -> str:
    parts = []
    for name, sizes in part_sizes(text, split).items():
        unit = "lines" if "lines" in sizes else "characters"
        parts.append(f"{sizes[unit]:,} {name}" if sizes[unit] else f"no {name} part")
    config = text.config
    documents = "lines" if config.lines else "documents"
    distinct = config.records and not config.duplicates
    return ", ".join(parts) + (f" (distinct {documents})" if distinct else "")


def _training(plan: Plan, steps: int, unit: str) -> str:
    fit, batches = plan.fit, counted(steps, "batch", "batches")
    length = (
        f"{batches} per epoch"
        if fit.max_time
        else f"{counted(fit.epochs or 0, 'epoch')} of {batches}"
    )
    limit = f", at most {duration(fit.max_time)}" if fit.max_time else ""
    return f"{length}, {describe_batch(fit, unit)}, {describe_optimizer(fit)}{limit}"


def _synthetic(text: SyntheticText, unit: str) -> str:
    return f"{text.rows * text.width:,} {unit}s an epoch, drawn from n-grams of the training part"


def _kept(card: Card, progress: Progress) -> str:
    """Which epoch's weights the model has, and why."""
    epoch, held_out = progress.best_epoch, card.split["validation"]["characters"]
    if progress.best is not None:
        return f"epoch {epoch} of {len(progress.history)}, the best on validation"
    few = f": {held_out:,} characters of validation text are too few to choose by"
    if (error := card.scores.get("validation", {}).get("margin")) is not None:
        few += f" (+- {error:.2f} bits)"
    return f"epoch {epoch}, the last{few if held_out else ''}"


def end(card: Card, folder: Path, unit: str, progress: Progress) -> list[str]:
    """The lines shown after the model was written.

    Args:
        card: The model's card, with its scores.
        folder: Its folder.
        unit: Unit of the losses, 'character' or 'byte'.
        progress: The training's progress.
    """
    lines = []
    if progress.step < _FEW:
        lines.append(
            f"short       only {counted(progress.step, 'batch', 'batches')}: a longer "
            "training learns more, with more --epochs or --max-time"
        )
    lines.append(f"kept        {_kept(card, progress)}")
    lines += [
        f"{part:<12}{scores['bits_per_character']:.4f} bits per {unit} "
        f"({scores['nats_per_character']:.4f} nats)"
        for part in ("validation", "test")
        if (scores := card.scores.get(part))
    ]
    lines.append(f"model       {folder}")
    if (page := folder / REPORT).exists():
        lines.append(f"report      {page}")
    following = [
        command("kcharlm", "generate", folder),
        command("kcharlm", "inspect", folder, "TEXT-FILE"),
    ]
    if page.exists():
        following.insert(1, f"open {command(page)} in a browser")
    return [*lines, *(f"{'' if i else 'next':<12}{step}" for i, step in enumerate(following))]
