"""Programs of an app's language in the tests, for which this process runs the model."""

import json
import subprocess

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_charlm


class Program:
    """A program that reads calls, each a line of words, and writes an answer, a line, to each.

    What it asks LiteRT is a line that begins with "LiteRT"; the answer is a line too.
    """

    def __init__(self, command, model):
        self._interpreter = Interpreter(str(model))
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self._answer() == "ready"

    def __call__(self, *words):
        """Send a call; returns the answer, in which a line break is a backslash and an n."""
        self._send("\t".join(map(str, words)))
        return self._answer().replace("\\n", "\n")

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0

    def _send(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self):
        while (line := self._process.stdout.readline()).startswith("LiteRT "):
            _, call, *rest = line.split()
            self._send(getattr(self, f"_{call}")(*rest))
        return line.rstrip("\n")

    # What LiteRT's Kotlin interface asks:

    def _open(self, name):
        return name

    def _input(self, signature, name):
        details = self._interpreter.get_signature_runner(signature).get_input_details()
        return ",".join(map(str, details[name]["shape"]))

    def _output(self, signature, name):
        details = self._interpreter.get_signature_runner(signature).get_output_details()
        return ",".join(map(str, details[name]["shape"]))

    def _run(self, signature, *given):
        runner = self._interpreter.get_signature_runner(signature)
        details, arrays = runner.get_input_details(), {}
        for name, values in (part.split("=") for part in given):
            array = np.array([float(value) for value in values.split(",")])
            arrays[name] = array.astype(details[name]["dtype"]).reshape(details[name]["shape"])
        return " ".join(
            f"{name}={','.join(map(str, array.ravel().tolist()))}"
            for name, array in runner(**arrays).items()
        )

    # What a package without signatures asks:

    def _graph(self, _):
        self._interpreter.allocate_tensors()
        return json.dumps(
            {
                kind: [
                    {
                        "name": detail["name"],
                        "shape": detail["shape"].tolist(),
                        "dataType": np.dtype(detail["dtype"]).name,
                    }
                    for detail in details
                ]
                for kind, details in (
                    ("inputs", self._interpreter.get_input_details()),
                    ("outputs", self._interpreter.get_output_details()),
                )
            }
        )

    def _invoke(self, *given):
        for detail, data in zip(self._interpreter.get_input_details(), given, strict=True):
            array = np.frombuffer(bytes.fromhex(data), detail["dtype"])
            self._interpreter.set_tensor(detail["index"], array.reshape(detail["shape"]))
        self._interpreter.invoke()
        return " ".join(
            self._interpreter.get_tensor(detail["index"]).tobytes().hex()
            for detail in self._interpreter.get_output_details()
        )


# For listings whose calls are: prompt, seed, settings in JSON.


def assert_texts_are_python_s(command, folder):
    """A program draws the texts that Python draws with the model in a folder."""
    app, model = Program(command, folder / "model.tflite"), keras_charlm.load(folder)
    for prompt in "the cat", "a cat, a mat" * 20, "":  # longer than what a call reads
        expected = model.generate(prompt, seed=3, length=100)
        assert prompt + app(prompt, 3, json.dumps({"length": 100})) == expected
    for setting in {"temperature": -1}, {"topP": 0}:
        assert app("the cat", 3, json.dumps(setting)) == "A setting is out of range."
    app.close()


def assert_lines_are_python_s(command, folder):
    """A program draws the lines that Python draws with the model of a list in a folder."""
    app, model = Program(command, folder / "model.tflite"), keras_charlm.load(folder)
    for seed in 1, 2, 3:
        expected = model.generate("a", seed=seed, length=500, temp=1.2, top_k=2, min_p=0.01)
        settings = {"stop": 10, "temperature": 1.2, "topK": 2, "minP": 0.01}
        assert "a" + app("a", seed, json.dumps(settings)) == expected
    app.close()
