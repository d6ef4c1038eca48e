"""The activations of every cell of a trained network at every character of a text, as arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.files import replace_file
from keras_charlm.inspection.numpy_network import NumpyNetwork
from keras_charlm.saved.reading import InputText
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import UNKNOWN

ARRAYS = ("hidden", "cell", "gates", "probabilities")
GUESSES = 5  # most likely next characters that are kept


@dataclass(frozen=True)
class Activations:
    """A network's activations over a text of T characters; what is not in `keep` is None.

    L layers have U cells each; V is the size of the vocabulary.

    Attributes:
        codes: int64 (T,), the text: code points, or the bytes of a byte model.
        surprise: float32 (T,), -log2 of the predicted probability of each character, in bits. The
            mean is the bits per character of `evaluate`.
        guesses: int64 (T, K), the codes of the K <= 5 most likely next characters, most likely
            first, without the unknown symbol, which sampling never draws.
        guess_probabilities: float32 (T, K), their probabilities.
        hidden: float16 (T, L, U), the hidden state h of each cell after each character.
        cell: float16 (T, L, U), the cell state c; LSTM only, otherwise None.
        gates: {name: float16 (T, L, U)}, between 0 and 1: `input`, `forget`, `output` for LSTMs;
            `update` (the share of the old state that is kept) and `reset` for GRUs; else empty.
        probabilities: float32 (T, V), of each id as the next character, after each character.
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
        """Write all arrays to a NumPy archive (.npz), gates as `input_gate` and so on.

        Args:
            path: The file, which is replaced atomically.

        Raises:
            OSError: It cannot be written.
        """
        arrays: dict[str, Any] = {
            name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        arrays |= {f"{name}_gate": value for name, value in (self.gates or {}).items()}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

        replace_file(Path(path), write)


def activations(
    model: TrainedModel | str | Path,
    text: str | bytes | Path | InputText,
    *,
    keep: Sequence[str] = ARRAYS,
    labels: str | Sequence[str] = (),
) -> Activations:
    """Read a text and record the activation of every cell at every character.

    Args:
        model: A model, its folder, or its name under saved_models/.
        text: The text itself, or the Path of a file, which is read like the corpus; or what
            `TrainedModel.read` returned.
        keep: Which of the large arrays to keep: `hidden`, `cell`, `gates`, `probabilities`. Each
            of hidden, cell and the gates takes 2 * T * L * U bytes, probabilities 4 * T * V.
        labels: Labels of the text, or of each of its lines for a model of lines.

    Returns:
        The arrays; see Activations for their shapes.

    Raises:
        BundleError: The model cannot be read.
        CorpusError: The text cannot be read, or is empty.
        OptionError: `keep` names another array, or the model has no such label.

    Example:
        >>> found = keras_charlm.activations("saved_models/code", "if (x) { y(); }")
        >>> found.hidden[:, 1, 37]  # cell 37 of layer 1, after each of the 15 characters
    """
    if unknown := sorted(set(keep) - set(ARRAYS)):
        raise OptionError(f"activations cannot keep {unknown[0]!r}; it has {', '.join(ARRAYS)}.")
    opened = TrainedModel.of(model)
    codes = read_codes(opened, text)
    network = NumpyNetwork.of(opened, labels)
    found = _empty(network, codes, keep)
    ids_to_codes = opened.vocabulary.codes_by_id
    at = 0
    for piece in network.read(opened.vocabulary.lookup(codes)):
        here = slice(at, at := at + len(piece.surprise))
        found.surprise[here] = piece.surprise[:, 0]
        top, likely = likeliest(piece.probabilities[:, 0], found.guesses.shape[1])
        found.guess_probabilities[here] = likely
        found.guesses[here] = ids_to_codes[top]
        if found.hidden is not None:
            found.hidden[here] = piece.hidden[:, 0]
        if found.cell is not None and piece.cell is not None:
            found.cell[here] = piece.cell[:, 0]
        for name, values in (found.gates or {}).items():
            values[here] = piece.gates[name][:, 0]
        if found.probabilities is not None:
            found.probabilities[here] = piece.probabilities[:, 0]
    return found


def _empty(network: NumpyNetwork, codes: np.ndarray, keep: Collection[str]) -> Activations:
    """Uninitialized activations over a text of codes (T,), with the arrays in `keep`."""
    size = len(codes)
    shape = (size, len(network.layers), network.units)
    guesses = min(GUESSES, network.vocabulary - 1)
    gates = {name: np.empty(shape, np.float16) for name in network.gates}
    return Activations(
        codes,
        surprise=np.empty(size, np.float32),
        guesses=np.empty((size, guesses), np.int64),
        guess_probabilities=np.empty((size, guesses), np.float32),
        hidden=np.empty(shape, np.float16) if "hidden" in keep else None,
        cell=np.empty(shape, np.float16) if "cell" in keep and network.kind == "lstm" else None,
        gates=gates if "gates" in keep else None,
        probabilities=(
            np.empty((size, network.vocabulary), np.float32) if "probabilities" in keep else None
        ),
    )


def likeliest(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The most likely ids without the unknown symbol, most likely first.

    Args:
        probabilities: (n, V).
        count: How many, K.

    Returns:
        Ids int64 (n, K) and their probabilities (n, K).
    """
    known = probabilities[:, UNKNOWN + 1 :]
    order = np.argsort(-known, axis=1, kind="stable")[:, :count]
    return order + UNKNOWN + 1, np.take_along_axis(known, order, axis=1)


def read_codes(opened: TrainedModel, text: str | bytes | Path | InputText) -> np.ndarray:
    """A text as the model reads it: code points or bytes, int64 (T,).

    Raises:
        CorpusError: The file cannot be read, or the text is empty.
    """
    codes = opened.read(text).codes()
    if not len(codes):
        raise CorpusError("The text is empty; give at least one character.")
    return codes
