"""Which libraries run the Keras, ONNX and SavedModel exports: `python -m tests.libraries`.

Exports small models of every kind and the shipped names model, runs them in each library, in an
environment of its own without this package, and compares the results with the network's. Under each
backend of Keras it also runs the listing of docs/exporting.md that goes on training. The table
there comes from the result, benchmarks/results/libraries.json. Needs a network, and Python 3.11.

`tests/test_libraries.py` runs some of the files in the libraries that are installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import RESULTS
from keras_charlm.config import ModelConfig
from keras_charlm.export import onnx, plain
from keras_charlm.export.graph import save
from keras_charlm.export.serving import Server
from keras_charlm.network import model
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.labels import Label
from keras_charlm.text.vocabulary import Vocabulary
from tests.runtimes import SHIPPED, Runtime, environment, random_network, write_rows

CALL = Path(__file__).with_name("library_call.py")
PAGE = Path(__file__).parent.parent / "docs" / "exporting.md"
KERAS = metadata.version("keras")
LIBRARIES = (
    *(
        Runtime(f"Keras {KERAS}, {name}", "keras", backend, (f"keras=={KERAS}", package))
        for name, backend, package in (
            ("TensorFlow", "tensorflow", "tensorflow-cpu==2.21.0"),
            ("JAX", "jax", "jax"),
            ("PyTorch", "torch", "torch"),
        )
    ),
    *(
        Runtime(f"ONNX Runtime {version}", "onnx", version, (f"onnxruntime=={version}", numpy))
        for version, numpy in (
            ("1.15.1", "numpy<2"),
            ("1.20.1", "numpy"),
            ("1.32.0", "numpy"),
        )
    ),
    *(
        Runtime(f"TensorFlow {version}", "savedmodel", version, (f"tensorflow-cpu=={version}",))
        for version in ("2.12.1", "2.13.1", "2.15.1", "2.17.1", "2.19.1", "2.21.0")
    ),
)
# cell, layers, embedding, tied
KINDS = (
    ("lstm", 2, 12, True),
    ("lstm", 1, 0, False),
    ("gru", 2, 12, False),
    ("gru", 1, 0, False),
    ("rnn", 3, 12, True),
)
VOCABULARY = Vocabulary("char", (10, 32, *range(97, 123)))  # ASCII needs no normalization
LOGITS = 1e-5  # largest difference accepted, times the largest logit if above 1
TEXT = "anna and the other names of a list\nbertha\n"


@dataclass(frozen=True)
class Example:
    """A file, what is asked of it, and the outputs that are right."""

    path: Path
    inputs: Any
    expected: list[np.ndarray]


def write_keras(path: Path, network: Any, config: ModelConfig, vocabulary: Vocabulary) -> Example:
    """Write a network as a `.keras` file."""
    ids = vocabulary.encode(f"\n{TEXT}")[None]  # (1, N)
    plain.build(network, config, vocabulary.size, vocabulary.labels).save(path)
    return Example(path, ids.tolist(), [_logits(network, ids)])


def write_onnx(path: Path, network: Any, config: ModelConfig, vocabulary: Vocabulary) -> Example:
    """Write a network as an `.onnx` file."""
    codes = vocabulary.to_codes(f"\n{TEXT}")[None]  # (1, N)
    ids = vocabulary.lookup(codes)
    weights = {key: weight.numpy() for key, weight in model.named_weights(network).items()}
    path.write_bytes(onnx.build(weights, config, vocabulary).SerializeToString())
    logits = _logits(network, ids)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum(1, keepdims=True))  # (N, V)
    bits = -log_p[np.arange(len(log_p) - 1), ids[0, 1:]].sum() / np.log(2)
    return Example(path, codes.tolist(), [logits, np.array([bits])])


def write_savedmodel(
    path: Path, network: Any, config: ModelConfig, vocabulary: Vocabulary
) -> Example:
    """Write a network as a SavedModel, which normalizes nothing, and so needs no library."""
    labels = [Label("a", str(i), 0.5, i, 0) for i in range(vocabulary.size, vocabulary.inputs)]
    own = {"lines": True, "start": 10, "normalize": "none", "labels": labels}
    server = Server(network, config, vocabulary, **own)
    save(server, path, default="generate")
    none = {"labels": np.array([[b""]])} if labels else {}
    state = np.zeros((1, server.state_size), np.float32)
    calls: dict[str, dict[str, np.ndarray]] = {
        "generate": {
            "prompt": np.array([b"an"]),
            "length": np.array([30], np.int32),
            "temperature": np.array([0.8], np.float32),
            "top_k": np.array([0], np.int32),
            "top_p": np.array([0.9], np.float32),
            "min_p": np.array([0.01], np.float32),
            "seed": np.array([3], np.int32),
            **none,
        },
        "score": {"text": np.array([TEXT.encode()]), **none},
        "step": {"text": np.array([TEXT.encode()]), "state": state},
    }
    expected = [
        value.numpy()
        for name, inputs in calls.items()
        for _, value in sorted(server.functions[name](**inputs).items())
    ]
    return Example(path, json.loads(_json(calls)), expected)


WRITE: dict[str, Callable[[Path, Any, ModelConfig, Vocabulary], Example]] = {
    "keras": write_keras,
    "onnx": write_onnx,
    "savedmodel": write_savedmodel,
}


def _logits(network: Any, ids: np.ndarray) -> np.ndarray:
    """Logits (1, N, V) of the trained network after each of the ids (1, N)."""
    return model.run(network, ids, model.zero_states(network, 1))[0].numpy()


def _json(values: Any) -> str:
    def plain_value(value: Any) -> Any:
        return value.decode("latin-1") if isinstance(value, bytes) else value.tolist()

    return json.dumps(values, default=plain_value)


def write(
    kind: str, folder: Path, networks: tuple[tuple, ...] = KINDS, shipped: bool = True
) -> list[Example]:
    """Write the files of a kind of export: of each network, and of the shipped names."""
    made = []
    for number, (cell, layers, embedding, tied) in enumerate(networks):
        config = ModelConfig(cell, layers, 24, embedding=embedding, tied=tied, dropout=0.1)
        network = random_network(config, VOCABULARY.size)
        made.append(WRITE[kind](folder / f"{number}.{kind}", network, config, VOCABULARY))
    if shipped:
        opened, path = TrainedModel.of(SHIPPED), folder / f"names.{kind}"
        made.append(WRITE[kind](path, opened.model, opened.card.model, opened.vocabulary))
    return made


def fault(example: Example, results: Any) -> str | None:
    """What is wrong with a library's results of a file: None if nothing is."""
    if isinstance(results, str):
        return results
    for right, values in zip(example.expected, results, strict=True):
        if right.dtype.kind in "OS":
            if json.loads(_json(right)) != values:
                return f"another text: {values}"
            continue
        worst = float(np.abs(np.subtract(values, right)).max(initial=0.0))
        if not worst <= LOGITS * max(1.0, float(np.abs(right).max(initial=0.0))):
            return f"a result differs by {worst:.2g}"
    return None


def run(library: Runtime, python: Path, examples: list[Example]) -> dict[str, str | None]:
    """Run the files in a library, and the listing under a backend; returns the fault of each."""
    request: dict[str, Any] = {"calls": {str(each.path): each.inputs for each in examples}}
    with tempfile.TemporaryDirectory() as folder:
        backend = {"KERAS_BACKEND": library.version} if library.kind == "keras" else {}
        if library.kind == "keras":
            request |= {"listing": listing(), "folder": folder}
            plain_names(Path(folder), examples[0])
        done = subprocess.run(
            [python, "-I", CALL, library.kind],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={**os.environ, **backend},
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {each.path.stem: lines[-1] for each in examples}
    results = json.loads(done.stdout)
    faults = {each.path.stem: fault(each, results[str(each.path)]) for each in examples}
    if library.kind == "keras":
        faults["training"] = None if results["trained"] else "the weights are not finite"
    return faults


def plain_names(folder: Path, example: Example) -> None:
    """The files that the listing reads: a model, with the vocabulary in it, and a text."""
    shutil.copy(example.path, folder / "names.keras")
    with zipfile.ZipFile(folder / "names.keras", "a") as archive:
        archive.writestr("vocabulary.json", json.dumps(VOCABULARY.to_dict()))
    (folder / "more.txt").write_text(TEXT * 20, encoding="utf-8")


def listing() -> str:
    """The listing of docs/exporting.md that trains with Keras alone."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return next(code for code in found if "model.fit(" in code)


@click.command()
@click.option("--only", default="", help="Run the libraries whose name contains this.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the environments here.")
@click.option("--python", default="python3.11", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS / "libraries.json")
def main(only: str, folder: Path | None, python: str, output: Path) -> None:
    """Run all files in all libraries, print what fails, and write the result."""
    home = folder or Path(tempfile.mkdtemp(prefix="libraries-"))
    rows = []
    try:
        with tempfile.TemporaryDirectory() as made:
            examples = {kind: write(kind, Path(made)) for kind in WRITE}
            for library in (each for each in LIBRARIES if only in each.name):
                faults = run(library, environment(library, home, python), examples[library.kind])
                wrong = {name: text for name, text in faults.items() if text}
                rows.append({
                    "runtime": library.name, "kind": library.kind, "files": len(faults),
                    "faults": wrong,
                })  # fmt: skip
                click.echo(f"{library.name}, {library.kind}: {wrong or 'all right'}")
                if not folder:
                    shutil.rmtree(home / library.environment)
    finally:
        if not folder:
            shutil.rmtree(home)
    write_rows(output, rows, [library.name for library in LIBRARIES])


if __name__ == "__main__":
    main()
