"""The on-device file: one .tflite that reads code points and draws code points.

A host needs nothing else: no vocabulary, no random numbers, no arrays for the layers' states.
Tensors are int32 and float32 of fixed shapes and all operators are TensorFlow Lite's own, so the
file runs wherever LiteRT does, browsers included. The signatures are described at `OnDeviceGraph`.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import convert_saved_model

from keras_charlm.config import ExportConfig, SampleConfig
from keras_charlm.display import quiet
from keras_charlm.errors import ExportError
from keras_charlm.export import checking, packing, portable
from keras_charlm.export.graph import READ, OnDeviceGraph, save
from keras_charlm.export.uniform import uniform as old_uniform
from keras_charlm.generation.constraints import as_options
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.tables import compile_tables
from keras_charlm.network import sampling
from keras_charlm.saved import tflite_card
from keras_charlm.saved.trained import TrainedModel

QUANTIZE = ("none", "float16", "int8")  # best first


def convert(network: OnDeviceGraph, quantize: str = "none") -> bytes:
    """Convert to a .tflite file.

    Args:
        network: The network; its weights are stored once.
        quantize: Format of the weights: 'none' (float32), 'float16', or 'int8' with a scale for
            each row. States, biases and logits are always float32.

    Returns:
        The file's content.

    Raises:
        ExportError: The converter failed, or used an operator that not every LiteRT supports.
        OSError: The folder for temporary files cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(network, folder)
        try:
            with quiet():
                # What tf.lite.TFLiteConverter wraps. It also loads the SavedModel twice, for graphs
                # and debugging information that are not used here, and then looks for equal
                # buffers, as `packing` does: together as long as the conversion itself.
                content = convert_saved_model(
                    saved_model_dir=folder,
                    saved_model_version=1,
                    saved_model_tags={tf.saved_model.SERVING},
                    saved_model_exported_names=list(network.functions),
                    post_training_quantize=quantize != "none",
                    quantize_to_float16=quantize == "float16",
                    enable_mlir_dynamic_range_quantizer=True,
                )
        except Exception as error:
            raise ExportError(
                f"TensorFlow Lite could not convert the model: {str(error).splitlines()[0]}"
            ) from error
    if refused := sorted({"CUSTOM", "VAR_HANDLE"} & operators(content).keys()):
        raise ExportError(
            f"The converted model needs {refused[0]} operators, which browsers and phones lack; "
            "convert it with the TensorFlow version that this package requires."
        )
    return content


def operators(content: bytes) -> dict[str, int]:
    """Names and versions of the operators in a .tflite file; Flex operators are CUSTOM ones."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return {
        portable.NAMES[max(c.BuiltinCode(), c.DeprecatedBuiltinCode())]: c.Version() for c in codes
    }


def check(content: bytes, network: OnDeviceGraph, exact: bool = True) -> float:
    """Compare a file in LiteRT with the graph that it was converted from.

    Args:
        content: A .tflite file of `convert`.
        network: The graph; its weights are those of the file.
        exact: Whether the file holds the weights as they are, and not rounded to int8.

    Returns:
        The largest difference of the logits while both read `READ` random characters, or, where
        the file is not exact, characters that the network draws: rounding costs more on others.

    Raises:
        ExportError: The file differs from the graph; see `checking.compare`.
    """
    codes = np.array(network.vocabulary.codes)
    text = np.random.default_rng(0).choice(codes, READ).astype(np.int32)  # (P,)
    ours = network.runner()
    if not exact:
        text = checking.call(ours, [text[:1]], seed=0, temperature=1.0)[0]
    trial = checking.Trial(text, source=f"{len(text)} random characters")
    trained, exported = (
        checking.run(runner, network.vocabulary, trial) for runner in (ours, Runner(content))
    )
    report = checking.compare(trial, trained, exported, "on-device file", exact=exact)
    return report["largest_logit_difference"]


def write(
    opened: TrainedModel, config: ExportConfig, rule: SampleConfig | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Create the on-device file of a model and check it.

    Args:
        opened: The model.
        config: `quantize`, or the `budget` that chooses it; `license` goes into the card.
        rule: Constraints that all texts drawn have to fit.

    Returns:
        The file's content, and the report.

    Raises:
        ExportError: It could not be converted, does not fit the budget, or differs from the model.
        OptionError: No text fits the constraints.
    """
    vocabulary, constraints, tables = opened.vocabulary, None, None
    if rule:
        tables = compile_tables(vocabulary, rule, opened.end, opened.card.normalize)
        constraints = as_options(rule)
    uniform = old_uniform if config.min_runtime == "2.12" else sampling.uniform
    network = OnDeviceGraph(opened.model, opened.card.model, vocabulary, tables, uniform)
    content, quantize, too_large = _within_budget(opened, config, network, constraints)
    versions = operators(content)
    least = portable.least_tensorflow(versions)
    if config.min_runtime == "2.12" and least != "2.12":
        raise ExportError(
            "The converted model needs operators that TensorFlow Lite 2.12 lacks; leave out "
            "--min-runtime, or convert it with the TensorFlow version that this package requires."
        )
    began = time.perf_counter()
    runner = Runner(content)
    load_seconds = time.perf_counter() - began
    trial, trained = checking.reference(opened, network.runner())
    exported = checking.run(runner, vocabulary, trial)
    report = {
        "quantize": quantize,
        "constraints": constraints,
        "given_up": too_large or None,
        "bytes": len(content),
        "bytes_by_part": tflite_card.sizes(content),
        **checking.compare(trial, trained, exported, "on-device file", exact=quantize == "none"),
        "characters_per_second": checking.characters_per_second(runner, opened.card.start),
        "load_seconds": load_seconds,
        "least_runtime": f"TensorFlow Lite {least}, LiteRT {portable.LEAST_LITERT}",
        "operators": sorted(versions),
        "golden": golden(runner, opened),
    }
    return content, report


def _within_budget(
    opened: TrainedModel,
    config: ExportConfig,
    network: OnDeviceGraph,
    constraints: str | None,
) -> tuple[bytes, str, str]:
    """The file, the `quantize` it has, and those that were larger than the budget, in words."""
    too_large: list[str] = []
    for quantize in QUANTIZE if config.budget else (config.quantize or "none",):
        card = opened.card.on_device(opened.vocabulary, quantize, config.license, constraints)
        content = packing.pack(convert(network, quantize), card)
        if not config.budget or len(content) <= config.budget:
            return content, quantize, ", ".join(too_large)
        too_large.append(f"{quantize} ({len(content):,} bytes)")
    raise ExportError(
        f"No file fits {config.budget:,} bytes: {', '.join(too_large)}; raise --budget, or "
        "train a smaller model with --units or --layers."
    )


def golden(runner: Runner, opened: TrainedModel) -> list[dict[str, Any]]:
    """Calls of `generate` and what this very file draws, to hold an app's results against.

    Returns:
        For each call its inputs `text`, without padding, `seed`, `temperature`, `top_k` and
        `top_p`. The other inputs are the position 0, the length `DRAW`, no `min_p`, a zero state,
        and the stop -1, or with constraints of the file's own the start symbol. `drawn` is the
        output `text`.
    """
    start, known = opened.card.start, [int(code) for code in opened.vocabulary.codes]
    calls = []
    for seed, codes, temperature, top_k, top_p in (
        (0, [start], 0.0, 0, 1.0),
        (1, [start], 0.8, 0, 1.0),
        (2, [start, *known[-3:]], 1.0, 5, 1.0),
        (2**31 - 1, [start, *known[:3]], 1.0, 0, 0.9),
    ):
        drawn = checking.call(
            runner,
            [np.array(codes)],
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        settings = {"seed": seed, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        calls.append({"text": codes, **settings, "drawn": drawn[0].tolist()})
    return calls
