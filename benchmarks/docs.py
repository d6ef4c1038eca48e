"""Write the generated tables of README.md and docs/: `python -m benchmarks.docs`.

A table stands between `<!-- NAME -->` and `<!-- end -->`. Options come from the command line's own
definitions, sizes from the configuration, measured figures from benchmarks/results/, the tensors
from the on-device file of the shipped model. `tests/test_docs.py` checks that the pages are
up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import results, scale_model, typed
from benchmarks.common import table
from keras_charlm.defaults import AUTO_SIZE, SIZES

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "saved_models" / "names" / "model.tflite"
QUANTIZE = ("none", "float16", "int8")
VERBS = (
    "fit",
    "generate",
    "evaluate",
    "score",
    "inspect",
    "compress",
    "decompress",
    "export",
    "serve",
    "report",
    "info",
)
# The tensors of the signature `generate`; outputs begin with an arrow.
TENSORS = {
    "text": "code points to read, padded with 0",
    "text_length": "how many of them",
    "seed": "same seed, same text",
    "position": "index of the first character to generate; 0 for a new text",
    "length": "characters to generate, at most {length}; 0 only reads",
    "stop": "code point that ends the text; -1 for none",
    "temperature": "below 1 safer, above 1 wilder; 0 the likeliest character",
    "top_k": "sample among the k likeliest; 0 for all",
    "top_p": "sample among the likeliest that hold this share; 1 for all",
    "min_p": "sample among those at least so likely as this share of the likeliest; 0 for all",
    "state": "zeros before a text, then what the last call returned",
    "-> text": "code points generated, without the stop character; then -1",
    "-> lengths": "how many",
    "-> done": "1 where the stop character came",
    "-> bits": "sum of -log2 p over what was generated",
    "-> state": "for the next call",
}


def options(verb: str) -> list[click.Option]:
    """The options of a verb, as its help lists them."""
    from kcharlm.main import kcharlm
    from kcharlm.options import GroupedCommand

    command = kcharlm.get_command(None, verb)
    if isinstance(command, GroupedCommand):
        return [option for group in command.groups().values() for option in group]
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def option_names(verb: str) -> set[str]:
    """Every spelling of every option of a verb."""
    return {name for o in options(verb) for name in (*o.opts, *o.secondary_opts)}


def option_table(verb: str) -> str:
    """A verb's options with their help texts and defaults."""
    rows = []
    for option in options(verb):
        text, _, default = (option.help or "").partition("  [default: ")
        name = ", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts))
        if isinstance(option.type, click.Choice):
            name += " " + " ".join(f"`{choice}`" for choice in option.type.choices)
        text = re.sub(r"((?:\\[rn])+)", r"`\1`", text)
        rows.append([name, text, default.rstrip("]")])
    return table(["option", "what it does", "default"], rows).strip()


def size_table() -> str:
    """What `--size` stands for, and for which texts it is chosen."""
    rows, before = [], 0
    for most, name in AUTO_SIZE:
        size = SIZES[name]
        dropout = ", ".join(
            f"{rate:g}" + (f" (up to {top:,})" if top < float("inf") else "")
            for top, rate in size.dropout
        )
        rows.append(
            [
                name,
                f"{before:,} to {most:,} characters" if most < float("inf") else f"over {before:,}",
                f"{size.layers} x {size.units}",
                size.embedding,
                "yes" if size.tied else "no",
                dropout,
                f"{size.learning_rate:g}",
            ]
        )
        before = most
    header = ["`--size`", "chosen for texts of", "layers x units", "embedding", "tied"]
    header += ["dropout (by characters of the training part)", "learning rate"]
    return table(header, rows).strip()


def tensors(file: Path) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
    """Name, type and shape of each tensor of `generate` in an on-device file: inputs, outputs."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner("generate")
    return [
        {name: (d["dtype"].__name__, tuple(map(int, d["shape"]))) for name, d in side.items()}
        for side in (runner.get_input_details(), runner.get_output_details())
    ]


def tensor_table(file: Path) -> str:
    """The tensors of `generate`, the size of the state written S."""
    inputs, outputs = tensors(file)
    (_, state), (_, text) = inputs["state"], outputs["text"]
    both = {**inputs, **{f"-> {name}": value for name, value in outputs.items()}}
    assert both.keys() == TENSORS.keys(), "the file has other tensors than the page describes"
    rows = []
    for key, what in TENSORS.items():
        dtype, shape = both[key]
        sizes = ", ".join("S" if shape == state and n == shape[-1] else str(n) for n in shape)
        arrow, name = ("-> ", key[3:]) if key.startswith("->") else ("", key)
        rows.append(
            [
                f"{arrow}`{name}`",
                dtype,
                f"({sizes}{',' * (len(shape) == 1)})",
                what.format(length=text[-1]),
            ]
        )
    return table(["tensor", "type", "shape", "what"], rows).strip()


def runtime_table() -> str:
    """In which runtimes the files of `tests/runtimes.py` compute the right results."""
    rows = []
    for row in json.loads((results.RESULTS / "runtimes.json").read_text())["rows"]:
        files, usual, old = row["files"], row["faults"]["2.13"], row["faults"]["2.12"]
        right = [f"{files - len(usual[q])} of {files}" for q in QUANTIZE]
        most = files * len(QUANTIZE)
        all_three = f"{most - sum(len(old[q]) for q in QUANTIZE)} of {most}"
        rows.append([row["runtime"], *right, all_three])
    header = [
        "runtime",
        *(f"`--quantize {q}`" for q in QUANTIZE),
        "`--min-runtime 2.12`, all three",
    ]
    return table(header, rows).strip()


def library_table() -> str:
    """In which libraries the files of `tests/libraries.py` compute the right results."""
    rows = [
        [
            row["runtime"],
            f"`{row['kind']}`",
            f"{row['files'] - len(row['faults'])} of {row['files']}",
        ]
        for row in json.loads((results.RESULTS / "libraries.json").read_text())["rows"]
    ]
    return table(["library", "`--to`", "right"], rows).strip()


# Page, name of the section, and what makes its content.
SECTIONS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "peers"): results.peers,
    ("docs/training.md", "sizes"): size_table,
    ("docs/training.md", "quality-avx512"): lambda: results.qualities("quality-avx512"),
    ("docs/training.md", "quality"): lambda: results.qualities("quality"),
    ("docs/training.md", "short"): results.short_texts,
    ("docs/training.md", "speed"): lambda: results.speeds("train"),
    ("docs/training.md", "speed-avx512"): lambda: results.speeds("train-avx512"),
    ("docs/generating.md", "constraints"): results.constraints,
    ("docs/mobile.md", "runtimes"): runtime_table,
    ("docs/exporting.md", "libraries"): library_table,
    ("docs/mobile.md", "tensors"): lambda: tensor_table(SHIPPED),
    ("docs/scale.md", "model"): lambda: scale_model.table(scale_model.options([])),
    **{("docs/cli.md", verb): lambda verb=verb: option_table(verb) for verb in VERBS},
}


def section(page: str, name: str) -> re.Match[str]:
    """The marks of a page's section and what is between them: groups 1, 2 and 3."""
    text = (ROOT / page).read_text(encoding="utf-8")
    match = re.search(rf"(<!-- {name} -->\n)(.*?)(\n?<!-- end -->)", text, re.S)
    if match is None:
        raise ValueError(f"{page} has no section <!-- {name} --> ... <!-- end -->.")
    return match


def main() -> None:
    """Replace the content of every generated section, and the types of the settings."""
    typed.main()
    for (page, name), content in SECTIONS.items():
        path, match, new = ROOT / page, section(page, name), content()
        if match[2] != new:
            text = match.string[: match.start()] + f"{match[1]}{new}\n<!-- end -->"
            path.write_text(text + match.string[match.end() :], encoding="utf-8")
            print(f"{page}: {name}")


if __name__ == "__main__":
    main()
