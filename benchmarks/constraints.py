"""Ways to draw under constraints, with the shipped names: `python -m benchmarks.constraints`.

Free: draw without constraints, and keep what fits. Mask: exclude the characters that do not fit,
which bends the distribution. Default: `generate`, which draws freely, by rejection or with
particles.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click
import numpy as np

from benchmarks.common import save
from keras_charlm.config import SampleConfig
from keras_charlm.generation.conditional import Conditional
from keras_charlm.generation.fitting import Fitting
from keras_charlm.generation.samples import _task
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
    load = os.getloadavg()[0]
    begin = time.process_time()
    drawn = list(model.samples(num=free, seed=0, repeat=True))
    rate = free / (time.process_time() - begin)
    rows = []
    for values in CONSTRAINTS:
        sampler = fitting(model, values, num)
        fits = [s for s in drawn if sampler.fits(s)]
        row: dict[str, Any] = {"constraint": describe(values), "share": len(fits) / free}
        row["free"] = [mean(s.bits_per_character for s in fits), rate * len(fits) / free]
        row["mask"] = timed(masked(sampler.conditional, num))
        row["way"] = sampler.way
        row["default"] = timed(default(fitting(model, values, num)))
        row["load"] = [load, os.getloadavg()[0]]
        rows.append(row)
        click.echo(row, err=True)
    save(save_as, rows)


def fitting(model: TrainedModel, values: dict[str, Any], num: int) -> Fitting:
    """What draws lines under constraints."""
    config = SampleConfig(seed=0, num=num, **values)
    reading = model._reading()
    task = _task(
        model.runner,
        model.vocabulary,
        config,
        "",
        labels=(),
        usual=model._usual_length(),
        **reading,
    )
    return Fitting(model.runner, model.vocabulary, config, task, True, model.card.normalize)


def masked(sampler: Conditional, num: int) -> Iterator[float]:
    """Bits per character of names drawn with the mask."""
    random = np.random.default_rng(0)
    for _ in range(num):
        drawn = sampler.draw_masked(random)
        yield drawn.bits / drawn.symbols


def default(sampler: Fitting) -> Iterator[float]:
    """Bits per character of names as `generate` draws them."""
    while sampler.fill(sampler.num):
        for _, sample in sampler.advance():
            yield sample.bits_per_character or 0.0


def timed(bits: Iterator[float]) -> list[float | None]:
    """The mean of bits per character, and names a second of processor time."""
    begin = time.process_time()
    drawn = list(bits)
    return [mean(drawn), len(drawn) / (time.process_time() - begin)]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values; None without any."""
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None


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
