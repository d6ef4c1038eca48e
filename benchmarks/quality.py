"""Quality of the recipes: `python -m benchmarks.quality --text names=PATH`, and so on.

The texts, tinyshakespeare and names, are char-rnn's tinyshakespeare/input.txt and makemore's
names.txt, each in its author's repository. Every run is one `kcharlm fit`; the peers' figures are
those that their authors publish.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.common import kcharlm, save, saved, spread


@dataclass(frozen=True)
class Recipe:
    """A command, the split it is scored on, and the peer it is compared with."""

    text: str
    split: str
    options: str
    goal: float | None  # nats per character
    peer: str = ""


LAST_TENTH = "the last 10% (nanoGPT's split)"
NANOGPT = "nanoGPT's README: 1.4697, 10.7 million parameters, an A100"
MAKEMORE = "makemore's README: 1.92, a transformer of 200,000 parameters"
CONTEXT = 256  # characters of nanoGPT's windows
MAKEMORES_SEED = 3407  # makemore's default; it shuffles the lines with it first of all
_SHAKESPEARE = "--val-frac 0.1 --test-frac 0 --from-scratch"
_PLAIN = f"{_SHAKESPEARE} --synthetic 0"
_NAMES = (
    "--lines --val-frac 0.005 --test-frac 0 --units 112 --embedding 64 --batch-size 32 "
    "--seq-length 64 --dropout 0.2 --synthetic 0"
)
RECIPES = {
    "shakespeare-84s": Recipe(
        "tinyshakespeare",
        LAST_TENTH,
        f"{_SHAKESPEARE} --max-time 84s",
        1.55,
        "nanoGPT's recipe for a CPU took 84 s on such a machine: 1.886, in windows of 64",
    ),
    "shakespeare-3m": Recipe("tinyshakespeare", LAST_TENTH, f"{_SHAKESPEARE} --max-time 3m", 1.50),
    "shakespeare-10m": Recipe(
        "tinyshakespeare", LAST_TENTH, f"{_SHAKESPEARE} --max-time 10m", 1.42, NANOGPT
    ),
    "shakespeare-hour": Recipe(
        "tinyshakespeare",
        LAST_TENTH,
        f"{_PLAIN} --epochs 18 --size large --noise 0.1",
        1.43,
        NANOGPT,
    ),
    **{
        f"shakespeare-{precision}": Recipe(
            "tinyshakespeare",
            LAST_TENTH,
            f"{_PLAIN} --epochs 3 --precision {precision}",
            None,
            f"the same in {other}",
        )
        for precision, other in itertools.permutations(("float32", "bfloat16"))
    },
    "names": Recipe(
        "names",
        "makemore's 1,000 lines, duplicates included",
        f"{_NAMES} --epochs 25 --duplicates",
        1.90,
        MAKEMORE,
    ),
    "names-distinct": Recipe(
        "names", "1,000 of the distinct lines, by makemore's seed", f"{_NAMES} --epochs 25", 1.955
    ),
}


@click.command()
@click.option("--text", "texts", multiple=True, required=True, help="NAME=PATH of a text.")
@click.option("--recipe", "recipes", multiple=True, type=click.Choice(RECIPES), default=RECIPES)
@click.option("--seeds", default=3, help="Runs of each recipe.")
@click.option("--options", default="", help="More options of `kcharlm fit`, for a comparison.")
@click.option("--save-as", default="quality", help="Name of the JSON file in benchmarks/results/.")
def main(texts, recipes, seeds, options, save_as):
    """Nats per character on held-out text, the spread over seeds, and the time.

    Each recipe is saved when it is done; recipes that are not run keep their figures.
    """
    paths = dict(text.split("=", 1) for text in texts)
    rows = {row["recipe"]: row for row in saved(save_as)}
    for name in recipes:
        recipe = RECIPES[name]
        if recipe.text not in paths:
            continue
        runs = [run(name, recipe, Path(paths[recipe.text]), seed, options) for seed in range(seeds)]
        rows[name] = {
            "recipe": name,
            "split": recipe.split,
            "goal": recipe.goal,
            "peer": recipe.peer,
            "command": f"kcharlm fit {recipe.text}.txt {recipe.options} {options}".strip(),
            "parameters": runs[0]["parameters"],
            "nats": spread([r["nats"] for r in runs]),
            "windows": spread([r["windows"] for r in runs]),
            "runs": len(runs),
            "seconds": spread([r["seconds"] for r in runs]),
        }
        click.echo(rows[name], err=True)
        save(save_as, [rows[name] for name in RECIPES if name in rows])


def run(name: str, recipe: Recipe, path: Path, seed: int, options: str) -> dict[str, float]:
    """Train once with a seed and score the held-out text."""
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = path, None
        if recipe.text == "names":
            train, held_out = hold_out(path, Path(folder), distinct="distinct" in name)
        model = Path(folder) / "model"
        began = time.perf_counter()
        kcharlm(
            "fit",
            train,
            "-q",
            "-o",
            model,
            "--seed",
            seed,
            *recipe.options.split(),
            *options.split(),
        )
        took = time.perf_counter() - began
        info = json.loads(kcharlm("info", model, "--json"))
        scores = info["scores"]["validation"]
        # Transformers are scored in windows of their context, which begin from nothing.
        given = [held_out] if held_out else []
        found = json.loads(kcharlm("evaluate", model, *given, "--window", CONTEXT, "--json"))
        if held_out:
            scores = found
    return {
        "nats": scores["bits_per_character"] * math.log(2),
        "windows": found["windows"]["nats_per_character"],
        "seconds": took,
        "parameters": info["parameters"],
    }


def hold_out(path: Path, folder: Path, distinct: bool) -> tuple[Path, Path]:
    """The 1,000 lines that makemore's seed selects, of all or the distinct ones, and the rest."""
    lines = path.read_text(encoding="utf-8").split()
    if distinct:
        lines = list(dict.fromkeys(lines))
    lines = [lines[i] for i in shuffled(len(lines), MAKEMORES_SEED)]
    files = folder / "train.txt", folder / "held_out.txt"
    for file, part in zip(files, (lines[:-1000], lines[-1000:]), strict=True):
        file.write_text("\n".join(part) + "\n", encoding="utf-8")
    return files


def shuffled(size: int, seed: int) -> list[int]:
    """The numbers below `size` in the order of `torch.randperm` after `torch.manual_seed`."""
    draws = np.random.RandomState(seed).randint(0, 2**32, size, np.uint32).tolist()
    order = list(range(size))
    for i in range(size - 1):
        j = i + draws[i] % (size - i)
        order[i], order[j] = order[j], order[i]
    return order


if __name__ == "__main__":
    main()
