"""A trained network in NumPy, run one character at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.network.equations import CELLS
from keras_charlm.network.names import EMBEDDING, LOGITS, recurrent_name
from keras_charlm.saved.trained import TrainedModel

_PIECE = 512  # characters computed at a time


class Piece(NamedTuple):
    """A piece of n characters as read by B copies of the network.

    surprise (n, B) in bits; probabilities (n, B, V) of the next character; hidden and, for LSTMs,
    cell (n, B, L, U); gates {name: (n, B, L, U)}; all float32.
    """

    surprise: np.ndarray
    probabilities: np.ndarray
    hidden: np.ndarray
    cell: np.ndarray | None
    gates: dict[str, np.ndarray]


class _Layer(NamedTuple):
    """Weights of a recurrent layer: kernel (D, G), recurrent (U, G), bias (G,), GRU's (2, G)."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray


class NumpyNetwork:
    """A trained network that exposes its states and gates, without TensorFlow.

    Args:
        config: Shape of the network, resolved.
        weights: Its weights by name, as in `network.model.named_weights`.
        start: Id read before a text.

    Attributes:
        kind: Kind of its cells, as in ModelConfig.
        gates: Names of the gates of its cells.
        layers: Weights of the recurrent layers, first to last.
        units: Cells in each of them, U.
        vocabulary: Number of symbols, V.
        table: Vector of each symbol that can be read, (V + L, D), those of labels last.
        logits: Kernel (U, V) and bias (V,) of the logits.
        start: Id that is read before a text.
        labels: Ids of labels that are read after it, int (n,).
        each_line: Whether they are read before each line, not only before the text.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, np.ndarray],
        start: int,
        labels: Sequence[int] = (),
        each_line: bool = False,
    ):
        assert config.layers is not None, "the configuration has to be resolved first"
        self.kind, self.start = config.cell, start
        self.labels, self.each_line = np.array(labels, np.int64), each_line
        self._cell = CELLS[config.cell]
        self.gates = self._cell.gates
        layers = (recurrent_name(config.cell, i) for i in range(config.layers))
        self.layers = [
            _Layer(*(weights[f"{name}/{w}"] for w in ("kernel", "recurrent_kernel", "bias")))
            for name in layers
        ]
        self.units = len(self.layers[0].recurrent)
        kernel, bias = weights[f"{LOGITS}/kernel"], weights[f"{LOGITS}/bias"]
        self.vocabulary = len(bias)
        # A one-hot vector selects a row of the kernel.
        self.table = (
            weights[f"{EMBEDDING}/embeddings"]
            if config.embedding
            else np.eye(len(self.layers[0].kernel), dtype=np.float32)
        )
        table = self.table[: self.vocabulary]  # labels have no logits
        self.logits = (kernel @ table.T if config.tied else kernel), bias

    @classmethod
    def of(cls, opened: TrainedModel, labels: str | Sequence[str] = ()) -> NumpyNetwork:
        """The network of a trained model, and the labels of the text that it reads."""
        ids = [label.id for label in opened.labels(labels)]
        weights = opened.bundle.weights()
        return cls(opened.card.model, weights, opened.start, ids, opened.card.lines)

    def read(self, ids: np.ndarray, hold: Sequence[tuple[int, int]] = ()) -> Iterator[Piece]:
        """Read the start symbol and a text, starting from a zero state.

        Args:
            ids: int32 (T,).
            hold: (layer, cell) of the cell that each copy holds at zero; if empty, a single intact
                copy reads the text.

        Yields:
            Pieces that cover the text in order.
        """
        copies = max(len(hold), 1)
        kept = np.ones((len(self.layers), copies, self.units), np.float32)
        for copy, (layer, unit) in enumerate(hold):
            kept[layer, copy, unit] = 0
        states = [
            [np.zeros((copies, self.units), np.float32) for _ in range(self._cell.states)]
            for _ in self.layers
        ]
        *_, logs = self._piece(np.append(self.start, self.labels), states, kept)
        before, ids = logs[-1:], self._with_labels(ids)  # (1, B, V)
        for at in range(0, len(ids), _PIECE):
            piece = ids[at : at + _PIECE]
            hidden, cell, gates, logs = self._piece(piece, states, kept)
            n = np.flatnonzero(piece < self.vocabulary)  # without labels
            given = np.concatenate([before, logs[:-1]])[n, :, piece[n]]
            before = logs[-1:]
            yield Piece(
                -given / math.log(2),
                np.exp(logs[n]),
                hidden[n],
                None if cell is None else cell[n],
                {name: gate[n] for name, gate in gates.items()},
            )

    def _with_labels(self, ids: np.ndarray) -> np.ndarray:
        """A text of ids (T,) with the labels before each line but the first."""
        if not (self.each_line and len(self.labels)):
            return ids
        begins = 1 + np.flatnonzero(ids[:-1] == self.start)
        count = len(self.labels)
        return np.insert(ids, np.repeat(begins, count), np.tile(self.labels, len(begins)))

    def _piece(
        self, ids: np.ndarray, states: list[list[np.ndarray]], kept: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray], np.ndarray]:
        """Run all layers over a piece of a text.

        Args:
            ids: (n,).
            states: The states of each layer, (B, U) each; replaced by the new ones.
            kept: (L, B, U), 0 for each cell that is held at zero and 1 for the others.

        Returns:
            hidden, cell and gates as in `Piece`, and log probabilities (n, B, V).
        """
        n, copies = len(ids), kept.shape[1]
        shape = (n, copies, len(self.layers), self.units)
        hidden = np.empty(shape, np.float32)
        cell = np.empty(shape, np.float32) if self._cell.states == 2 else None
        gates = {name: np.empty(shape, np.float32) for name in self.gates}
        x = np.repeat(self.table[ids][:, None], copies, axis=1)  # (n, B, D)
        for i, layer in enumerate(self.layers):
            projected, own = x @ layer.kernel, states[i]  # (n, B, G)
            for t in range(n):
                own, values = self._cell.step(
                    NUMPY, projected[t], own, layer.recurrent, layer.bias, kept[i]
                )
                hidden[t, :, i] = own[0]
                if cell is not None:
                    cell[t, :, i] = own[1]
                for gate, value in zip(gates.values(), values, strict=True):
                    gate[t, :, i] = value
            x, states[i] = hidden[:, :, i], own
        kernel, bias = self.logits
        return hidden, cell, gates, _log_softmax(x @ kernel + bias)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


# NumPy as an `equations.Library`.
NUMPY = SimpleNamespace(sigmoid=_sigmoid, tanh=np.tanh, split=np.split)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log softmax along the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
