"""A TensorFlow SavedModel with string inputs and outputs, for TensorFlow Serving.

It loads with `tf.saved_model.load` in a process that has neither this package nor Keras; its
signatures are described at `serving.Server`.
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from keras_charlm import templates
from keras_charlm.config import SampleConfig
from keras_charlm.errors import ExportError
from keras_charlm.export import checking
from keras_charlm.export.graph import DRAW, READ, ROWS, OnDeviceGraph, save
from keras_charlm.export.serving import LONGEST, Server, needs_text
from keras_charlm.files import write_json
from keras_charlm.generation.samples import LENGTH, LINE_LENGTH
from keras_charlm.saved import bundle
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import Vocabulary

_RELOAD = Path(__file__).with_name("reload.py")


def write(opened: TrainedModel, folder: Path) -> dict[str, Any]:
    """Write a model as a SavedModel into a folder, and check it in a separate process.

    Args:
        opened: The model.
        folder: An empty folder.

    Returns:
        The report: `bytes` on the disk; `tensorflow_text`, whether the loading process needs its
        operators; and what `check` returns.

    Raises:
        ExportError: tensorflow-text is needed and missing, or the SavedModel computes different
            results from the model.
        OSError: The folder cannot be written.
    """
    card = opened.card
    text = needs_text(opened.vocabulary, card.normalize)
    if text and not _text_operators().is_file():
        raise ExportError(
            f"This model's texts are normalized by {card.normalize.upper()}, which a SavedModel "
            "does with tensorflow-text, and that is not installed; install it, or export on Linux."
        )
    server = Server(
        opened.model,
        card.model,
        opened.vocabulary,
        lines=card.lines,
        start=card.start,
        normalize=card.normalize,
        labels=card.labels,
    )
    save(server, folder, default="generate")
    _name_defaults(folder)
    write_json(folder / bundle.VOCABULARY, opened.vocabulary.to_dict())
    readme = _readme(opened, server.state_size, text)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return {
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        "tensorflow_text": text,
        **check(opened, folder),
    }


def _name_defaults(folder: Path) -> None:
    """Name each input that has a default after it, such as `generate_seed_default_-1`.

    Of an input `saved_model_cli` prints only the type, the shape and the name of its tensor.
    """
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph, signatures = saved.meta_graphs[0].graph_def, saved.meta_graphs[0].signature_def
    values = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    named = {}
    for node in graph.node:
        if node.op == "PlaceholderWithDefault":
            (value,) = tf.make_ndarray(values[node.input[0]]).ravel()
            named[node.name] = f"{node.name}_default_{'none' if value == b'' else str(value)}"
    for node in graph.node:
        node.name = named.get(node.name, node.name)
        node.input[:] = [named.get(name, name) for name in node.input]
    for signature in signatures.values():
        for tensor in signature.inputs.values():
            node_name, _, output = tensor.name.partition(":")
            tensor.name = f"{named.get(node_name, node_name)}:{output}"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    write_fingerprint(str(folder))


def _readme(opened: TrainedModel, states: int, operators: bool) -> str:
    """The README.md of the folder."""
    byte = opened.vocabulary.unit == "byte"
    return templates.render(
        __package__,
        "savedmodel_readme.md",
        escape=False,
        name=opened.card.name,
        model=opened.card.model,
        normalize=opened.card.normalize,
        symbols=opened.vocabulary.size - 1,
        bytes=byte,
        text="text_bytes" if byte else "text",
        longest=f"{LONGEST:,}",
        states=states,
        operators=operators,
        label=opened.card.labels[0].value if opened.card.labels else "",
        length=LINE_LENGTH if opened.card.lines else LENGTH,
        temperature=SampleConfig().temp,
    )


def check(opened: TrainedModel, folder: Path) -> dict[str, Any]:
    """Compare a SavedModel with the trained network.

    Args:
        opened: The model.
        folder: The SavedModel.

    Returns:
        What `checking.compare` returns; `load_seconds`; and `characters_per_second` of `one_stream`
        and of a `batch`.

    Raises:
        ExportError: It fails in a fresh process, or differs from the trained network.
    """
    graph = OnDeviceGraph(opened.model, opened.card.model, opened.vocabulary)
    trial, trained = checking.reference(opened, graph.runner())
    exported, measured = _run(opened, folder, trial, graph.state_size)
    return {**checking.compare(trial, trained, exported, "SavedModel"), **measured}


def _run(
    opened: TrainedModel, folder: Path, trial: checking.Trial, state_size: int
) -> tuple[checking.Answers, dict[str, Any]]:
    """Run a trial on a SavedModel; returns its answers, and timings."""
    vocabulary, start = opened.vocabulary, opened.card.start
    codes = np.where(trial.codes < 0, _unknown(vocabulary), trial.codes)

    def string(codes: np.ndarray) -> str | bytes:
        return vocabulary.from_codes(codes)

    # The logits after each character of the beginning, each text read as a whole.
    beginnings = [string(codes[:n]) for n in range(1, min(READ + 1, len(codes)))]
    zeros = np.zeros((len(beginnings), state_size), np.float32)
    prompts = [string(codes[:0]), string(codes[1 : 1 + len(trial.prompt)])] * (ROWS // 2)

    def no_labels(rows: int) -> dict[str, Any]:
        return {"labels": [[""]] * rows} if vocabulary.labels else {}

    def generate(rows: int) -> tuple[str, dict[str, Any]]:
        return "generate", {
            "prompt": prompts[:rows],
            "length": [DRAW],
            "temperature": [checking.TEMPERATURE],
            "top_k": [0],
            "top_p": [1.0],
            "min_p": [0.0],
            "seed": list(range(rows)),
            **no_labels(rows),
        }

    requests: list[tuple[str, dict[str, Any]]] = [
        ("step", {"text": beginnings, "state": zeros}),
        ("score", {"text": [string(codes[1:])], **no_labels(1)}),
        *(generate(rows) for rows in (ROWS, 1, ROWS, 1)),  # the first of each warms up
    ]
    operators = _text_operators() if needs_text(vocabulary, opened.card.normalize) else None
    called = call(folder, requests, operators)
    step, score, batch, _, again, one = called["results"]
    texts = batch["text_bytes" if vocabulary.unit == "byte" else "text"]
    drawn = [vocabulary.to_codes(text) for text in texts]
    # For lines, a short text ended with its line, that is, with the start symbol.
    ended = [row if len(row) == DRAW else np.append(row, start) for row in drawn]
    answers = checking.Answers(step["logits"], float(score["bits_per_character"][0]), ended)
    return answers, {
        "characters_per_second": {
            "one_stream": round(len(drawn[0]) / one["seconds"]),
            "batch": round(sum(map(len, drawn)) / again["seconds"]),
        },
        "load_seconds": called["load_seconds"],
    }


def _unknown(vocabulary: Vocabulary) -> int:
    """A code that is read as the unknown symbol, and that no normalization changes."""
    # A text with unknown bytes lacks at least one; for characters, private-use code points serve.
    codes = range(0x100) if vocabulary.unit == "byte" else range(0xE000, 0xF900)
    return next((code for code in codes if code not in set(vocabulary.codes)), 0)


def call(
    folder: Path, requests: list[tuple[str, dict[str, Any]]], operators: Path | None = None
) -> dict[str, Any]:
    """Call a SavedModel's signatures in a fresh process without this package and Keras.

    Args:
        folder: The SavedModel.
        requests: Names of signatures and their inputs.
        operators: Library of operators to load first.

    Returns:
        `load_seconds`, and `results`: for each request its outputs and `seconds`.

    Raises:
        ExportError: It does not load, or a call fails.
    """
    arguments = [str(folder), *([str(operators)] if operators else [])]
    done = subprocess.run(
        [sys.executable, "-I", str(_RELOAD), *arguments],
        input=pickle.dumps(requests),
        capture_output=True,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise ExportError(f"The SavedModel failed in a fresh process: {lines[-1]}")
    return pickle.loads(done.stdout)


def _text_operators() -> Path:
    """The library of tensorflow-text that normalizes; the whole package would need Keras."""
    spec = importlib.util.find_spec("tensorflow_text")
    root = Path(spec.origin).parent if spec and spec.origin else Path("tensorflow_text")
    return root / "python" / "ops" / "_normalize_ops.so"
