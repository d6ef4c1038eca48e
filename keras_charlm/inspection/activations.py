"""A trained network in NumPy: what every cell does at every character of a text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import UNKNOWN

if TYPE_CHECKING:
    import keras


GATES = {"lstm": ("input", "forget", "output"), "gru": ("update", "reset"), "rnn": ()}


ARRAYS = ("hidden", "cell", "gates", "probabilities")


GUESSES = 5


_PIECE = 512  # steps worked out at a time


@dataclass(frozen=True)
class Activations:
    """A network's activations over a text of T characters; what was not asked for is None.

    Attributes:
        codes: int64 (T,), the text: code points, or the bytes of a byte model.
        surprise: float32 (T,), -log2 of the probability that each character had before it was read,
            in bits. Their mean is the bits per character of `evaluate`.
        guesses: int64 (T, K), the codes of the K <= 5 likeliest characters after each, likeliest
            first. The unknown symbol, which sampling never draws, is left out.
        guess_probabilities: float32 (T, K), their probabilities.
        hidden: float16 (T, L, U), the output h of each cell after each character.
        cell: float16 (T, L, U), the cell state c; None but for LSTMs.
        gates: {name: float16 (T, L, U)}, between 0 and 1: `input`, `forget`, `output` for LSTMs;
            `update` (the share of the old state that is kept) and `reset` for GRUs; none else.
        probabilities: float32 (T, V), of each id of the vocabulary after each character.
    """

    codes: np.ndarray
    surprise: np.ndarray
    guesses: np.ndarray
    guess_probabilities: np.ndarray
    hidden: np.ndarray | None = None
    cell: np.ndarray | None = None
    gates: dict[str, np.ndarray] | None = None
    probabilities: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Write all arrays to a NumPy archive (.npz); gates as `input_gate` and so on."""
        from keras_charlm.files import replace_file

        arrays = {
            name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        arrays |= {f"{name}_gate": value for name, value in (self.gates or {}).items()}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

        replace_file(Path(path), write)


def activations(
    model: TrainedModel | str | Path, text: str | bytes | Path, *, keep: Sequence[str] = ARRAYS
) -> Activations:
    """Read a text and keep what every cell does at every character.

    Args:
        model: A model, its folder, or its name under saved_models/.
        text: The text itself, or the Path of a file, which is read as the corpus was.
        keep: Which of the large arrays to keep: `hidden`, `cell`, `gates`, `probabilities`. One of
            hidden, cell or a gate takes 2 * T * L * U bytes, probabilities 4 * T * V.

    Returns:
        The arrays; see Activations for their shapes.

    Raises:
        BundleError, CorpusError, OptionError: The model or text cannot be read, the text is empty,
            or `keep` names something else.

    Example:
        >>> found = keras_charlm.activations("saved_models/code", "if (x) { y(); }")
        >>> found.hidden[:, 1, 37]  # cell 37 of layer 1, after each of the 15 characters
    """
    if unknown := sorted(set(keep) - set(ARRAYS)):
        raise OptionError(f"activations cannot keep {unknown[0]!r}; it has {', '.join(ARRAYS)}.")
    opened = TrainedModel.of(model)
    codes = read_codes(opened, text)
    network = NumpyNetwork.of(opened)
    size = len(codes)
    shape = (size, len(network.layers), network.units)
    guesses = min(GUESSES, network.vocabulary - 1)
    gates = (
        {name: np.empty(shape, np.float16) for name in network.gates} if "gates" in keep else None
    )
    found = Activations(
        codes,
        np.empty(size, np.float32),
        np.empty((size, guesses), np.int64),
        np.empty((size, guesses), np.float32),
        np.empty(shape, np.float16) if "hidden" in keep else None,
        np.empty(shape, np.float16) if "cell" in keep and network.kind == "lstm" else None,
        gates,
        np.empty((size, network.vocabulary), np.float32) if "probabilities" in keep else None,
    )
    ids_to_codes = np.array((-1, *opened.vocabulary.codes))
    at = 0
    for piece in network.read(opened.vocabulary.lookup(codes)):
        here = slice(at, at := at + len(piece.surprise))
        found.surprise[here] = piece.surprise[:, 0]
        top, found.guess_probabilities[here] = likeliest(piece.probabilities[:, 0], guesses)
        found.guesses[here] = ids_to_codes[top]
        if found.hidden is not None:
            found.hidden[here] = piece.hidden[:, 0]
        if found.cell is not None:
            found.cell[here] = piece.cell[:, 0]
        for name, values in (found.gates or {}).items():
            values[here] = piece.gates[name][:, 0]
        if found.probabilities is not None:
            found.probabilities[here] = piece.probabilities[:, 0]
    return found


def likeliest(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` likeliest known ids, likeliest first.

    Args:
        probabilities: (n, V).

    Returns:
        Ids int64 (n, count) and their probabilities (n, count).
    """
    known = probabilities[:, UNKNOWN + 1 :]
    order = np.argsort(-known, axis=1, kind="stable")[:, :count]
    return order + UNKNOWN + 1, np.take_along_axis(known, order, axis=1)


class Piece(NamedTuple):
    """A stretch of n characters as B copies of the network read them.

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
    """A trained model's weights as NumPy arrays, to be run one character at a time."""

    def __init__(self, model: keras.Model, start: int):
        """Take the weights over.

        Args:
            model: A network of `model.build`.
            start: Id that is read before a text.
        """
        from keras_charlm.network import model as network
        from keras_charlm.network.layers import TiedDense

        layers = network.recurrent_layers(model)
        self.kind = next(k for k, cell in network.CELLS.items() if isinstance(layers[0], cell))
        self.gates = GATES[self.kind]
        self.layers = [_Layer(*layer.get_weights()) for layer in layers]
        self.units = len(self.layers[0].recurrent)
        logits = model.get_layer(network.LOGITS)
        kernel, bias = logits.get_weights()
        self.vocabulary = len(bias)
        table = model.get_layer(network.EMBEDDING).get_weights()
        self.logits = (kernel @ table[0].T if isinstance(logits, TiedDense) else kernel), bias
        # A one-hot vector picks a row of the kernel.
        self.table = table[0] if table else np.eye(self.vocabulary, dtype=np.float32)
        self.start = start

    @classmethod
    def of(cls, opened: TrainedModel) -> NumpyNetwork:
        """The network of a trained model."""
        return cls(opened.model, opened.start)

    def read(self, ids: np.ndarray, hold: Sequence[tuple[int, int]] = ()) -> Iterator[Piece]:
        """Read a text after the start symbol, from a clean state.

        Args:
            ids: int32 (T,).
            hold: (layer, cell) of each copy's cell that is held at zero; without any, one copy
                reads with all its cells.

        Yields:
            Pieces that cover the text in order.
        """
        copies = max(len(hold), 1)
        keep = np.ones((len(self.layers), copies, self.units), np.float32)
        for copy, (layer, cell) in enumerate(hold):
            keep[layer, copy, cell] = 0
        count = 2 if self.kind == "lstm" else 1
        states = [
            [np.zeros((copies, self.units), np.float32) for _ in range(count)] for _ in self.layers
        ]
        *_, before = self._piece(np.array([self.start]), states, keep)  # (1, B, V)
        for at in range(0, len(ids), _PIECE):
            piece = ids[at : at + _PIECE]
            hidden, cell, gates, logs = self._piece(piece, states, keep)
            given = np.concatenate([before, logs[:-1]])[np.arange(len(piece)), :, piece]
            before = logs[-1:]
            yield Piece(-given / math.log(2), np.exp(logs), hidden, cell, gates)

    def _piece(self, ids, states, keep):
        """Run all layers over ids (n,) and leave `states` as they are then."""
        n, copies = len(ids), keep.shape[1]
        shape = (n, copies, len(self.layers), self.units)
        hidden = np.empty(shape, np.float32)
        cell = np.empty(shape, np.float32) if self.kind == "lstm" else None
        gates = {name: np.empty(shape, np.float32) for name in self.gates}
        x = np.repeat(self.table[ids][:, None], copies, axis=1)  # (n, B, D)
        for i, layer in enumerate(self.layers):
            bias = layer.bias[0] if layer.bias.ndim == 2 else layer.bias
            projected = x @ layer.kernel + bias  # (n, B, G)
            _STEPS[self.kind](
                projected,
                layer,
                states[i],
                keep[i],
                hidden[:, :, i],
                None if cell is None else cell[:, :, i],
                [gates[name][:, :, i] for name in self.gates],
            )
            x = hidden[:, :, i]
        kernel, bias = self.logits
        return hidden, cell, gates, _log_softmax(x @ kernel + bias)


def _lstm(x, layer, states, keep, hidden, cell, gates):
    h, c = states
    inputs, forgets, outputs = gates
    for t in range(len(x)):
        z = x[t] + h @ layer.recurrent
        i, f, g, o = np.split(z, 4, axis=1)
        inputs[t], forgets[t], outputs[t] = i, f, o = _sigmoid(i), _sigmoid(f), _sigmoid(o)
        c = (f * c + i * np.tanh(g)) * keep
        h = o * np.tanh(c)
        hidden[t], cell[t] = h, c
    states[:] = h, c


def _gru(x, layer, states, keep, hidden, cell, gates):
    (h,) = states
    updates, resets = gates
    for t in range(len(x)):
        xz, xr, xg = np.split(x[t], 3, axis=1)
        uz, ur, ug = np.split(h @ layer.recurrent + layer.bias[1], 3, axis=1)
        updates[t], resets[t] = z, r = _sigmoid(xz + uz), _sigmoid(xr + ur)
        h = (z * h + (1 - z) * np.tanh(xg + r * ug)) * keep
        hidden[t] = h
    states[:] = (h,)


def _rnn(x, layer, states, keep, hidden, cell, gates):
    (h,) = states
    for t in range(len(x)):
        h = np.tanh(x[t] + h @ layer.recurrent) * keep
        hidden[t] = h
    states[:] = (h,)


_STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def _sigmoid(x):
    return 0.5 * np.tanh(0.5 * x) + 0.5


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def read_codes(opened: TrainedModel, text: str | bytes | Path) -> np.ndarray:
    """A text as the model reads it: code points or bytes, int64 (T,).

    Raises:
        CorpusError: The file cannot be read, or there is no text.
    """
    symbols, alphabet = opened.read(text)
    if not len(symbols):
        raise CorpusError("The text is empty; give at least one character.")
    return alphabet[symbols].astype(np.int64)
