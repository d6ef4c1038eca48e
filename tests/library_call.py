"""Runs exports in one library: a program for an environment that has nothing but it.

    python -I library_call.py KIND < request > results

KIND is `keras` (under the backend that KERAS_BACKEND names), `onnx` or `savedmodel`. The request is
a JSON object: `calls`, the inputs of each path, and optionally `listing`, Python code that is run
in the folder `folder` and leaves a trained Keras model in its variable `model`. Results are the
outputs of each path, or the message of the error, and after a listing `trained`, whether its
training gave finite weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import numpy as np


def keras_model(path: str, ids: list[list[int]]) -> list[Any]:
    import keras

    model = keras.models.load_model(path)
    return [keras.ops.convert_to_numpy(model(np.array(ids, "int32"))).tolist()]


def onnx_file(path: str, text: list[list[int]]) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    state = np.zeros((len(text), session.get_inputs()[1].shape[1]), "float32")
    inputs = {"text": np.array(text, "int32"), "state": state}
    return [output.tolist() for output in session.run(["logits", "bits"], inputs)]


def saved_model(path: str, calls: dict[str, dict[str, Any]]) -> list[Any]:
    import tensorflow as tf

    loaded, results = tf.saved_model.load(path), []
    for name, inputs in calls.items():
        signature = loaded.signatures[name]
        specs = signature.structured_input_signature[1]
        tensors = {key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()}
        results += [value.numpy().tolist() for _, value in sorted(signature(**tensors).items())]
    return results


KINDS = {"keras": keras_model, "onnx": onnx_file, "savedmodel": saved_model}


def answer(kind: str, path: str, inputs: Any) -> Any:
    """The outputs of a file, or the error."""
    try:
        return KINDS[kind](path, inputs)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"


def trained(listing: str, folder: str) -> bool:
    """Run a listing that trains a model; returns whether the weights are finite."""
    os.chdir(folder)
    variables: dict[str, Any] = {}
    exec(compile(listing, "listing", "exec"), variables)
    return all(bool(np.isfinite(weight).all()) for weight in variables["model"].get_weights())


def main(kind: str) -> None:
    """Answer the request in stdin."""
    request = json.load(sys.stdin)
    results: dict[str, Any] = {}
    with contextlib.redirect_stdout(sys.stderr):  # a training shows its progress
        for path, inputs in request["calls"].items():
            results[path] = answer(kind, path, inputs)
        if "listing" in request:
            results["trained"] = trained(request["listing"], request["folder"])
    assert not {"keras_charlm", "kcharlm"} & set(sys.modules)
    json.dump(results, sys.stdout, default=lambda data: data.decode("latin-1"))


if __name__ == "__main__":
    main(sys.argv[1])
