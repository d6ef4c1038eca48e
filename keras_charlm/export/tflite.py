"""The on-device file: one .tflite that reads code points and draws code points.

A host needs nothing beside it: no vocabulary, no random numbers, no arrays for the layers' states.
Tensors are int32 and float32 of fixed shapes and all operators are TensorFlow Lite's own, so the
file runs wherever LiteRT does, browsers included. The signatures are described at `OnDeviceGraph`.
"""

from __future__ import annotations

import errno
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf

from keras_charlm.config import ExportConfig
from keras_charlm.display import quiet
from keras_charlm.errors import ExportError
from keras_charlm.export import checking, packing
from keras_charlm.export.checking import TOLERANCE
from keras_charlm.export.graph import READ, ROWS, OnDeviceGraph
from keras_charlm.generation.runner import Runner
from keras_charlm.saved import tflite_card
from keras_charlm.saved.trained import TrainedModel

QUANTIZE = ("none", "float16", "int8")  # best first


def convert(network: OnDeviceGraph, quantize: str = "none") -> bytes:
    """Convert to a .tflite file.

    Args:
        network: The network; its weights are stored once.
        quantize: How weights are stored: 'none' (float32), 'float16', or 'int8' with a scale for
            each row. States, biases and logits are float32 in all of them.

    Returns:
        The file's content.

    Raises:
        ExportError: The converter failed, or used an operator that not every LiteRT has.
        OSError: The folder for temporary files cannot be written.
    """
    functions = {name: f.get_concrete_function() for name, f in network.functions.items()}
    bare = tf.Module()  # the network itself would have every function saved twice
    bare.weights = network.weights
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            tf.saved_model.save(bare, folder, signatures=functions)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message.rpartition("; ")[2], folder) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.exclude_conversion_metadata = True  # saves taking the whole file apart once more
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:
            raise ExportError(
                f"TensorFlow Lite could not convert the model: {str(error).splitlines()[0]}"
            ) from error
    if refused := sorted(operators(content) & {"CUSTOM", "VAR_HANDLE"}):
        raise ExportError(
            f"The converted model needs {refused[0]} operators, which browsers and phones lack; "
            "convert it with the TensorFlow version that this package asks for."
        )
    return content


def operators(content: bytes) -> set[str]:
    """Names of the operators in a .tflite file; Flex operators are CUSTOM ones."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    model = schema.Model.GetRootAs(content)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return {names[max(c.BuiltinCode(), c.DeprecatedBuiltinCode())] for c in codes}


def check(content: bytes, network: OnDeviceGraph) -> float:
    """Compare a file in LiteRT with the network in TensorFlow.

    Args:
        content: A .tflite file of `convert`.
        network: What it was converted from.

    Returns:
        The largest difference of the logits while both read the same 64 characters.

    Raises:
        ExportError: Logits differ by more than `TOLERANCE`, or the same seeds draw other texts.
    """
    file, original = Runner(content), network.runner()
    codes = original("vocab", index=np.arange(len(network._codes), dtype=np.int32))["codes"]
    text = np.random.default_rng(0).choice(codes[1:], READ).astype(np.int32)  # (P,)
    states = [np.zeros((1, network.state_size), np.float32)] * 2
    worst = 0.0
    for code in text:
        a, b = (run("step", text=code[None], state=state)
                for run, state in zip((file, original), states, strict=True))  # fmt: skip
        worst = max(worst, float(np.abs(a["logits"] - b["logits"]).max()))
        states = [a["state"], b["state"]]
    if not worst <= TOLERANCE:
        raise ExportError(
            f"The converted model's logits differ by {worst:.2g} from the trained model's; at most "
            f"{TOLERANCE:g} is accepted, so the file was not written."
        )
    one = np.ones(1, np.float32)
    arrays = {
        "text": np.tile(text, (ROWS, 1)), "text_length": np.full(ROWS, READ, np.int32),
        "seed": np.arange(ROWS, dtype=np.int32), "position": np.zeros(ROWS, np.int32),
        "length": np.int32([16]), "stop": np.int32([-1]),
        "temperature": one, "top_k": np.int32([0]), "top_p": one,
        "state": np.zeros((ROWS, network.state_size), np.float32),
    }  # fmt: skip
    a, b = (run("generate_batch", **arrays)["text"] for run in (file, original))
    # Rounding alone changes a character in many thousands, and with it the rest of its row.
    if (equal := int((a == b).all(axis=1).sum())) < ROWS // 2:
        raise ExportError(
            f"With the same seeds the converted model drew the same text in {equal} of {ROWS} "
            "rows only; it is not the trained model, so the file was not written."
        )
    return worst


def write(opened: TrainedModel, config: ExportConfig) -> tuple[bytes, dict[str, Any]]:
    """Make the on-device file of a model and check it.

    Args:
        opened: The model.
        config: `quantize`, or the `budget` that chooses it; `license` goes into the card.

    Returns:
        The file's content, and the report.

    Raises:
        ExportError: It could not be converted, fits no budget, or differs from the model.
    """
    keras_model = opened.model
    network = OnDeviceGraph(keras_model, opened.card.model, opened.vocabulary)
    too_large = []
    for quantize in QUANTIZE if config.budget else (config.quantize,):
        card = opened.card.on_device(opened.vocabulary, quantize, config.license)
        content = packing.pack(convert(network, quantize), card)
        if not config.budget or len(content) <= config.budget:
            break
        too_large.append(f"{quantize} ({len(content):,} bytes)")
    else:
        raise ExportError(
            f"No file fits {config.budget:,} bytes: {', '.join(too_large)}; raise --budget, or "
            "train a smaller model with --units or --layers."
        )
    began = time.perf_counter()
    runner = Runner(content)
    loaded = time.perf_counter() - began
    original = network.runner()
    report = {
        "quantize": quantize,
        "given_up": ", ".join(too_large) or None,
        "bytes": len(content),
        "bytes_by_part": tflite_card.sizes(content),
        **checking.measure(
            opened,
            keras_model,
            original,
            runner,
            checking.held_out(opened, original),
            exact=quantize == "none",
        ),
        "load_seconds": loaded,
        "operators": sorted(operators(content)),
    }
    return content, report
