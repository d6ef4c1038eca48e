"""The report page: the model's scores, its training curves, and samples.

`report.html` is written into the model's folder and is self-contained. It has no script: the charts
are drawn here. Every text in it is untrusted, and escaped by the template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm import templates
from keras_charlm.display import Display, command, duration, printable, quiet
from keras_charlm.effects import note
from keras_charlm.errors import BundleError, CorpusError, OptionError, brief
from keras_charlm.evaluation import ngram
from keras_charlm.files import check_output, write_file, writing
from keras_charlm.notebook import Page
from keras_charlm.report import drawn, figures
from keras_charlm.report.facts import facts, kept, measured
from keras_charlm.saved import bundle
from keras_charlm.saved.description import describe_layers
from keras_charlm.saved.history import TrainingSample, read_history, read_samples
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.sources import Paths

MOMENTS = 8  # samples shown from the training
MOST_COUNTED = 100_000_000  # characters; counting their n-grams takes some minutes and 4 GB
_ROWS = 60  # maximum rows of the history's table


def write(
    model: TrainedModel | str | Path,
    output: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    corpus: Paths = (),
    count: bool = True,
    verbose: int = 0,
) -> Path:
    """Write a model's report.

    Args:
        model: The model, its folder, or its name under saved_models/.
        output: The page; by default report.html in the folder.
        folder: The folder that the commands on the page name; by default the model's own.
        corpus: The files that the model was trained on, if they have moved.
        count: Count n-grams for the baseline if the model's scores have none.
        verbose: 1 shows notes about long tasks on stderr.

    Returns:
        The page's path, which a notebook shows as the page.

    Raises:
        BundleError: The model cannot be read, or is only an on-device file.
        CorpusError: `corpus` is not the text that the model was trained on.
        OptionError: The page cannot be written, or is another file.
    """
    opened = TrainedModel.of(model)
    if opened.on_device:
        raise BundleError(
            f"{opened.path} is only an on-device file, without the history of its "
            "training; name the folder that kcharlm fit wrote."
        )
    page = Page(output or opened.path / bundle.REPORT)
    check_output(page, overwrite=True)
    with writing(page):  # a page that cannot be read
        if output and page.exists() and not _is_report(page):
            raise OptionError(f"{brief(page)} exists and is no report; name another --output.")
    folder = Path(folder or opened.path)
    baseline, reason = opened.card.scores.get("baseline", []), ""
    reads = count and not (baseline and "test_margin" in baseline[-1])  # older models have none
    if reads:
        again, reason = _count(opened, corpus, Display(verbose))
        baseline = again or baseline
    elif not baseline:
        reason = f"this command adds it: {command('kcharlm', 'report', folder)}"
    if corpus and not reads:
        note(["corpus has no effect: the n-grams of this model are counted already."])
    html = render(opened, folder, baseline, reason)
    with writing(page):
        write_file(page, html.encode("utf-8", "replace"))
    return page


def _is_report(path: Path) -> bool:
    """Whether a file is the report of a model, and no other page or text that would be lost."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'content="keras_charlm ' in file.read(1000)


def render(
    model: TrainedModel, folder: Path, baseline: list[dict[str, Any]], reason: str = ""
) -> str:
    """Render the page of a model as HTML.

    Args:
        model: The model, with its folder.
        folder: The folder in the commands on the page.
        baseline: The rows of `ngram.scores`; may be empty.
        reason: Why it is empty.
    """
    card = model.card
    history, samples = read_history(model.path), read_samples(model.path)
    part = next((part for part in ("test", "validation") if part in card.scores), None)
    rival = figures.counted(baseline, part)
    validated = figures.counted(baseline, "validation")
    rungs = figures.rungs(model, part, rival) if part else []
    chosen = choose(samples)
    return templates.render(
        __package__,
        "report.html",
        escape=True,
        filters={"duration": duration, "printable": printable, "number": _number, "cut": drawn.cut},
        card=card,
        layers=describe_layers(card.model),
        folder=command(folder),
        alphabet=model.vocabulary.size - 1,
        symbol=model.vocabulary.unit_name,
        part=part,
        history=history,
        table=_thin(history.rows, _ROWS) if history else [],
        curves=figures.curves(model, history, validated, chosen) if history else None,
        timed=history and measured(history),
        kept=kept(model, history),
        ladder=figures.ladder(rungs) if part else None,
        rival=rival,
        validated=validated,
        reason=reason,
        samples=chosen,
        number_of_samples=len(samples),
        first=drawn.first(model),
        drawn=drawn.draw(model),
        by_label=drawn.by_label(model),
        settings=drawn,
        facts=facts(model, history),
    )


def _count(model: TrainedModel, files: Paths, display: Display) -> tuple[list[dict[str, Any]], str]:
    """The n-gram baseline counted in the training text, or the reason why there is none."""
    size = model.card.split["train"]["characters"]
    if not model.card.scores.keys() & {"validation", "test"}:
        return [], "there is no held-out text"
    if size > MOST_COUNTED:
        return [], f"more than {MOST_COUNTED:,} characters are not counted"
    try:
        _, split = model.corpus(files)
    except CorpusError:
        if files:
            raise
        return [], "the training text is no longer where it was; --corpus names its files"
    with quiet():
        from keras_charlm.evaluation.evaluator import Evaluator

    display.note(f"counting    {size:,} characters of the training text")
    evaluator = Evaluator(model.model, model.start)
    bits: dict[str, np.ndarray] = {
        part: evaluator.characters(getattr(split, part))[0]
        for part in ("validation", "test")
        if part in model.card.scores
    }
    return ngram.scores(split, bits), ""


def choose(samples: list[TrainingSample], number: int = MOMENTS) -> list[TrainingSample]:
    """Choose the first sample, the last, and some in between, evenly spaced by log of the step."""
    if not samples:
        return []
    samples = list({sample.step: sample for sample in samples}.values())
    number = min(number, len(samples))
    steps = np.log([max(sample.step, 1) for sample in samples])
    chosen = [-1]
    for i, target in enumerate(np.linspace(steps[0], steps[-1], number)):
        begin, end = chosen[-1] + 1, len(samples) - number + i + 1  # leaves enough for the others
        chosen.append(begin + int(np.abs(steps[begin:end] - target).argmin()))
    return [samples[i] for i in chosen[1:]]


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _thin(rows: list[Any], most: int) -> list[Any]:
    """At most `most` rows, evenly spaced, including the last."""
    every = -(-len(rows) // most)
    return rows[::-1][::every][::-1]
