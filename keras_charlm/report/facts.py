"""The tables of a report: how a model was made, as labels and values."""

from __future__ import annotations

from keras_charlm.config_base import OWN
from keras_charlm.display import duration
from keras_charlm.saved import bundle
from keras_charlm.saved.description import (
    describe_batch,
    describe_input,
    describe_layers,
    describe_optimizer,
    describe_part,
    describe_reading,
    describe_synthetic,
    describe_text,
)
from keras_charlm.saved.history import History
from keras_charlm.saved.trained import TrainedModel

Rows = list[tuple[str, str]]  # labels and values
_TIMED = 3  # epochs without which no speed is shown
_FILES = 5  # maximum number of corpus files that are named


def facts(model: TrainedModel, history: History | None) -> dict[str, Rows]:
    """All tables by title.

    Args:
        model: The model, with its folder.
        history: Its training, epoch by epoch.
    """
    return {
        "Text": _text(model),
        "Network": _network(model),
        "Training": _training(model, history),
        "Versions": list(model.card.versions.items()),
    }


def _text(model: TrainedModel) -> Rows:
    card, unit, corpus = model.card, model.vocabulary.unit_name, model.card.corpus
    files = corpus["files"] or ["the embedded list of first names"]
    more = f" and {len(files) - _FILES:,} more" if len(files) > _FILES else ""
    size = describe_text(unit, corpus["characters"], corpus["bytes"], model.vocabulary.size - 1)
    return [
        ("files", ", ".join(files[:_FILES]) + more),
        ("size", size),
        ("read as", describe_reading(card.corpus_config)),
        ("SHA-256", corpus["sha256"]),
        *((part, describe_part(size, unit, card.document)) for part, size in card.split.items()),
    ]


def _network(model: TrainedModel) -> Rows:
    shape = model.card.model
    return [
        ("layers", describe_layers(shape)),
        ("input", describe_input(shape)),
        ("logits", "tied to the embedding" if shape.tied else "own weights"),
        ("dropout", f"{shape.dropout:g}"),
        *([("noise", f"{shape.noise:g}")] if shape.noise else []),
        ("parameters", f"{model.card.parameters:,}"),
        ("on-device file", f"{(model.path / bundle.DEVICE).stat().st_size:,} bytes"),
    ]


def _training(model: TrainedModel, history: History | None) -> Rows:
    card, unit, fit = model.card, model.vocabulary.unit_name, model.card.fit
    warmup = f", warm-up {fit.warmup:.0%}" if fit.schedule in ("cosine", "constant") else ""
    clipping = [] if fit.optimizer.startswith(OWN) else [f"global norm {fit.clip_norm:g}"]
    return [
        ("optimizer", describe_optimizer(fit) + warmup),
        *(("clipping", norm) for norm in clipping),
        ("batch", describe_batch(fit, unit)),
        *([("synthetic text", describe_synthetic(fit, unit))] if fit.synthetic else []),
        ("limit", duration(fit.max_time) if fit.max_time else f"{fit.epochs:,} epochs"),
        *(_course(model, history) if history else []),
        ("precision", fit.precision),
        ("seed", str(fit.seed)),
        ("trained", card.created.replace("T", " ").replace("+00:00", " UTC")),
    ]


def _course(model: TrainedModel, history: History) -> Rows:
    """How long the training ran, and how fast."""
    fit, unit, last = model.card.fit, model.vocabulary.unit_name, history.rows[-1]
    epochs, steps = int(last["epoch"] or 0), int(last["step"] or 0)
    characters = steps * fit.batch_size * fit.seq_length
    speed = f"{history.speed:,.0f} {unit}s a second (median of the epochs)"
    return [
        ("done", f"{epochs:,} epochs, {steps:,} batches, {characters:,} {unit}s read"),
        ("kept", kept(model, history) or "the weights at the end"),
        ("time", duration(history.seconds)),
        *([("speed", speed)] if measured(history) else []),
    ]


def measured(history: History) -> bool:
    """Whether enough epochs were timed to show a speed; the first one includes compiling."""
    return len(history.column("characters_per_second")[1]) >= _TIMED and history.speed > 0


def kept(model: TrainedModel, history: History | None) -> str:
    """Which epoch's weights the model has, and why; empty if that is unknown."""
    epoch = int(model.card.scores.get("epoch") or 0)
    if not epoch or history is None:
        return f"epoch {epoch}" if epoch else ""
    last = int(history.rows[-1]["epoch"] or 0)
    validated = {
        int(row["epoch"] or 0): row["val_bits_per_character"]
        for row in history.rows
        if row["val_bits_per_character"] is not None
    }
    why = ""
    if validated and validated.get(epoch) == min(validated.values()):
        why = ", the best on validation"
    elif epoch == last:
        why = ", the last"
    return f"epoch {epoch:,}{f' of {last:,}' if last > epoch else ''}{why}"
