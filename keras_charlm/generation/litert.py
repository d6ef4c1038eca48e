"""Run the on-device file with LiteRT, and score a text with it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_charlm import cpu
from keras_charlm.display import quiet
from keras_charlm.errors import BundleError
from keras_charlm.text.vocabulary import Vocabulary

THREADS_FROM = 2_000_000  # bytes of weights, about the size of a core's private cache


class SignatureRunner(Protocol):
    """Runs the signatures of a network, from a .tflite file or from a TensorFlow graph.

    Attributes:
        rows: Rows of `generate_batch` (B).
        read_width, draw_width: Maximum characters that a call of `generate` reads (P) and draws
            (N).
        score_width: Maximum characters that a call of `score` reads.
        state_size: Width of the state (S).
        rule_size: Further columns that the state of `generate` has: 1 if the file has a rule of its
            own, else 0.
    """

    rows: int
    read_width: int
    draw_width: int
    score_width: int
    state_size: int
    rule_size: int

    def __call__(self, signature: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:  # pyright: ignore[reportReturnType]
        """Run a signature; `export.graph.OnDeviceGraph` describes its inputs and outputs."""


class Runner:
    """A SignatureRunner that runs an on-device file with LiteRT.

    It may be used in several threads, which wait for each other, and in the child of a fork.

    Args:
        file: Path or content of the .tflite file.
        num_threads: Threads for the matrix products; by default one for a small model, and up to
            four for one that does not fit in the cache of a core.

    Raises:
        BundleError: The file is missing, damaged or not such a file.
    """

    def __init__(self, file: str | Path | bytes, num_threads: int | None = None):
        try:
            source: dict[str, Any]
            if isinstance(file, bytes):
                size, source = len(file), {"model_content": file}
            else:
                size, source = Path(file).stat().st_size, {"model_path": str(file)}
            if num_threads is None:
                num_threads = 1 if size < THREADS_FROM else min(4, cpu.cores())
            self._source = {**source, "num_threads": num_threads}
            self._open()
            inputs = {n: s.get_input_details() for n, s in self._signatures.items()}
            outputs = self._signatures["generate"].get_output_details()
            self.rows, self.read_width = map(int, inputs["generate_batch"]["text"]["shape"])
            self.draw_width = int(outputs["text"]["shape"][1])
            self.state_size = int(inputs["step"]["state"]["shape"][1])
            self.rule_size = int(inputs["generate"]["state"]["shape"][1]) - self.state_size
            self.score_width = int(inputs["score"]["text"]["shape"][1])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            name = "The model's content" if isinstance(file, bytes) else str(file)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BundleError(
                f"{name} is not a readable on-device model ({reason}); copy or export it again."
            ) from error

    def __call__(self, signature: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run a signature; `export.graph.OnDeviceGraph` describes its inputs and outputs."""
        if self._process != os.getpid():  # LiteRT's threads are not in the child of a fork
            self._open()
        with self._lock:
            return self._signatures[signature](**arrays)

    def _open(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._process, self._lock = os.getpid(), threading.Lock()
        with quiet():
            interpreter = Interpreter(**self._source)
            interpreter.allocate_tensors()  # logs which delegate it uses
        self._signatures = {
            name: interpreter.get_signature_runner(name)
            for name in interpreter.get_signature_list()
        }


def score_text(
    runner: SignatureRunner,
    vocabulary: Vocabulary,
    text: str | bytes | np.ndarray,
    state: np.ndarray | None = None,
) -> tuple[int, float, int]:
    """Measure how well the model predicts a text.

    Args:
        runner: Runs the model.
        vocabulary: The model's characters.
        text: Normalized like the corpus, or its codes (N,); characters outside the vocabulary
            count as unknown.
        state: State to start from, float32 (1, S); by default all zeros.

    Returns:
        The number of predicted characters (all but the first), the sum of -log2 p over them in
        bits, and how many of them the model ranked first.
    """
    codes = text if isinstance(text, np.ndarray) else vocabulary.to_codes(text)
    if state is None:
        state = np.zeros((1, runner.state_size), np.float32)
    bits, correct = 0.0, 0
    for at in range(0, len(codes) - 1, runner.score_width - 1):
        piece = np.zeros((1, runner.score_width), np.int32)
        part = codes[at : at + runner.score_width]
        piece[0, : len(part)] = part
        out = runner("score", text=piece, text_length=np.array([len(part)], np.int32), state=state)
        bits, correct = bits + float(out["bits"][0]), correct + int(out["correct"][0])
        state = out["state"]
    return max(len(codes) - 1, 0), bits, correct


def score_characters(
    runner: SignatureRunner, codes: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Like `score_text`, but for each character.

    Args:
        runner: Runs the model.
        codes: Codes of a text (N,).
        ids: Their ids in the model's vocabulary (N,).

    Returns:
        -log2 p of every character but the first, float32 (N - 1,), and whether the model ranked it
        first, bool (N - 1,).
    """
    state = np.zeros((1, runner.state_size), np.float32)
    bits, likeliest = np.zeros(len(codes) - 1, np.float32), np.zeros(len(codes) - 1, bool)
    for at, target in enumerate(ids[1:].tolist()):
        out = runner("step", text=codes[at : at + 1].astype(np.int32), state=state)
        logits, state = out["logits"][0], out["state"]
        top = logits.max()
        if target >= len(logits):  # a label, which is not predicted
            continue
        bits[at] = (np.log(np.exp(logits - top).sum()) + top - logits[target]) / np.log(2)
        likeliest[at] = int(np.argmax(logits)) == target
    return bits, likeliest
