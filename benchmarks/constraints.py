"""Ways to draw under constraints, with the shipped names: `python -m benchmarks.constraints`.

Free: draw without constraints, and keep what fits. Mask: exclude the characters that do not fit,
which bends the distribution. Weighted: `generate`, by rejection or with particles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import numpy as np

from benchmarks.common import save
from keras_charlm.config import SampleConfig
from keras_charlm.generation import conditional
from keras_charlm.saved.trained import TrainedModel

CONSTRAINTS: tuple[dict[str, Any], ...] = (
    {"starts_with": "Ma"},
    {"ends_with": "a"},
    {"contains": "ie"},
    {"min_length": 5, "max_length": 8},
    {"min_length": 11, "max_length": 12},
    {"ban": ("an", "el", "in")},
    {"match": "[A-Z][a-z]{3}n"},
    {"starts_with": "Ma", "ends_with": "a", "contains": "ie", "max_length": 8},
    {"contains": "zz", "max_length": 8},
    {"match": "([^aeiou][aeiou])+", "ignore_case": True},
)


@click.command()
@click.option("--free", default=20_000, help="Names drawn without constraints.")
@click.option("--num", default=200, help="Names drawn under each constraint.")
@click.option("--save-as", default="constraints", help="Name of the JSON file.")
def main(free: int, num: int, save_as: str) -> None:
    """Share that fits, bits per character and names a second of each way."""
    model = TrainedModel("names")
    begin = time.perf_counter()
    drawn = list(model.samples(num=free, seed=0))
    rate = free / (time.perf_counter() - begin)
    rows = []
    for values in CONSTRAINTS:
        sampler = fitting(model, values)
        fits = [s for s in drawn if fit(model, sampler, s.text)]
        row: dict[str, Any] = {"constraint": describe(values), "share": len(fits) / free}
        row["free"] = [mean(s.bits_per_character for s in fits), rate * len(fits) / free]
        random = np.random.default_rng(0)
        row["mask"] = timed(sampler, num, lambda s, _, r=random: s._by_particles(r, True), False)
        sampler = fitting(model, values)
        row["way"] = "rejection" if sampler._rejects else "particles"
        row["weighted"] = timed(sampler, num, lambda s, seed: s.draw(seed), True)
        rows.append(row)
        click.echo(row, err=True)
    save(save_as, rows)


def fitting(model: TrainedModel, values: dict[str, Any]) -> conditional.Conditional:
    """What draws lines under constraints."""
    from keras_charlm.generation.fitting import Fitting
    from keras_charlm.generation.samples import _task

    config = SampleConfig(seed=0, **values)
    reading = model._reading()
    task = _task(model.runner, model.vocabulary, config, "", **reading)
    arguments = model.runner, model.vocabulary, config, task, True, model.card.normalize
    return Fitting(*arguments).conditional


def fit(model: TrainedModel, sampler: conditional.Conditional, text: str | bytes) -> bool:
    """Whether a name fits."""
    rule = sampler._rule
    state = rule.automaton.run(model.vocabulary.encode(text))
    return len(text) <= rule.longest and bool(rule.may_end[len(text), state])


def timed(
    sampler: conditional.Conditional,
    num: int,
    draw: Callable[[conditional.Conditional, int], conditional.Drawn | None],
    steered: bool,
) -> list[float]:
    """Bits per character and names a second."""
    if not steered:
        sampler._odds = None
    sampler._cache.clear()
    begin = time.perf_counter()
    drawn = [d for seed in range(num) if (d := draw(sampler, seed))]
    seconds = time.perf_counter() - begin
    return [mean(d.bits / d.symbols for d in drawn), num / seconds]


def mean(values: Iterable[float | None] | Iterator[float]) -> float:
    """The mean; NaN without values."""
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else float("nan")


def describe(values: dict[str, Any]) -> str:
    """Constraints as options of the command line."""
    words = []
    for name, value in values.items():
        for one in value if isinstance(value, tuple) else (value,):
            shown = "" if one is True else f" {one}"
            words.append(f"--{name.replace('_', '-')}{shown}")
    return " ".join(words)


if __name__ == "__main__":
    main()
