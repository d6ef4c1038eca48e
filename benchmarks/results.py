"""Write RESULTS.md from the measured figures: `python -m benchmarks.results`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from benchmarks.common import RESULTS, table

PAGE = Path(__file__).parent / "RESULTS.md"
TRIED = Path(__file__).parent / "tried.md"


@click.command()
@click.option("-o", "--output", default=PAGE, type=click.Path(path_type=Path))
def main(output):
    """Write a section for each file in benchmarks/results/, then tried.md."""
    parts = [
        "# Measured\n\nWritten by `python -m benchmarks.results` from `benchmarks/results/`; "
        "each section names its command and its machine. Figures are medians of interleaved "
        "repeats, with the smallest and the largest in brackets.\n"
    ]
    for name, section in SECTIONS.items():
        # train.json, then with --save-as train-... those of other machines
        for path in sorted(RESULTS.glob(f"{name}*.json"), key=lambda path: path.stem):
            found = json.loads(path.read_text())
            title, text = section(found["rows"])
            parts.append(
                f"## {title}\n\n`python -m benchmarks.{name}`, {where(found['machine'])}.\n\n{text}"
            )
    if TRIED.exists():
        parts.append(TRIED.read_text())
    output.write_text("\n".join(parts))


def where(machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    units = f" with {' and '.join(machine['matrix units'])}" if machine["matrix units"] else ""
    return (
        f"{machine['date']}: {machine['cores']} cores of {machine['processor']}{units}, "
        f"{machine['memory_gb']} GB, no GPU, Python {machine['python']}, {packages}"
    )


def figure(values, form=",.0f") -> str:
    return f"{values['median']:{form}} ({values['min']:{form}} to {values['max']:{form}})"


def train(rows):
    peers = {
        "keras_charlm": "keras_charlm",
        "pytorch": "PyTorch nn.LSTM",
        "keras": "stock Keras",
        "products": "bare products",
        "evaluation": "keras_charlm, evaluation",
    }
    lines = []
    for row in rows:
        own = row["peers"]["keras_charlm"]
        for peer, label in peers.items():
            if measured := row["peers"].get(peer):
                ratio = (
                    own["characters_per_second"]["median"]
                    / measured["characters_per_second"]["median"]
                )
                lines.append(
                    [
                        row["size"],
                        row["precision"],
                        label,
                        figure(measured["characters_per_second"]),
                        f"{ratio:.2f}",
                        f"{measured['first_step']:.1f}",
                        measured["memory_mb"],
                        measured.get("data_mb", ""),
                    ]
                )
    return "Training", (
        "Characters a second of one training step on the same batch: embedding, LSTM layers with "
        "dropout 0.5, logits, Adam, clipped gradient, state carried. 'Ours to it' divides our "
        "median by the row's; 'first step' counts from the process's start, imports included. "
        "'Evaluation' is scoring held-out text; its first step reads 262,144 characters. (The "
        "evaluation figures with AMX were measured before all layers were compiled into one "
        "program.) Scoring has a third of a training step's products, so at "
        "the speed of the bare products it would reach three times their characters a second. "
        "'Memory' is the peak of the process; 'without code' is its memory at the end without the "
        "code of the libraries (ours uses XLA's compiler, stock Keras does not)."
        "\n\n"
        + table(
            [
                "size",
                "precision",
                "of",
                "characters a second",
                "ours to it",
                "first step, s",
                "memory, MB",
                "without code, MB",
            ],
            lines,
        )
    )


def speeds(name: str) -> str:
    """The table of training speed in docs/training.md."""
    lines = []
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
        ours, torch, stock = (
            row["peers"][peer]["characters_per_second"]["median"]
            for peer in ("keras_charlm", "pytorch", "keras")
        )
        lines.append(
            [
                row["size"].replace("x", " x "),
                f"{row['batch']} x {row['window']}",
                row["precision"],
                f"{ours:,.0f}",
                f"{torch:,.0f} ({ours / torch:.2f})",
                f"{stock:,.0f} ({ours / stock:.2f})",
            ]
        )
    return table(
        [
            "layers x units",
            "batch x window",
            "precision",
            "keras_charlm",
            "PyTorch (ours to it)",
            "stock Keras (ours to it)",
        ],
        lines,
    ).strip()


def qualities(name: str) -> str:
    """A table of quality in docs/training.md."""
    lines = []
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
        nats, runs = row["nats"], row["runs"]
        spread = f" ({nats['min']:.3f} to {nats['max']:.3f} over {runs} seeds)" if runs > 1 else ""
        lines.append(
            [
                f"`{row['command']}`",
                row["split"],
                f"{row['seconds']['median'] / 60:.1f} min",
                f"{row['parameters']:,}",
                f"{nats['median']:.3f}{spread}",
                f"{row['windows']['median']:.3f}" if "windows" in row else "-",
                row["peer"],
            ]
        )
    header = ["command", "held out", "time", "parameters", "nats per character"]
    return table([*header, "in windows of 256", "for comparison"], lines).strip()


def constraints() -> str:
    """The table of ten constraints: share that fits, and each way's bits and speed."""
    lines = []
    for row in json.loads((RESULTS / "constraints.json").read_text())["rows"]:
        ways = [
            "-" if bits is None else f"{bits:.2f}, {rate:,.0f}"
            for bits, rate in map(row.get, ("free", "mask", "default"))
        ]
        lines.append([f"`{row['constraint']}`", f"{row['share']:.3%}", *ways, row["way"]])
    header = ["constraint", "fits", "free", "mask", "default", "by"]
    return table(header, lines).strip()


def peers() -> str:
    """The README's table: quality and speed compared with the peers."""
    rows = {
        (name, *(row[key] for key in keys)): row
        for name, keys in {
            "quality": ("recipe",),
            "quality-avx512": ("recipe",),
            "train": ("size", "precision"),
            "generate": ("size",),
        }.items()
        for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    }
    lines = []
    for key, text, score in (
        (("quality-avx512", "shakespeare-84s"), "Shakespeare in windows of 256", "windows"),
        (("quality-avx512", "shakespeare-10m"), "Shakespeare in windows of 256", "windows"),
        (("quality", "names"), "makemore's names", "nats"),
    ):
        row = rows[key]
        minutes = row["seconds"]["median"] / 60
        what = f"{text}, {minutes:.1f} min of training: nats a character"
        lines.append([what, f"{row[score]['median']:.3f}", row["peer"]])
    for precision in ("bfloat16", "float32"):
        speed = {
            peer: f"{measured['characters_per_second']['median']:,.0f}"
            for peer, measured in rows["train", "2x512", precision]["peers"].items()
        }
        lines.append(
            [
                f"training 2 x 512 in {precision}: characters a second",
                speed["keras_charlm"],
                f"PyTorch `nn.LSTM` {speed['pytorch']}, stock Keras {speed['keras']}",
            ]
        )
    row = rows["generate", "2x128"]
    loops = {peer: f"{values['median']:,.0f}" for peer, values in row["peers"].items()}
    lines.append(
        [
            "generating with 2 x 128: characters a second",
            f"{row['stream']['median']:,.0f}",
            f"a loop in PyTorch {loops['sample_pytorch 1']}, in Keras {loops['sample_keras 1']}",
        ]
    )
    return table(["", "keras_charlm", "for comparison"], lines).strip()


def growth(found):
    lines = [
        [row["axis"], row[row["axis"]], figure(row), f"{row['model']:,.0f}"]
        for row in found["measured"]
    ]
    costs = found["coefficients"]
    gflops = 1e-9 / costs["arithmetic"] if costs["arithmetic"] else float("inf")
    traffic = (
        f"{1e-9 / costs['traffic']:,.0f} GB/s"
        if costs["traffic"]
        else "nothing that could be measured"
    )
    return "How cost grows", (
        f"Precision {found['precision']}. From 2 layers of 256 units, embedding 64, batch 32 and "
        "windows of 64, one axis at a time. The model is a sum of arithmetic (6 operations for "
        f"each weight and character, {gflops:,.0f} GFLOP/s), of reading the recurrent kernel three "
        f"times in every time step ({traffic}), and of starting each time step of a layer "
        f"({1e6 * costs['dispatch']:,.0f} microseconds). The length of the corpus does not matter: "
        "a window is read from a memory map.\n\n"
        + table(["axis", "value", "characters a second", "model"], lines)
        + "\n![Characters a second against each axis](results/growth.svg)\n"
    )


def overhead(rows):
    return "Inside fit", (
        "Milliseconds of a batch inside `kcharlm fit` (input pipeline, callbacks, progress bar, "
        "checkpoints), and of the same training step alone.\n\n"
        + table(
            ["size", "precision", "in fit", "alone", "ratio"],
            [
                [
                    row["size"],
                    row["precision"],
                    *(
                        figure({k: 1e3 * v for k, v in row[part].items()}, ".1f")
                        for part in ("inside", "alone")
                    ),
                    f"{row['ratio']:.3f}",
                ]
                for row in rows
            ],
        )
    )


def generate(rows):
    lines = []
    for row in rows:
        lines += [
            [row["size"], "kcharlm generate, one stream", figure(row["stream"])],
            [row["size"], "kcharlm generate, 64 samples", figure(row["batch"])],
        ]
        names = {"sample_pytorch": "PyTorch nn.LSTM loop", "sample_keras": "stock Keras loop"}
        for peer, values in row["peers"].items():
            peer, streams = peer.split()
            lines.append([row["size"], f"{names[peer]}, rows: {streams}", figure(values)])
    answers = "; ".join(
        f"{row['size']}: {figure(row['first_character'], '.2f')} s to a sample's "
        f"first character, {figure(row['help'], '.2f')} s for `--help`"
        for row in rows
    )
    return "Sampling", (
        "Characters a second. Ours are for whole commands, start and output included, which draw "
        "25,000 in one stream or 2,500 in each of 64; the peers' are for the loop alone. "
        f"{answers}.\n\n" + table(["size", "of", "characters a second"], lines)
    )


def corpus(rows):
    return "Preparing a corpus", (
        "From a file to ids for training. The dictionary loop, as in most character models, read a "
        "tenth of the text.\n\n"
        + table(
            ["text", "bytes", "of", "MB a second", "most memory, MB"],
            [
                [
                    row["text"],
                    f"{row['bytes']:,}",
                    peer,
                    figure(measured["megabytes_per_second"]),
                    f"{measured['memory_mb']:,.0f}",
                ]
                for row in rows
                for peer, measured in row["peers"].items()
            ],
        )
    )


def quality(rows):
    return "Quality", (
        "Nats per character on held-out text: the median of runs with different seeds.\n\n"
        + table(
            [
                *("recipe", "split", "command", "parameters", "nats"),
                *("in windows of 256", "runs", "seconds", "peer"),
            ],
            [
                [
                    row["recipe"],
                    row["split"],
                    f"`{row['command']}`",
                    f"{row['parameters']:,}",
                    figure(row["nats"], ".4f"),
                    figure(row["windows"], ".4f") if "windows" in row else "",
                    row["runs"],
                    figure(row["seconds"]),
                    row["peer"],
                ]
                for row in rows
            ],
        )
    )


def short_texts() -> str:
    """The table of short texts in docs/training.md."""
    path = RESULTS / "small.json"
    return _short(json.loads(path.read_text())["rows"]).strip()


def _short(rows) -> str:
    def mean(runs, way: str, what: str, form: str) -> str:
        # "-" where that way was not run
        if any(way not in run for run in runs):
            return "-"
        return f"{sum(run[way][what] for run in runs) / len(runs):{form}}"

    lines = []
    for row in rows:
        runs = row["runs"]
        margin = max(run["default"]["margin"] or math.inf for run in runs)
        lines.append(
            [
                row["text"],
                f"{row['size']:,}",
                f"{sum(run['counting'] for run in runs) / len(runs):.3f}",
                f"{mean(runs, 'default', 'bits', '.3f')} +- {margin:.3f}",
                mean(runs, "another seed", "bits", ".3f"),
                runs[0]["default"]["base"] or "nothing",
                mean(runs, "from scratch", "bits", ".3f"),
                mean(runs, "default", "seconds", ".0f"),
                mean(runs, "from scratch", "seconds", ".0f"),
                len(runs),
            ]
        )
    header = ["text", "characters", "n-grams", "default", "another seed", "begun from"]
    header += ["from scratch", "seconds", "seconds from scratch", "pieces"]
    return table(header, lines)


def small(rows):
    return "Short texts", (
        "Bits per character of the text after the piece that was trained on; the margin (95%) is "
        "that of the difference between the network by default and the n-grams.\n\n" + _short(rows)
    )


def _held_out(rows, what: str) -> str:
    lines = [[row["title"], f"{row['characters']:,}", f"{row['bits']:.3f}"] for row in rows]
    return f"Bits per character of the {what} held out.\n\n" + table(
        ["text", "characters", "bits"], lines
    )


def english(rows):
    return "The English model", _held_out(rows, "books")


def code(rows):
    return "The model of source code", _held_out(rows, "files")


def surnames(rows):
    ways = {
        "network": "one network with labels",
        "counting": "n-grams by label",
        "classifier": "a classifier of that shape",
    }
    lines = []
    for name, found in rows["ways"].items():
        bits = [found.get(key) for key in ("bits", "bits_without_label")]
        lines.append(
            [
                ways[name],
                f"{found['accuracy']:.1%}",
                f"{found['balanced_accuracy']:.1%}",
                *("" if value is None else f"{value:.3f}" for value in bits),
                f"order {found['order']}" if "order" in found else f"{found['parameters']:,}",
            ]
        )
    header = "way, accuracy, balanced accuracy, bits, bits without label, parameters"
    return "Languages of surnames", (
        f"{len(rows['labels'])} lists of names, {rows['train']:,} names to train on and "
        f"{rows['test']:,} held out, a tenth of each list and what the other lists have of it. "
        "Accuracy by the labels' shares; balanced accuracy, the mean of the labels' accuracies, by "
        "equal ones. Bits per character under the name's own label, and without one.\n\n"
        + table(header.split(", "), lines)
    )


SECTIONS = {
    "train": train,
    "overhead": overhead,
    "growth": growth,
    "generate": generate,
    "corpus": corpus,
    "quality": quality,
    "small": small,
    "surnames": surnames,
    "english": english,
    "code": code,
}


if __name__ == "__main__":
    main()
