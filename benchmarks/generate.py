"""Sampling speed, compared with loops in PyTorch and Keras: `python -m benchmarks.generate`."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.common import Worker, interleave, kcharlm, made_text, save, spread, version

SIZES = {"2x128": (128, 32), "2x512": (512, 128)}  # units, embedding
ROWS = 64  # of a batch


@click.command()
@click.option("--size", "sizes", multiple=True, type=click.Choice(SIZES), default=SIZES)
@click.option("--rounds", default=7, help="Interleaved repeats.")
@click.option("--length", default=25_000, help="Characters that a command generates in one stream.")
@click.option("--steps", default=200, help="Characters that a peer's loop generates in one round.")
@click.option("--save-as", default="generate", help="Name of the JSON file in benchmarks/results/.")
def main(sizes, rounds, length, steps, save_as):
    """Characters a second of whole commands, and seconds until a command answers."""
    peers = ["sample_pytorch"] * bool(version("torch")) + ["sample_keras"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            units, embedding = SIZES[size]
            model = train(Path(folder) / size, units, embedding)
            rows.append(
                {"size": size, **measure(model, units, embedding, peers, rounds, length, steps)}
            )
            click.echo(rows[-1], err=True)
    save(save_as, rows)


def train(path: Path, units: int, embedding: int) -> Path:
    """Train a model; its quality does not matter here."""
    text = path.with_suffix(".txt")
    text.write_text(made_text(50_000))
    kcharlm(
        "fit", text, "-q", "-o", path, "--units", units, "--embedding", embedding, "--epochs", 1
    )
    return path


def measure(model, units, embedding, peers, rounds, length, steps):
    drawn = {"stream": [], "batch": []}
    answer, helped = [], []

    def stream():
        drawn["stream"].append(draw(model, "--length", length))

    def batch():
        drawn["batch"].append(draw(model, "--length", length // 10, "--num", ROWS))

    def first():
        answer.append(seconds("generate", model, "--length", 1, "--seed", 1))
        helped.append(seconds("--help"))

    with ExitStack() as stack:
        workers = {
            (peer, rows): stack.enter_context(
                Worker(peer, units=units, embedding=embedding, batch=rows)
            )
            for peer in peers
            for rows in (1, ROWS)
        }
        interleave(
            rounds, [stream, batch, first, *(lambda w=w: w.run(steps) for w in workers.values())]
        )
        return {
            "stream": spread(drawn["stream"]),
            "batch": spread(drawn["batch"]),
            "first_character": spread(answer),
            "help": spread(helped),
            "peers": {
                f"{peer} {rows}": spread([rows / s for s in w.seconds])
                for (peer, rows), w in workers.items()
            },
        }


def draw(model: Path, *options) -> float:
    """Characters a second of a whole command, start included."""
    began = time.perf_counter()
    text = kcharlm("generate", model, "--seed", 1, *options)
    return len(text) / (time.perf_counter() - began)


def seconds(*arguments) -> float:
    began = time.perf_counter()
    kcharlm(*arguments)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
