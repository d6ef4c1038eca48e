"""How cost grows with the network, the batch and the window: `python -m benchmarks.growth`.

The model of the cost, per time step of one layer, is a sum of three parts:

    arithmetic   the products' operations, 6 for each weight and character
    traffic      the bytes of the recurrent kernel, read three times in every time step
    dispatch     a constant: starting the operations, whatever their size

The three coefficients are fitted by least squares of the relative error.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.common import Worker, save, spread

BASE = {"layers": 2, "units": 256, "embedding": 64, "batch": 32, "window": 64}
AXES = {
    "units": (128, 256, 512, 1024, 2048),
    "layers": (1, 2, 3, 4),
    "batch": (16, 32, 64, 128, 256),
    "window": (16, 32, 64, 128, 256),
}
PARTS = ("arithmetic", "traffic", "dispatch")
PICTURE = Path(__file__).parent / "results" / "growth.svg"


@click.command()
@click.option("--axis", "axes", multiple=True, type=click.Choice(AXES), default=AXES)
@click.option("--steps", default=8, help="Measured steps of each size.")
@click.option("--precision", default="bfloat16")
@click.option("--save-as", default="growth", help="Name of the JSON file in benchmarks/results/.")
@click.option("--picture", default=PICTURE, type=click.Path(path_type=Path))
def main(axes, steps, precision, save_as, picture):
    """Characters a second of `kcharlm fit`'s training step along four axes."""
    rows = []
    for axis in axes:
        for value in AXES[axis]:
            settings = {**BASE, axis: value}
            with Worker("keras_charlm", **settings, precision=precision) as worker:
                worker.run(2)
                worker.seconds.clear()
                worker.run(steps)
            characters = settings["batch"] * settings["window"]
            rows.append(
                {"axis": axis, **settings, **spread([characters / s for s in worker.seconds])}
            )
            click.echo(rows[-1], err=True)
    coefficients = fit(rows)
    for row in rows:
        row["model"] = characters_per_second(row, coefficients)
    save(
        save_as,
        {
            "measured": rows,
            "coefficients": dict(zip(PARTS, coefficients, strict=True)),
            "precision": precision,
        },
    )
    draw(rows, axes, picture)


def costs(row) -> np.ndarray:
    """Operations, bytes and starts of one training step."""
    units, layers, steps = row["units"], row["layers"], row["window"]
    characters = row["batch"] * steps
    weights = sum(
        4 * units * ((row["embedding"] if i == 0 else units) + units) for i in range(layers)
    )
    return np.array(
        [6 * weights * characters, 3 * layers * steps * 4 * units * units * 2, layers * steps],
        float,
    )


def fit(rows) -> np.ndarray:
    """Seconds for each operation, byte and start; a cost that would be negative is left out."""
    seconds = np.array([r["batch"] * r["window"] / r["median"] for r in rows])
    shares = np.array([costs(r) for r in rows]) / seconds[:, None]
    coefficients = np.zeros(len(PARTS))
    used = np.arange(len(PARTS))
    while len(used):
        scale = shares[:, used].max(axis=0)
        found = np.linalg.lstsq(shares[:, used] / scale, np.ones(len(rows)), rcond=None)[0] / scale
        if (found >= 0).all():
            coefficients[used] = found
            break
        used = used[found >= 0]
    return coefficients


def characters_per_second(row, coefficients) -> float:
    return row["batch"] * row["window"] / float(costs(row) @ coefficients)


def draw(rows, axes, path: Path) -> None:
    """Measured points and the model's curve, a panel for each axis."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(axes), figsize=(3 * len(axes), 3), sharey=True, squeeze=False
    )
    for panel, axis in zip(panels[0], axes, strict=True):
        own = [r for r in rows if r["axis"] == axis]
        panel.loglog([r[axis] for r in own], [r["median"] for r in own], "o", label="measured")
        panel.loglog([r[axis] for r in own], [r["model"] for r in own], "-", label="model")
        panel.set_xlabel(axis)
        panel.set_xticks([r[axis] for r in own], [r[axis] for r in own])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("characters a second")
    panels[0][0].legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
