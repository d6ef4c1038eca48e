"""Which runtimes run the on-device file: `python -m tests.runtimes`.

Writes small models of every kind, for TensorFlow 2.13 and for 2.12 (`export --min-runtime`), runs
them and the shipped names model in each runtime, in an environment of its own, and compares the
results with those of the network in TensorFlow (int8 weights: of the installed LiteRT). The table
in docs/mobile.md comes from the result, benchmarks/results/runtimes.json. An environment of
TensorFlow takes about 1.5 GB; it is removed after its run. Needs a network, and Python 3.11, for
which all of these runtimes have wheels.

`tests/test_runtimes.py` runs some of the files in the runtimes that are installed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import RESULTS, machine
from keras_charlm.config import ModelConfig, SampleConfig
from keras_charlm.export import litertjs, packing, tflite
from keras_charlm.export.graph import DRAW, OnDeviceGraph
from keras_charlm.export.uniform import uniform
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.samples import stream_text
from keras_charlm.network import model, sampling
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import Vocabulary
from tests import hosts

SHIPPED = Path(__file__).parent.parent / "saved_models" / "names"
CALL = Path(__file__).with_name("runtime_call.py")
VOCABULARIES = {
    "characters": Vocabulary("char", tuple(map(ord, "\n abcdefghijklmnopqrstuvwxyzßé"))),
    "bytes": Vocabulary("byte", (10, 32, *range(97, 123), *range(128, 256))),
    "1,200 characters": Vocabulary("char", (10, *range(0x4E00, 0x4E00 + 1200))),
}
# cell, layers, embedding, tied, vocabulary
KINDS = (
    ("lstm", 1, 0, False, "characters"),
    ("lstm", 3, 12, True, "characters"),
    ("gru", 1, 12, True, "bytes"),
    ("gru", 3, 0, False, "characters"),
    ("rnn", 1, 12, False, "bytes"),
    ("rnn", 3, 12, True, "1,200 characters"),
)
LOGITS = 1e-3  # largest difference accepted from TensorFlow's logits of the same weights
BITS = 0.02  # largest difference accepted in bits per character between runtimes with int8 weights
LEAST = {"2.13": sampling.uniform, "2.12": uniform}  # `--min-runtime`
FORMATS = tuple(itertools.product(tflite.QUANTIZE, LEAST))
TEXT = 60  # characters of a call
PROMPT = "an"


@dataclass(frozen=True)
class Runtime:
    """A runtime and the packages that bring it."""

    name: str
    kind: str  # see runtime_call.py
    version: str
    packages: tuple[str, ...]

    @property
    def environment(self) -> str:
        """Name of its environment's folder; two runtimes may share one."""
        return f"{_SHARED.get(self.kind, self.kind)}-{self.version}"


_SHARED = {"compiled": "litert", "c": "litert", "savedmodel": "tensorflow"}  # of one package


def _litert(version: str, *more: str) -> Runtime:
    packages = (f"ai-edge-litert=={version}", *more)
    return Runtime(f"LiteRT {version}", "litert", version, packages)


RUNTIMES = (
    Runtime("tflite-runtime 2.14.0", "tflite", "2.14.0", ("tflite-runtime==2.14.0", "numpy<2")),
    *(
        Runtime(f"TensorFlow {v}", "tensorflow", v, (f"tensorflow-cpu=={v}",))
        for v in (
            *("2.12.1", "2.13.1", "2.14.1", "2.15.1", "2.16.2", "2.17.1", "2.18.1", "2.19.1"),
            *("2.20.0", "2.21.0"),
        )
    ),
    *(_litert(v, "numpy<2") for v in ("1.0.1", "1.1.2", "1.2.0", "1.3.0", "1.4.0")),
    *(_litert(v, "ml_dtypes") for v in ("2.0.3", "2.1.6", "2.3.0")),
    *(
        Runtime(f"LiteRT {v}, CompiledModel", "compiled", v, (f"ai-edge-litert=={v}", "ml_dtypes"))
        for v in ("2.0.3", "2.1.6", "2.3.0")
    ),
    *(
        Runtime(f"LiteRT {v}, C library", "c", v, (f"ai-edge-litert=={v}", "ml_dtypes"))
        for v in ("2.1.0", "2.1.6", "2.3.0")
    ),
    Runtime(f"LiteRT.js {litertjs.VERSION}, Chromium", "litertjs", litertjs.VERSION, ()),
)


@dataclass(frozen=True)
class Example:
    """A file, what is asked of it, and the network's answers.

    Args:
        name: Of the network.
        quantize: Format of the weights.
        least: The oldest TensorFlow that it is for.
        content: The file.
        calls: Signatures and their inputs; None is subgraph 0.
        expected: The outputs of each call that are right.
        text: What docs/native/generate.c draws after `PROMPT` with seed 1.
    """

    name: str
    quantize: str
    least: str
    content: bytes
    calls: tuple[tuple[str | None, dict[str, Any]], ...]
    expected: tuple[dict[str, Any], ...]
    text: str


def examples(
    kinds: tuple[tuple, ...] = KINDS,
    shipped: bool = True,
    formats: tuple[tuple[str, str], ...] = FORMATS,
) -> list[Example]:
    """The files of each kind of network, and of the shipped names, in each format.

    Args:
        kinds: See `KINDS`.
        shipped: Whether to add the shipped names.
        formats: For each its `quantize` and `least`.
    """
    networks = []
    for cell, layers, embedding, tied, vocabulary in kinds:
        config = ModelConfig(cell, layers, 24, embedding=embedding, tied=tied, dropout=0.0)
        name = f"{cell}, {layers} layers, {'tied, ' if tied else ''}{vocabulary}"
        symbols = VOCABULARIES[vocabulary]
        networks.append((name, random_network(config, symbols.size), config, symbols))
    if shipped:
        opened = TrainedModel.of(SHIPPED)
        networks.append(("names", opened.model, opened.card.model, opened.vocabulary))
    return [
        example(name, *format_, network, config, vocabulary)
        for name, network, config, vocabulary in networks
        for format_ in formats
    ]


def random_network(config: ModelConfig, size: int, labels: int = 0) -> Any:
    """A network with uneven probabilities, and with biases."""
    network = model.build(config, size, seed=1, labels=labels)
    random = np.random.default_rng(0)
    for weight in network.trainable_variables:
        # Biases too: those of a fresh network are zero, and could be mixed up unnoticed.
        noise = random.normal(0, 1.5 if "logits" in weight.path else 0.3, weight.shape)
        weight.assign(weight.numpy() + noise)
    return network


def example(
    name: str, quantize: str, least: str, network: Any, config: ModelConfig, vocabulary: Vocabulary
) -> Example:
    """The file of a network, calls, and their results in TensorFlow."""
    exported = OnDeviceGraph(network, config, vocabulary, uniform=LEAST[least])
    content = packing.pack(tflite.convert(exported, quantize), {})
    graph = OnDeviceGraph(network, config, vocabulary)
    if quantize == "float16":  # the same weights as the file's
        for weight in graph.weights:
            weight.assign(weight.numpy().astype(np.float16).astype(np.float32))
    # Rounding to int8 is judged by the export's own check; here its runtimes have to agree.
    runner = Runner(content) if quantize == "int8" else graph.runner()
    accepted = {spec.name for spec in graph.functions["generate"].input_signature}
    calls = _calls(runner, vocabulary, accepted)
    expected = tuple(
        {key: value.tolist() for key, value in runner(signature or "generate", **inputs).items()}
        for signature, inputs in calls
    )
    lists = [(s, {key: array.tolist() for key, array in inputs.items()}) for s, inputs in calls]
    drawn = stream_text(
        runner,
        vocabulary,
        SampleConfig(seed=1, unknown_ok=True),
        PROMPT,
        start=10,
        normalize="none",
    )
    # The program knows nothing of bytes, and shows each as a character.
    pieces = (piece if isinstance(piece, str) else piece.decode("latin-1") for piece in drawn)
    text = f"{PROMPT}{''.join(pieces)}\n"
    return Example(name, quantize, least, content, tuple(lists), expected, text)


def _calls(
    runner: Any, vocabulary: Vocabulary, accepted: set[str]
) -> list[tuple[str | None, dict[str, np.ndarray]]]:
    """A call of each signature, and `generate`, which accepts these inputs, as subgraph 0."""
    random = np.random.default_rng(0)
    codes = random.choice(vocabulary.codes, TEXT).astype(np.int32)

    def padded(rows: int, width: int) -> np.ndarray:
        return np.tile(np.pad(codes, (0, width - TEXT)), (rows, 1))

    def generate(rows: int) -> dict[str, np.ndarray]:
        inputs = {
            "text": padded(rows, runner.read_width),
            "text_length": np.full(rows, TEXT, np.int32),
            "seed": np.arange(rows, dtype=np.int32),
            "position": np.zeros(rows, np.int32),
            "length": np.array([DRAW], np.int32),
            "stop": np.array([-1], np.int32),
            "temperature": np.array([0.8], np.float32),
            "top_k": np.array([20], np.int32),
            "top_p": np.array([0.95], np.float32),
            "min_p": np.array([0.01], np.float32),
            "state": np.zeros((rows, runner.state_size), np.float32),
        }
        return {name: array for name, array in inputs.items() if name in accepted}

    state = random.uniform(-0.5, 0.5, (1, runner.state_size)).astype(np.float32)
    score = {
        "text": padded(1, runner.score_width),
        "text_length": np.array([TEXT], np.int32),
        "state": state,
    }
    return [
        ("step", {"text": codes[:1], "state": state}),
        ("score", score),
        ("generate", generate(1)),
        (None, generate(1)),
        ("generate_batch", generate(runner.rows)),
        ("vocab", {"index": np.arange(vocabulary.size, dtype=np.int32)}),
    ]


def fault(example: Example, results: Any) -> str | None:
    """What is wrong with a runtime's results of a file: None if nothing is."""
    if isinstance(results, str):
        return results
    step, score, one, unsigned, batch, vocab = results
    right_step, right_score, right_one, _, right_batch, right_vocab = example.expected
    if vocab != right_vocab:
        return "other code points"
    outputs = [one[name] for name in sorted(one)]
    if [unsigned[str(i)] for i in range(len(outputs))] != outputs:
        return "subgraph 0 differs from the signature generate"
    bits = abs(score["bits"][0] - right_score["bits"][0]) / (TEXT - 1)
    if example.quantize == "int8":
        return None if bits <= BITS else f"{bits:.2g} bits per character more or less"
    difference = np.abs(np.subtract(step["logits"], right_step["logits"])).max()
    if not difference <= LOGITS:
        return f"logits differ by {difference:.2g}"
    if not bits <= LOGITS:
        return f"{bits:.2g} bits per character more or less"
    texts = [*one["text"], *batch["text"]]
    right = [*right_one["text"], *right_batch["text"]]
    different = sum(ours != theirs for ours, theirs in zip(texts, right, strict=True))
    # A rounded last digit changes one character in many thousands, and the rest of its row.
    return f"{different} of {len(texts)} texts differ" if different > 2 else None


def run(runtime: Runtime, python: Path, files: dict[str, Example]) -> dict[str, str | None]:
    """Run the files in a runtime; returns the fault of each.

    Args:
        runtime: The runtime.
        python: What `environment` returned.
        files: The files by their paths.
    """
    if runtime.kind == "litertjs":
        calls = {path: example.calls for path, example in files.items()}
        found = hosts.run_litertjs(python, calls)
        for path, each in files.items():
            if not isinstance(found[path], str):
                found[path] = hosts.shaped(found[path], each.calls, each.expected)
        return {path: fault(each, found[path]) for path, each in files.items()}
    if runtime.kind == "c":
        return _run_c(python, files)
    done = subprocess.run(
        [python, "-I", CALL, runtime.kind],
        input=json.dumps({path: example.calls for path, example in files.items()}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return dict.fromkeys(files, lines[-1])
    results = json.loads(done.stdout)
    return {path: fault(example, results[path]) for path, example in files.items()}


def _run_c(python: Path, files: dict[str, Example]) -> dict[str, str | None]:
    """Run docs/native/generate.c with the library in an environment."""
    (library,) = python.parent.parent.glob("lib/python*/site-packages/ai_edge_litert")
    program, faults = library / "generate", {}
    hosts.build(library, program)
    for path, example in files.items():
        text, failed = hosts.run_c(program, path, PROMPT, 1)
        # With int8 weights, versions round differently, so that texts differ.
        same = text == example.text or example.quantize == "int8"
        faults[path] = failed or (None if same else "another text")
    return faults


def environment(runtime: Runtime, folder: Path, python: str) -> Path:
    """The Python of a runtime's environment, made if it is missing; of LiteRT.js its folder."""
    if runtime.kind == "litertjs":
        (folder / runtime.environment).mkdir(parents=True, exist_ok=True)
        return hosts.fetch_litertjs(runtime.version, folder / runtime.environment)
    own = folder / runtime.environment / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", own.parent.parent], check=True)
        install = [own, "-m", "pip", "install", "--quiet", "--no-cache-dir", *runtime.packages]
        try:
            subprocess.run(install, check=True)
        except BaseException:  # a half-made environment must not pass for a whole one
            shutil.rmtree(own.parent.parent)
            raise
    return own


@click.command()
@click.option("--only", default="", help="Run the runtimes whose name contains this.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the environments here.")
@click.option("--python", default="python3.11", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS / "runtimes.json")
def main(only: str, folder: Path | None, python: str, output: Path) -> None:
    """Run all files in all runtimes, print what fails, and write the result."""
    chosen = [runtime for runtime in RUNTIMES if only in runtime.name]
    home = folder or Path(tempfile.mkdtemp(prefix="runtimes-"))
    try:
        with tempfile.TemporaryDirectory() as made:
            files = {}
            for number, each in enumerate(examples()):
                path = Path(made) / f"{number}.tflite"
                path.write_bytes(each.content)
                files[str(path)] = each
            for runtime in chosen:
                row = _row(runtime, home, python, files, keep=bool(folder))
                write_rows(output, [row], [runtime.name for runtime in RUNTIMES])
    finally:
        if not folder:
            shutil.rmtree(home)


def write_rows(output: Path, rows: list[dict[str, Any]], names: list[str]) -> None:
    """Write rows to a result; those of other runtimes that it has stay, in the order of `names`."""
    before = json.loads(output.read_text())["rows"] if output.exists() else []
    by_name = {row["runtime"]: row for row in (*before, *rows)}
    kept = [by_name[name] for name in names if name in by_name]
    output.write_text(json.dumps({"machine": machine(), "rows": kept}, indent=1) + "\n")


def _row(
    runtime: Runtime, home: Path, python: str, files: dict[str, Example], keep: bool
) -> dict[str, Any]:
    """Run the files in a runtime; returns its row of the result."""
    faults = run(runtime, environment(runtime, home, python), files)
    shared = [other for other in RUNTIMES if other.environment == runtime.environment]
    if not keep and runtime is shared[-1]:
        shutil.rmtree(home / runtime.environment)
    row: dict[str, Any] = {"runtime": runtime.name, "kind": runtime.kind, "faults": {}}
    for least in LEAST:
        by_format = row["faults"][least] = {}
        for quantize in tflite.QUANTIZE:
            format_ = quantize, least
            own = {
                files[path].name: f
                for path, f in faults.items()
                if (files[path].quantize, files[path].least) == format_
            }
            by_format[quantize] = {name: f for name, f in own.items() if f}
            row["files"] = len(own)
    click.echo(f"{runtime.name}: {_shown(row)}")
    return row


def _shown(row: dict[str, Any]) -> str:
    faults = [
        f"{least}, {q}, {n}: {f}"
        for least, by_format in row["faults"].items()
        for q, named in by_format.items()
        for n, f in named.items()
    ]
    return "; ".join(faults) or "all right"


if __name__ == "__main__":
    main()
