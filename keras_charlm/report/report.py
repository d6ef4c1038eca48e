"""The page that a training leaves: how good the model is, how it came to be, and what it writes.

`report.html` stands in the model's folder and needs nothing beside it. It holds no program: what is
drawn is drawn here, and every text in it is untrusted and escaped by the template.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from keras_charlm.display import Display, duration, printable
from keras_charlm.errors import BundleError, CorpusError
from keras_charlm.evaluation import ngram
from keras_charlm.evaluation.evaluate import training_text
from keras_charlm.files import replace_file
from keras_charlm.report import charts
from keras_charlm.saved import bundle
from keras_charlm.saved.history import History, TrainingSample, read_history, read_samples
from keras_charlm.saved.trained import TrainedModel

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)


SEED = 1  # of the samples drawn for the page; the same page is made twice


LENGTH = 320  # characters of such a sample


LINES = 200  # most lines drawn at each temperature, to see how many are new,


LINES_LENGTH = 8000  # and about how many characters they may have together


MOMENTS = 8  # samples shown from the training


MOST_COUNTED = 100_000_000  # characters; they take some minutes and 4 GB


_ROWS = 60  # most rows of the history's table


def write(
    path: str | Path,
    output: str | Path | None = None,
    place: str | Path | None = None,
    *,
    corpus: Sequence[str | Path] = (),
    count: bool = True,
    verbose: int = 0,
) -> Path:
    """Write a model's report.

    Args:
        path: The model's folder, or its name under saved_models/.
        output: The page; by default report.html in the folder.
        place: Where the model will stand, for the commands on the page; by default where it is.
        corpus: The files that the model was trained on, where they are not where they were.
        count: Count the text for the baseline where the model's scores do not hold one.
        verbose: 1 says on stderr what takes long.

    Returns:
        The page's path.

    Raises:
        BundleError: The model cannot be read, is an on-device file alone, or the page cannot be
            written.
        CorpusError: `corpus` is not the text that the model was trained on.
    """
    model = opened = TrainedModel(path)
    if opened.on_device:
        raise BundleError(
            f"{opened.path} is an on-device file alone, without the history of its "
            "training; name the folder that kcharlm fit wrote."
        )
    page = Path(output) if output else opened.path / bundle.REPORT
    place = shlex.quote(str(place or opened.path))
    if "baseline" in opened.card.scores:
        counted, without = opened.card.scores["baseline"], ""
    elif count:
        counted, without = _count(model, corpus, Display(verbose))
    else:
        counted, without = [], f"this command adds it: kcharlm report {place}"
    text = render(model, place, counted, without)
    try:
        replace_file(page, lambda file: file.write_bytes(text.encode("utf-8", "replace")))
    except OSError as error:
        raise BundleError(
            f"{page} cannot be written ({error.strerror or error}); name another "
            "place with --output."
        ) from error
    return page


def render(
    model: TrainedModel, place: str, counted: list[dict[str, Any]], without: str = ""
) -> str:
    """The page of a model as HTML.

    Args:
        model: The model, with its folder.
        place: How the commands on the page name it.
        counted: What `ngram.scores` gave, or nothing.
        without: Why there is none.
    """
    card = model.card
    history, moments = read_history(model.path), read_samples(model.path)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": duration, "printable": printable, "number": _number}
    part = next((part for part in ("test", "validation") if part in card.scores), None)
    rungs = _rungs(model, part, _by_order(counted, part)) if part else []
    counted = _by_order(counted, "validation")
    return environment.get_template("report.html").render(
        card=card,
        place=place,
        alphabet=model.vocabulary.size - 1,
        symbol=_symbol(model),
        part=part,
        history=history,
        table=_thin(history.rows, _ROWS) if history else [],
        curves=_curves(model, history, counted) if history else None,
        rungs=rungs,
        ladder=_ladder(rungs) if part else None,
        counted=counted,
        without=without,
        moments=choose(moments),
        moments_in_all=len(moments),
        drawn=draw(model),
        seed=SEED,
        length=LENGTH,
        facts=_facts(model, history),
    )


def _count(
    model: TrainedModel, files: Sequence[str | Path], display: Display
) -> tuple[list[dict[str, Any]], str]:
    """The baseline by the training text, or why there is none."""
    size = model.card.split["train"]["characters"]
    if not model.card.scores.keys() & {"validation", "test"}:
        return [], "there is no held-out text"
    if size > MOST_COUNTED:
        return [], f"more than {MOST_COUNTED:,} characters are not counted"
    try:
        split = training_text(model, files).split
    except CorpusError:
        if files:
            raise
        return [], "the training text is no longer where it was; --corpus names its files"
    display.note(f"counting    {size:,} characters of the training text")
    return ngram.scores(split), ""


def choose(moments: list[TrainingSample], number: int = MOMENTS) -> list[TrainingSample]:
    """The first sample, the last, and some between: close together where most is learnt."""
    if not moments:
        return []
    moments = list({moment.step: moment for moment in moments}.values())
    number = min(number, len(moments))
    steps = np.log([max(moment.step, 1) for moment in moments])
    chosen = [-1]
    for i, wanted in enumerate(np.linspace(steps[0], steps[-1], number)):
        begin, end = chosen[-1] + 1, len(moments) - number + i + 1  # leaves enough for the others
        chosen.append(begin + int(np.abs(steps[begin:end] - wanted).argmin()))
    return [moments[i] for i in chosen[1:]]


@dataclass(frozen=True)
class Drawn:
    """What the model writes at a temperature.

    Args:
        temp: The temperature.
        texts: Samples, and whether each is new, which only a list tells.
        bits: Mean of -log2 p of a sample's characters, by the model itself.
        number: Of a list, lines drawn in all,
        novel: share of them that is not in the training text,
        distinct: and number of different ones divided by all.
    """

    temp: float
    texts: list[tuple[str, bool]]
    bits: float | None
    number: int = 1
    novel: float | None = None
    distinct: float | None = None


def draw(model: TrainedModel) -> list[Drawn]:
    """Samples at several temperatures, by the on-device file, with fixed seeds."""
    draw_one = _draw_lines if model.card.lines else _draw_text
    return [draw_one(model, temp) for temp in TEMPERATURES]


def _draw_text(model: TrainedModel, temp: float) -> Drawn:
    sample = next(model.samples(temp=temp, length=LENGTH, seed=SEED))
    return Drawn(temp, [(_text(sample.text), True)], sample.bits_per_character)


def _draw_lines(model: TrainedModel, temp: float) -> Drawn:
    part = model.card.split["train"]
    number = min(LINES, max(4, LINES_LENGTH * part["lines"] // part["characters"]))
    drawn = list(model.samples(temp=temp, num=number, seed=SEED))
    lines = [(_text(sample.text), not model.known(sample.text)) for sample in drawn]
    ends = np.cumsum([len(line) for line, _ in lines])
    shown = max(1, int(np.searchsorted(ends, LENGTH // 3)))
    return Drawn(
        temp,
        lines[:shown],
        float(np.mean([sample.bits_per_character for sample in drawn])) if drawn else None,
        number,
        sum(new for _, new in lines) / max(len(lines), 1),
        len(set(lines)) / max(len(lines), 1),
    )


def _text(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _symbol(model: TrainedModel) -> str:
    return "byte" if model.vocabulary.unit == "byte" else "character"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _thin(rows: list, most: int) -> list:
    """At most so many rows, evenly chosen, the last among them."""
    every = -(-len(rows) // most)
    return rows[::-1][::every][::-1]


def _by_order(counted: list[dict[str, Any]], part: str) -> dict[int, float]:
    """Bits per character of counting on a part, by order, the shortest first."""
    return {row["order"]: row[part] for row in counted if row[part] is not None}


def _rungs(
    model: TrainedModel, part: str, counted: dict[int, float]
) -> list[tuple[str, float, str]]:
    """What a character costs by guessing, by counting, and by the network."""
    card, symbol, size = model.card, _symbol(model), model.vocabulary.size - 1
    rungs = [(f"an even guess among {size:,} {symbol}s", math.log2(size), "line")]
    for order, bits in counted.items():
        name = (
            f"counting how often each {symbol} occurs"
            if order == 1
            else f"counting {order} {symbol}s in a row"
        )
        rungs.append((name, bits, "baseline"))
    shape = card.model
    name = f"this network, {shape.layers} x {shape.units} {shape.cell}"
    return [*rungs, (name, card.scores[part]["bits_per_character"], "validation")]


def _ladder(rungs: list[tuple[str, float, str]]) -> Any:
    return charts.ladder(
        rungs,
        "Bits per character by guessing, counting and the network",
        "; ".join(f"{name}: {bits:.3f}" for name, bits, _ in rungs),
    )


def _curves(model: TrainedModel, history: History, counted: dict[int, float]) -> Any:
    card = model.card
    validation = history.column("val_bits_per_character")
    best = next(
        (
            row["step"]
            for row in history.rows
            if row["epoch"] == card.scores.get("epoch")
            and row["val_bits_per_character"] is not None
        ),
        None,
    )
    train = history.column("train_bits_per_character")
    traced = read_history(model.path, bundle.CURVE) or history  # older models have no curve.csv
    said = f"Training falls from {train[1][0]:.2f} to {train[1][-1]:.2f} bits per character"
    if len(validation[1]):
        said += (
            f", validation from {validation[1][0]:.2f} to {validation[1][-1]:.2f}, "
            f"at best {validation[1].min():.2f}"
        )
    data = charts.Curves(
        traced.column("train_bits_per_character"),
        validation,
        traced.column("learning_rate"),
        history.column("characters_per_second"),
        traced.column("seconds"),
        best,
        max([train[1][0], *validation[1][:1]]) if len(train[1]) > 1 else math.inf,
        tuple(bits for order, bits in counted.items() if order > 1),
    )
    return charts.curves(
        data, "The course of the training", f"{said}, over {train[0][-1]:,.0f} batches."
    )


def _facts(model: TrainedModel, history: History | None) -> dict[str, list[tuple[str, str]]]:
    """Tables of labels and values."""
    card, symbol = model.card, _symbol(model)
    shape, fit, source, config = card.model, card.fit, card.corpus, card.corpus_config
    form = (
        "bytes"
        if symbol == "byte"
        else ", ".join(
            [
                config.encoding,
                "not normalized" if config.normalize == "none" else config.normalize.upper(),
            ]
        )
    )
    files = source["files"] or ["the embedded list of first names"]
    more = f" and {len(files) - 5:,} more" if len(files) > 5 else ""
    text = [
        ("files", ", ".join(files[:5]) + more),
        ("size", f"{source['characters']:,} {symbol}s, {source['bytes']:,} bytes"),
        ("distinct", f"{model.vocabulary.size - 1:,} {symbol}s in the training part"),
        ("read as", form + (", one document a line" if card.lines else "")),
        ("SHA-256", source["sha256"]),
    ]
    for part, size in card.split.items():
        lines = f" in {size['lines']:,} lines" if "lines" in size else ""
        text.append(
            (
                part,
                f"{size['characters']:,} {symbol}s{lines}"
                if size["characters"]
                else "no such part",
            )
        )
    network = [
        ("layers", f"{shape.layers} x {shape.units} {shape.cell}"),
        ("input", f"embedding of {shape.embedding}" if shape.embedding else "one-hot"),
        ("logits", "by the embedding's vectors" if shape.tied else "by weights of their own"),
        ("dropout", f"{shape.dropout:g}"),
        *([("noise", f"{shape.noise:g}")] if shape.noise else []),
        ("parameters", f"{card.parameters:,}"),
        ("on-device file", f"{(model.path / bundle.DEVICE).stat().st_size:,} bytes"),
    ]
    training = [
        ("optimizer", f"{fit.optimizer}, clipped to a norm of {fit.clip_norm:g}"),
        (
            "learning rate",
            f"{fit.learning_rate:g} at the highest, {fit.schedule}"
            + ("" if fit.schedule == "char-rnn" else f", warm-up {fit.warmup:.0%}"),
        ),
        ("batch", f"{fit.batch_size} x {fit.seq_length} {symbol}s"),
        ("limit", f"{duration(fit.max_time)}" if fit.max_time else f"{fit.epochs:,} epochs"),
        ("precision", fit.precision),
        ("seed", str(fit.seed)),
        ("trained", card.created.replace("T", " ").replace("+00:00", " UTC")),
    ]
    if history:
        last, speed = history.rows[-1], history.speed
        training[4:4] = [
            (
                "done",
                f"{last['epoch']:,} epochs, {last['step']:,} batches, "
                f"{last['step'] * fit.batch_size * fit.seq_length:,} {symbol}s read",
            ),
            ("kept", f"epoch {card.scores['epoch']}"),
            ("time", duration(history.seconds)),
            (
                "speed",
                f"{speed:,.0f} {symbol}s a second (median of the epochs)"
                if speed
                else "too short to tell",
            ),
        ]
    return {
        "Text": text,
        "Network": network,
        "Training": training,
        "Versions": list(card.versions.items()),
    }
