"""Predict an epoch's time on several GPUs: `python -m benchmarks.scale_model` prints a table.

docs/scale.md shows it.

    seconds of a batch = characters of a device's share * 6 P / speed     computing
                       + 2 (N - 1) / N * 4 P / bandwidth                  summing the gradients
                       + latency                                          exchanging messages

with P parameters, N devices, and 6 floating-point operations for each parameter and character (2
forward, 4 backward). The validation text is read forward only, in at most 128 parallel rows.
"""

import argparse

# name, characters of the training and of the validation part, layers, units, symbols
TEXTS = (
    ("Wikipedia, 100 MB, 3 x 512", 96e6, 4e6, 3, 512, 205),
    ("Linux sources, 474 MB, 3 x 700", 427e6, 24e6, 3, 700, 100),
)
EMBEDDING, WINDOW = 128, 64
ROWS = 128  # of the batch, on each device
SCORED_ROWS = 128  # parallel rows of the validation text, over all devices


def parameters(layers: int, units: int, symbols: int) -> int:
    """Parameters of an LSTM network of `keras_charlm.network.model.build`."""
    inputs = [EMBEDDING] + [units] * (layers - 1)
    return (
        symbols * EMBEDDING
        + sum(4 * units * (n + units + 1) for n in inputs)
        + (units + 1) * symbols
    )


def epoch(text: tuple, devices: int, machine: argparse.Namespace) -> tuple[float, float]:
    """Batches of an epoch, and its seconds."""
    _, train, validation, *shape = text
    count, speed = parameters(*shape), machine.teraflops * 1e12
    batches = train / (devices * ROWS * WINDOW)
    batch = ROWS * WINDOW * 6 * count / speed
    if devices > 1:
        batch += 2 * (devices - 1) / devices * 4 * count / (machine.gigabytes * 1e9)
        batch += machine.milliseconds / 1e3
    scoring = validation * 2 * count / speed / min(devices, SCORED_ROWS)
    return batches, batches * batch + scoring


def duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def table(machine: argparse.Namespace) -> str:
    """The Markdown table of docs/scale.md."""
    rows = [
        "| text and network | parameters | summed in a batch | 1 GPU | 8 GPUs | 64 GPUs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for text in TEXTS:
        count = parameters(*text[3:])
        cells = (
            f"{duration(seconds)}, {batches:,.0f} batches"
            for batches, seconds in (epoch(text, n, machine) for n in (1, 8, 64))
        )
        rows.append(f"| {text[0]} | {count:,} | {4 * count / 1e6:.0f} MB | {' | '.join(cells)} |")
    return "\n".join(rows)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The assumed machine; by default from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teraflops",
        type=float,
        default=5.0,
        help="speed that a device reaches with this network, 10^12 operations a second",
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=1.25,
        help="10^9 bytes a second between workers: 1.25 is a network of 10 Gbit/s",
    )
    parser.add_argument(
        "--milliseconds",
        type=float,
        default=2.0,
        help="latency of the exchanges of a batch",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(table(options()))
