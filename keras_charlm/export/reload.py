"""Calls the signatures of a SavedModel in a process without Keras and this package.

A separate program, run by `savedmodel.call`:

    python -I reload.py FOLDER [LIBRARY OF OPERATORS] < requests > results

Requests are a pickled list of (signature, inputs); results a pickled dict.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import Any

HIDDEN = {"keras", "tf_keras", "keras_charlm", "kcharlm", "tensorflow_text"}


class Hiding:
    """A wrapper of a finder in `sys.meta_path` that hides some modules."""

    def __init__(self, finder: Any):
        self.finder = finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def main(folder: str, operators: str | None = None) -> None:
    """Answer the requests in stdin; `operators` is a library to load first."""
    sys.meta_path[:] = map(Hiding, sys.meta_path)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if operators:
        tf.load_op_library(operators)
    began = time.perf_counter()
    model = tf.saved_model.load(folder)
    load_seconds = time.perf_counter() - began
    results = []
    for name, inputs in pickle.load(sys.stdin.buffer):
        signature = model.signatures[name]
        specs = signature.structured_input_signature[1]
        tensors = {key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()}
        began = time.perf_counter()
        outputs = {key: value.numpy() for key, value in signature(**tensors).items()}
        results.append({**outputs, "seconds": time.perf_counter() - began})
    assert not HIDDEN & set(sys.modules)
    pickle.dump({"load_seconds": load_seconds, "results": results}, sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
