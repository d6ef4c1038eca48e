"""What a trained network does while it reads: its cells, gates, guesses and surprise.

The network is run in NumPy, one character after the other from the text's beginning, so that every
gate can be seen and a cell can be held at zero. Layers and cells are counted from 0, as in the
arrays and in the Keras model (`lstm_0`, `lstm_1`, ...).

Letters in shapes: T characters of the text, L layers, U cells a layer, V ids of the vocabulary, K
guesses, n steps of a piece, B copies of the network that read side by side, G columns of a kernel
(4U for LSTM, 3U for GRU, U for plain layers).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_charlm import probes
from keras_charlm.config import CorpusConfig, InspectConfig
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.vocabulary import UNKNOWN, normalize

if TYPE_CHECKING:
    import keras

    from keras_charlm.charlm import CharLM

GATES = {"lstm": ("input", "forget", "output"), "gru": ("update", "reset"), "rnn": ()}
ARRAYS = ("hidden", "cell", "gates", "probabilities")
GUESSES = 5
LEFT, RIGHT = 0.1, 0.9  # a gate below the one is left-saturated, above the other right-saturated
_PIECE = 512  # steps worked out at a time
_SIDE_BY_SIDE = 16  # copies that read at a time, each with another cell held at zero


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
        from keras_charlm.bundle import replace_file

        arrays = {name: value for name, value in vars(self).items()
                  if isinstance(value, np.ndarray)}
        arrays |= {f"{name}_gate": value for name, value in (self.gates or {}).items()}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

        replace_file(Path(path), write)


def activations(model: CharLM | str | Path, text: str | bytes | Path, *,
                keep: Sequence[str] = ARRAYS) -> Activations:
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
    opened = _opened(model)
    codes = read_codes(opened, text)
    network = Network.of(opened)
    size = len(codes)
    shape = (size, len(network.layers), network.units)
    guesses = min(GUESSES, network.vocabulary - 1)
    gates = {name: np.empty(shape, np.float16) for name in network.gates} \
        if "gates" in keep else None
    found = Activations(
        codes, np.empty(size, np.float32), np.empty((size, guesses), np.int64),
        np.empty((size, guesses), np.float32),
        np.empty(shape, np.float16) if "hidden" in keep else None,
        np.empty(shape, np.float16) if "cell" in keep and network.kind == "lstm" else None,
        gates,
        np.empty((size, network.vocabulary), np.float32) if "probabilities" in keep else None)
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
    known = probabilities[:, UNKNOWN + 1:]
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


class Network:
    """A trained model's weights as NumPy arrays, to be run one character at a time."""

    def __init__(self, model: keras.Model, start: int):
        """Take the weights over.

        Args:
            model: A network of `model.build`.
            start: Id that is read before a text.
        """
        from keras_charlm import model as network
        from keras_charlm.layers import TiedDense

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
    def of(cls, opened: CharLM) -> Network:
        """The network of a trained model."""
        return cls(opened.model, int(opened.vocabulary.lookup(np.array([opened.card.start]))[0]))

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
        states = [[np.zeros((copies, self.units), np.float32) for _ in range(count)]
                  for _ in self.layers]
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
            _STEPS[self.kind](projected, layer, states[i], keep[i], hidden[:, :, i],
                              None if cell is None else cell[:, :, i],
                              [gates[name][:, :, i] for name in self.gates])
            x = hidden[:, :, i]
        kernel, bias = self.logits
        return hidden, cell, gates, _log_softmax(x @ kernel + bias)


# Each runs a layer over projected inputs x (n, B, G) from its states, which it replaces, and fills
# hidden (n, B, U), cell (n, B, U) and the gates, each (n, B, U). `keep` (B, U) is 0 for cells that
# are held at zero. The order of a kernel's columns is that of Keras.

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


@dataclass(frozen=True)
class Ablation:
    """What it costs to hold a cell at zero while the text is read.

    Attributes:
        layer, cell: Which.
        bits: Bits per character more than the whole network, over all characters.
        probe: The probe that the cell scored best on, or None where no probe was tried.
        inside, outside: Bits per character more, of the characters that follow one where the
            probe's feature holds (a number: is above its median), and of the others.
        inside_characters: How many the former are.
    """

    layer: int
    cell: int
    bits: float
    probe: str | None = None
    inside: float | None = None
    outside: float | None = None
    inside_characters: int = 0


@dataclass(frozen=True)
class Inspection:
    """All that `inspect` found: the data of the page and of --json.

    Attributes:
        model: Name, cell, layers, units and more of the model.
        unit: char or byte.
        name: What the text is called.
        left_out: Characters of the file behind those that were read.
        unknown: How many of the characters the model has never seen.
        codes, surprise, guesses, guess_probabilities: As in Activations.
        shown: What `values` are: `cell`, the tanh of an LSTM's cell state, or `hidden`.
        values: int8 (L, U, T), 127 times the activation of each cell: it runs from -1 to 1, and
            going through a text cell by cell is what probing and drawing do.
        saturation: {gate: float32 (2, L, U)}, the share of characters at which the gate of a cell
            is left-saturated (below 0.1) and right-saturated (above 0.9).
        search: What the probes found.
        ablations: What cells cost that were held at zero.
    """

    model: dict[str, Any]
    unit: str
    name: str
    left_out: int
    unknown: int
    codes: np.ndarray
    surprise: np.ndarray
    guesses: np.ndarray
    guess_probabilities: np.ndarray
    shown: str
    values: np.ndarray
    saturation: dict[str, np.ndarray]
    search: probes.Search
    ablations: tuple[Ablation, ...]
    config: InspectConfig

    @property
    def bits_per_character(self) -> float:
        return float(self.surprise.mean(dtype=np.float64))

    def place(self, index: int) -> tuple[int, int]:
        """Layer and cell of a cell counted through all layers."""
        return divmod(index, self.values.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """The findings as a JSON object, without the arrays over the text."""
        labels = self.search.labels()
        cells = []
        for index, label in enumerate(labels):
            layer, cell = self.place(index)
            finding = None if label is None else self.search.findings[label]
            cells.append({
                "layer": layer, "cell": cell, "probe": finding and finding.name,
                "first_half": finding and _number(finding.first[index]),
                "second_half": finding and _number(finding.second[index]),
                "gates": {name: {"left_saturated": _number(values[0, layer, cell]),
                                 "right_saturated": _number(values[1, layer, cell])}
                          for name, values in self.saturation.items()},
            })
        found = []
        for finding in self.search.findings:
            layer, cell = (None, None) if finding.cell is None else self.place(finding.cell)
            found.append({
                "probe": finding.name, "kind": finding.kind, "found": finding.found,
                "layer": layer, "cell": cell, "first_half": finding.score("first"),
                "second_half": finding.score("second"), "chance": _number(finding.chance),
                "untested": finding.untested})
        return {
            "model": self.model, "text": self.name, "characters": len(self.codes),
            "left_out": self.left_out, "unknown_characters": self.unknown,
            "bits_per_character": self.bits_per_character, "value": self.shown,
            "level": self.search.level, "tested": self.search.tested,
            "shifts": self.search.shifts, "probes": found,
            "ablations": [vars(ablation) for ablation in self.ablations], "cells": cells,
        }


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def inspect(model: CharLM | str | Path, text: str | bytes | Path, *, name: str | None = None,
            probe: Sequence[str] = (), ablate: Sequence[str] = (), **settings: Any) -> Inspection:
    """Read a text, and find out which cells follow a known feature of it.

    Args:
        model: A model, its folder, or its name under saved_models/.
        text: The text itself, or the Path of a file, which is read as the corpus was.
        name: What to call the text; by default the file's name.
        probe: Regular expressions; what they match are features beside the known ones.
        ablate: Cells to hold at zero, as 'LAYER:CELL'.
        **settings: Fields of InspectConfig.

    Returns:
        The findings; `inspector.write` makes a page of them.

    Raises:
        BundleError, CorpusError: The model or text cannot be read, or the text is empty.
        OptionError: A setting, an expression or a cell is wrong.

    Example:
        >>> found = inspect("saved_models/code", Path("main.c"), ablate=["1:37"])
        >>> print(summary(found))
    """
    config = _config(settings)
    for pattern in probe:
        probes.check(pattern)
    places = [_place(value) for value in ablate]
    opened = _opened(model)
    shape = opened.card.model
    for value, (layer, cell) in zip(ablate, places, strict=True):
        if layer >= shape.layers or cell >= shape.units:
            raise OptionError(f"There is no cell {value}; layers go from 0 to {shape.layers - 1} "
                              f"and cells from 0 to {shape.units - 1}.")
    codes = read_codes(opened, text)
    left_out = max(len(codes) - config.characters, 0)
    codes = codes[: config.characters]
    network = Network.of(opened)
    ids = opened.vocabulary.lookup(codes)
    size, layers, units = len(codes), len(network.layers), network.units
    shown = config.value if network.kind == "lstm" else "hidden"
    values = np.empty((layers, units, size), np.int8)
    surprise = np.empty(size, np.float32)
    top = np.empty((size, min(GUESSES, network.vocabulary - 1)), np.int64)
    likely = np.empty(top.shape, np.float32)
    saturated = {name: np.zeros((2, layers, units)) for name in network.gates}
    at = 0
    for piece in network.read(ids):
        here = slice(at, at := at + len(piece.surprise))
        surprise[here] = piece.surprise[:, 0]
        top[here], likely[here] = likeliest(piece.probabilities[:, 0], top.shape[1])
        value = np.tanh(piece.cell) if shown == "cell" else piece.hidden
        values[:, :, here] = np.rint(127 * value[:, 0]).transpose(1, 2, 0)
        for kind, gate in piece.gates.items():
            saturated[kind] += np.stack([gate < LEFT, gate > RIGHT]).sum((1, 2))
    features = probes.features(opened.vocabulary.from_codes(codes), probe)
    search = probes.search(values.reshape(-1, size), features, config.level)
    ablations = _ablate(network, ids, surprise, places, features, search)
    return Inspection(
        model=_about(opened), unit=opened.vocabulary.unit,
        name=name or (text.name if isinstance(text, Path) else "the text"), left_out=left_out,
        unknown=int((ids == UNKNOWN).sum()), codes=codes, surprise=surprise,
        guesses=np.array((-1, *opened.vocabulary.codes))[top], guess_probabilities=likely,
        shown=shown, values=values,
        saturation={kind: (sums / size).astype(np.float32) for kind, sums in saturated.items()},
        search=search, ablations=ablations, config=config)


def _ablate(network: Network, ids: np.ndarray, surprise: np.ndarray,
            places: Sequence[tuple[int, int]], features: dict[str, np.ndarray],
            search: probes.Search) -> tuple[Ablation, ...]:
    found = []
    for at in range(0, len(places), _SIDE_BY_SIDE):
        group = places[at : at + _SIDE_BY_SIDE]
        read = np.concatenate([piece.surprise for piece in network.read(ids, group)])  # (T, B)
        for (layer, cell), bits in zip(group, read.T, strict=True):
            cost = bits.astype(np.float64) - surprise
            finding = search.best_of(layer * network.units + cell)
            if finding is None:
                found.append(Ablation(layer, cell, float(cost.mean())))
                continue
            values = features[finding.name]
            holds = values if values.dtype == bool else values > np.median(values)
            # What is known after a character bears on the next one.
            inside = np.concatenate([[False], holds[:-1]])
            found.append(Ablation(layer, cell, float(cost.mean()), finding.name,
                                  float(cost[inside].mean()), float(cost[~inside].mean()),
                                  int(inside.sum())))
    return tuple(found)


def summary(found: Inspection) -> str:
    """The findings as a few lines for people."""
    width = max([len(f.name) for f in found.search.findings] + [20]) + 2
    rows = [f"{'probe':<{width}}{'cell':<8}{'first half':>11}{'held out':>10}{'chance':>8}"]
    for finding in found.search.ordered():
        if finding.found:
            layer, cell = found.place(finding.cell)
            rows.append(f"{finding.name:<{width}}{f'{layer}:{cell}':<8}"
                        f"{finding.score('first'):>+11.2f}{finding.score('second'):>+10.2f}"
                        f"{finding.chance:>8.2f}")
    rest = [f for f in found.search.findings if not f.found]
    for reason in dict.fromkeys(f.untested or "no cell beyond chance" for f in rest):
        names = [f.name for f in rest if (f.untested or "no cell beyond chance") == reason]
        rows.append(f"{reason}: {', '.join(names)}")
    for ablation in found.ablations:
        line = f"without {ablation.layer}:{ablation.cell}: {ablation.bits:+.4f} bits per character"
        if ablation.probe is not None:
            line += (f"; {ablation.inside:+.4f} where {ablation.probe} "
                     f"({ablation.inside_characters:,} characters), "
                     f"{ablation.outside:+.4f} elsewhere")
        rows.append(line)
    return "\n".join(rows)


def read_codes(opened: CharLM, text: str | bytes | Path) -> np.ndarray:
    """A text as the model reads it: code points or bytes, int64 (T,).

    Raises:
        CorpusError: The file cannot be read, or there is no text.
    """
    if isinstance(text, Path):
        from keras_charlm.corpus import prepare

        if text.is_dir():
            raise CorpusError(f"{text} is a folder; name one file.")
        values = {**opened.card.corpus_config.to_dict(), "lines": False}
        corpus = prepare([text], CorpusConfig.from_dict(values))
        return np.asarray(corpus.alphabet)[corpus.symbols].astype(np.int64)
    if isinstance(text, str):
        text = normalize(text, opened.card.normalize)
    codes = opened.vocabulary.to_codes(text)
    if not len(codes):
        raise CorpusError("The text is empty; give at least one character.")
    return codes


def _opened(model: CharLM | str | Path) -> CharLM:
    from keras_charlm.charlm import load

    return load(model) if isinstance(model, (str, Path)) else model


def _config(settings: dict[str, Any]) -> InspectConfig:
    names = InspectConfig().to_dict()
    if unknown := sorted(set(settings) - set(names)):
        raise OptionError(f"inspect has no setting {unknown[0]!r}; it has "
                          f"{', '.join(sorted([*names, 'ablate', 'probe']))}.")
    return InspectConfig(**settings)


def _place(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(value), re.ASCII)
    if not match:
        raise OptionError(f"{value!r} names no cell; write LAYER:CELL, counted from 0, e.g. 1:37.")
    return int(match[1]), int(match[2])


def _about(opened: CharLM) -> dict[str, Any]:
    card, shape = opened.card, opened.card.model
    return {"name": card.name, "run": card.run, "cell": shape.cell, "layers": shape.layers,
            "units": shape.units, "parameters": card.parameters}
