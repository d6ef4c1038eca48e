"""Runs on-device files in one runtime: a program for an environment that has nothing but it.

    python -I runtime_call.py KIND < requests > results

KIND is the runtime: `tflite`, `litert` or `tensorflow` for the interpreter of tflite-runtime,
ai-edge-litert or TensorFlow, `compiled` for LiteRT's CompiledModel. Requests are a JSON object from
paths to lists of calls, each [signature, inputs by name]; a signature of null is subgraph 0, as a
host without signatures runs it: tensors by their order. Results are an object from paths to lists
of outputs, or to the message of the error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

SIGNATURES = ("generate", "generate_batch", "step", "score", "vocab")


class Interpreted:
    """A file in TensorFlow Lite's interpreter."""

    def __init__(self, kind: str, path: str):
        if kind == "tflite":
            from tflite_runtime.interpreter import Interpreter
        elif kind == "litert":
            from ai_edge_litert.interpreter import Interpreter
        else:
            import tensorflow

            Interpreter = tensorflow.lite.Interpreter
        self.interpreter = Interpreter(model_path=path)
        self.interpreter.allocate_tensors()

    def run(self, signature: str | None, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        if signature is None:
            return self.run_without_signature(inputs)
        runner = self.interpreter.get_signature_runner(signature)
        types = {name: d["dtype"] for name, d in runner.get_input_details().items()}
        return runner(**{name: np.array(value, types[name]) for name, value in inputs.items()})

    def run_without_signature(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Pass the inputs in alphabetical order; the outputs are named by their number."""
        details = self.interpreter.get_input_details()
        for detail, (_, value) in zip(details, sorted(inputs.items()), strict=True):
            self.interpreter.set_tensor(detail["index"], np.array(value, detail["dtype"]))
        self.interpreter.invoke()
        outputs = self.interpreter.get_output_details()
        return {str(i): self.interpreter.get_tensor(d["index"]) for i, d in enumerate(outputs)}


class Compiled:
    """A file in LiteRT's CompiledModel."""

    def __init__(self, path: str):
        from ai_edge_litert.compiled_model import CompiledModel

        self.model = CompiledModel.from_file(path)
        # It does not tell the tensors' types and shapes in all versions, so the file is asked.
        from ai_edge_litert.interpreter import Interpreter

        details = Interpreter(model_path=path)
        runners = {name: details.get_signature_runner(name) for name in SIGNATURES}
        self.inputs = {name: runner.get_input_details() for name, runner in runners.items()}
        self.outputs = {name: runner.get_output_details() for name, runner in runners.items()}

    def run(self, signature: str | None, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        key = signature or SIGNATURES[0]
        given = {n: self.model.create_input_buffer_by_name(key, n) for n in self.inputs[key]}
        made = {n: self.model.create_output_buffer_by_name(key, n) for n in self.outputs[key]}
        for name, buffer in given.items():
            buffer.write(np.array(inputs[name], self.inputs[key][name]["dtype"]))
        self.model.run_by_name(key, given, made)
        results = {}
        for name, buffer in made.items():
            detail = self.outputs[key][name]
            flat = buffer.read(int(np.prod(detail["shape"])), detail["dtype"])
            results[name] = np.reshape(flat, detail["shape"])
        if signature is None:  # as the interpreter names them
            return {str(i): results[name] for i, name in enumerate(sorted(results))}
        return results


def answer(kind: str, path: str, calls: list[tuple[str | None, dict[str, Any]]]) -> Any:
    """The outputs of the calls, or the error."""
    try:
        model = Compiled(path) if kind == "compiled" else Interpreted(kind, path)
        results = [model.run(signature, inputs) for signature, inputs in calls]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return [{name: value.tolist() for name, value in out.items()} for out in results]


def main(kind: str) -> None:
    """Answer the requests in stdin."""
    requests = json.load(sys.stdin)
    json.dump({path: answer(kind, path, calls) for path, calls in requests.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
