"""Training speed, compared with PyTorch, stock Keras and matrix products alone.

`python -m benchmarks.train` writes results/train.json.
"""

from __future__ import annotations

from contextlib import ExitStack

import click

from benchmarks.common import Worker, interleave, save, saved, spread, version
from benchmarks.peers import SCORED

SIZES = {  # layers, units, embedding, batch, window
    "2x128": (2, 128, 32, 50, 50),
    "2x256": (2, 256, 64, 32, 64),
    "2x512": (2, 512, 128, 100, 100),
    "3x512": (3, 512, 128, 100, 100),
}
NAMES = ("layers", "units", "embedding", "batch", "window")


@click.command()
@click.option("--size", "sizes", multiple=True, type=click.Choice(SIZES), default=SIZES)
@click.option("--precision", "precisions", multiple=True, default=("bfloat16", "float32"))
@click.option("--rounds", default=12, help="Interleaved repeats.")
@click.option("--seconds", default=1.5, help="About how long a peer runs in one round.")
@click.option("--save-as", default="train", help="Name of the JSON file in benchmarks/results/.")
def main(sizes, precisions, rounds, seconds, save_as):
    """Characters a second of a training step, all peers in turn, medians of single steps.

    Sizes and precisions that are not run keep their figures.
    """
    peers = ["keras_charlm", "evaluation", "keras", "products"]
    peers += ["pytorch"] * bool(version("torch"))
    rows = {(row["size"], row["precision"]): row for row in saved(save_as)}
    for size in sizes:
        settings = dict(zip(NAMES, SIZES[size], strict=True))
        for precision in precisions:
            measured = compare(peers, rounds, seconds, **settings, precision=precision)
            rows[size, precision] = {
                "size": size,
                "precision": precision,
                **settings,
                "peers": measured,
            }
            speeds = {
                peer: f"{m['characters_per_second']['median']:,.0f}" for peer, m in measured.items()
            }
            click.echo(f"{size} {precision}: {speeds}", err=True)
    save(save_as, list(rows.values()))


def compare(peers, rounds, seconds, **settings):
    """Speed, first step and memory of each peer at one size."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(peer, **settings)) for peer in peers]
        for worker in workers:
            worker.run(3)  # warm-up, and the time of a step
            worker.steps = max(1, round(seconds / min(worker.seconds)))
            worker.seconds.clear()
        interleave(rounds, [lambda w=w: w.run(w.steps) for w in workers])
        trained = settings["batch"] * settings["window"]
        return {
            w.name: {
                "characters_per_second": spread(
                    [(SCORED if w.name == "evaluation" else trained) / s for s in w.seconds]
                ),
                "first_step": w.ready["first_step"],
                "memory_mb": w.last["memory_mb"],
                "data_mb": w.last["data_mb"],
            }
            for w in workers
        }


if __name__ == "__main__":
    main()
