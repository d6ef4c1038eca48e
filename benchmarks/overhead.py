"""Time that fit adds to the bare training step: `python -m benchmarks.overhead`."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from statistics import median

import click

from benchmarks.common import Worker, interleave, kcharlm, made_text, save, spread
from benchmarks.train import NAMES, SIZES

CHARACTERS = 4_000_000  # of the text that fit reads


@click.command()
@click.option("--size", "sizes", multiple=True, type=click.Choice(SIZES), default=SIZES)
@click.option("--rounds", default=5, help="Interleaved repeats.")
@click.option("--seconds", default=15, help="How long each fit trains.")
@click.option("--precision", default="float32", help="Precision of both.")
@click.option("--save-as", default="overhead", help="Name of the JSON file in benchmarks/results/.")
def main(sizes, rounds, seconds, precision, save_as):
    """Time of a batch inside `kcharlm fit`, and of the same step alone."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(made_text(CHARACTERS))
        for size in sizes:
            settings = {**dict(zip(NAMES, SIZES[size], strict=True)), "precision": precision}
            inside: list[float] = []
            with Worker("keras_charlm", **settings) as worker:
                worker.run(10)
                worker.seconds.clear()
                interleave(
                    rounds,
                    [
                        lambda s=settings, i=inside: i.append(fit(text, Path(folder), s, seconds)),
                        lambda w=worker: w.run(
                            max(1, round(seconds / 3 / min(w.seconds or [0.1])))
                        ),
                    ],
                )
            rows.append(
                {
                    "size": size,
                    "precision": precision,
                    "inside": spread(inside),
                    "alone": spread(worker.seconds),
                    "ratio": median(inside) / median(worker.seconds),
                }
            )
            click.echo(rows[-1], err=True)
    save(save_as, rows)


def fit(text: Path, folder: Path, settings: dict[str, int], seconds: int) -> float:
    """Seconds of a batch, from the last lines of history.csv."""
    model = folder / "model"
    options = {
        "layers": settings["layers"],
        "units": settings["units"],
        "embedding": settings["embedding"],
        "batch-size": settings["batch"],
        "seq-length": settings["window"],
        "precision": settings["precision"],
        "dropout": 0.5,
        "max-time": f"{seconds}s",
        "test-frac": 0,
        "val-frac": 0.01,
    }
    kcharlm(
        "fit",
        text,
        "-o",
        model,
        "--overwrite",
        "-q",
        *(f"--{name}={value}" for name, value in options.items()),
    )
    with (model / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return settings["batch"] * settings["window"] / float(rows[-1]["characters_per_second"])


if __name__ == "__main__":
    main()
