"""Predicts an epoch's time on several GPUs; prints the table of scale.md.

    seconds of a batch = characters of a device's share * 6 P / speed     computing
                       + 2 (N - 1) / N * 4 P / bandwidth                  summing the gradients
                       + latency                                          agreeing

with P parameters, N devices, and 6 floating-point operations for each parameter and character (2
forward, 4 backward). The validation text is read forward only, in at most 64 rows side by side.
"""

import argparse

# name, characters of the training and of the validation part, layers, units, symbols
TEXTS = (
    ("Wikipedia, 100 MB, 3 x 512", 96e6, 4e6, 3, 512, 205),
    ("Linux sources, 474 MB, 3 x 700", 427e6, 24e6, 3, 700, 100),
)
EMBEDDING, WINDOW, ROWS = 128, 64, 128  # ROWS: of the batch, on each device


def parameters(layers, units, symbols):
    """Parameters of an LSTM network of `model.build`."""
    inputs = [EMBEDDING] + [units] * (layers - 1)
    return (
        symbols * EMBEDDING
        + sum(4 * units * (n + units + 1) for n in inputs)
        + (units + 1) * symbols
    )


def epoch(text, devices, asked):
    """(batches of an epoch, its seconds)."""
    _, train, validation, *shape = text
    count, speed = parameters(*shape), asked.teraflops * 1e12
    batches = train / (devices * ROWS * WINDOW)
    batch = ROWS * WINDOW * 6 * count / speed
    if devices > 1:
        batch += 2 * (devices - 1) / devices * 4 * count / (asked.gigabytes * 1e9)
        batch += asked.milliseconds / 1e3
    return batches, batches * batch + validation * 2 * count / speed / min(devices, 64)


def written(seconds):
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def table(asked):
    rows = [
        "| text and network | parameters | summed in a batch | 1 GPU | 8 GPUs | 64 GPUs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for text in TEXTS:
        count = parameters(*text[3:])
        cells = (
            f"{written(seconds)}, {batches:,.0f} batches"
            for batches, seconds in (epoch(text, n, asked) for n in (1, 8, 64))
        )
        rows.append(f"| {text[0]} | {count:,} | {4 * count / 1e6:.0f} MB | {' | '.join(cells)} |")
    return "\n".join(rows)


def options(args=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--teraflops",
        type=float,
        default=5.0,
        help="what a device makes of this network, 10^12 operations a second",
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
        help="for the exchanges of a batch to begin and end",
    )
    return parser.parse_args(args)


if __name__ == "__main__":
    print(table(options()))
