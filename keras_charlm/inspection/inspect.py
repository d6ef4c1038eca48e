"""What a trained network does while it reads: its cells, gates, guesses and surprise.

The network is run in NumPy, one character at a time from the beginning of the text, so that every
gate can be seen and a cell can be held at zero. Layers and cells are counted from 0, as in the
arrays and in the Keras model (`lstm_0`, `lstm_1`, ...).

Letters in shapes: T characters of the text, L layers, U cells per layer, V ids of the vocabulary,
K guesses, B copies of the network that read in parallel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np

from keras_charlm.config import InspectConfig
from keras_charlm.errors import OptionError, brief
from keras_charlm.inspection import probes
from keras_charlm.inspection.activations import GUESSES, NumpyNetwork, likeliest, read_codes
from keras_charlm.saved.reading import InputText
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.settings import InspectSettings
from keras_charlm.text.vocabulary import UNKNOWN

# A gate below LEFT is left-saturated, above RIGHT right-saturated (Karpathy, Johnson and Fei-Fei,
# "Visualizing and Understanding Recurrent Networks", 2015, section 4.2).
LEFT, RIGHT = 0.1, 0.9
_SIDE_BY_SIDE = 16  # copies that read in parallel, each with a different cell held at zero


@dataclass(frozen=True)
class Ablation:
    """The cost of holding a cell at zero while the text is read.

    Attributes:
        layer, cell: The cell.
        bits: Increase in bits per character over the intact network, over all characters.
        probe: The feature that the cell follows or scores best on, or None if none was tested.
        inside, outside: The same over the characters that follow one where the feature holds (for
            a number: is above its median), and over the others; None if there are none.
        inside_characters: Number of characters behind `inside`.
    """

    layer: int
    cell: int
    bits: float
    probe: str | None = None
    inside: float | None = None
    outside: float | None = None
    inside_characters: int = 0

    @property
    def effect(self) -> str:
        """'costs' if switching the cell off raises the loss, 'helps' if it lowers it.

        'no effect' if the loss stays the same to the fourth decimal, the last one that is shown.
        """
        if round(self.bits, 4) == 0:
            return "no effect"
        return "costs" if self.bits > 0 else "helps"


@dataclass(frozen=True)
class Inspection:
    """The results of `inspect`: the data of the page and of --json.

    Attributes:
        model: Name, cell, layers, units and more of the model.
        unit: char or byte.
        name: Name of the text.
        left_out: Number of characters of the file that were not read.
        unknown: Number of characters outside the vocabulary.
        codes, surprise, guesses, guess_probabilities: As in Activations.
        shown: Kind of `values`: `cell`, the tanh of an LSTM's cell state, or `hidden`.
        values: int8 (L, U, T), each cell's activation, between -1 and 1, times 127. Time is the
            last axis because probing and drawing read one cell after the other.
        saturation: {gate: float32 (2, L, U)}, the share of characters at which a cell's gate is
            left-saturated (below 0.1) and right-saturated (above 0.9).
        search: The findings of the probes.
        ablations: The costs of the cells that were held at zero.
        config: The settings.
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
        """The mean of `surprise`; equals the score of `evaluate`."""
        return float(self.surprise.mean(dtype=np.float64))

    def locate(self, index: int) -> tuple[int, int]:
        """Layer and cell of an index that counts the cells of all layers."""
        return divmod(index, self.values.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """The findings as a JSON object, without the arrays over the text."""
        return {
            "model": self.model,
            "text": self.name,
            "characters": len(self.codes),
            "left_out": self.left_out,
            "unknown_characters": self.unknown,
            "bits_per_character": self.bits_per_character,
            "value": self.shown,
            "level": self.search.level,
            "tested": self.search.tested,
            "shifts": self.search.shifts,
            "probes": [self._probe(result) for result in self.search.results],
            "ablations": [vars(a) | {"effect": a.effect} for a in self.ablations],
            "cells": [self._cell(*label) for label in enumerate(self.search.labels())],
        }

    def _probe(self, result: probes.Finding | probes.Untested) -> dict[str, Any]:
        """The result for a feature."""
        values: dict[str, Any] = dict.fromkeys(
            ("layer", "cell", "first_half", "second_half", "chance", "match")
        )
        values |= {"probe": result.name, "kind": result.kind, "found": False, "untested": None}
        if isinstance(result, probes.Untested):
            return values | {"untested": result.reason}
        layer, cell = self.locate(result.cell)
        return values | {
            "found": result.found,
            "layer": layer,
            "cell": cell,
            "first_half": result.score("first"),
            "second_half": result.score("second"),
            "chance": _rounded(result.chance),
            "match": result.match(result.cell) if result.found else None,
        }

    def _cell(self, index: int, label: probes.Finding | None) -> dict[str, Any]:
        """A cell, the feature that it is labelled with, and how saturated its gates are."""
        layer, cell = self.locate(index)
        return {
            "layer": layer,
            "cell": cell,
            "probe": label and label.name,
            "first_half": label and _rounded(label.first[index]),
            "second_half": label and _rounded(label.second[index]),
            "gates": {
                name: {
                    "left_saturated": _rounded(values[0, layer, cell]),
                    "right_saturated": _rounded(values[1, layer, cell]),
                }
                for name, values in self.saturation.items()
            },
        }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def inspect(
    model: TrainedModel | str | Path,
    text: str | bytes | Path | InputText,
    *,
    probe: Sequence[str] = (),
    ablate: Sequence[str] = (),
    **settings: Unpack[InspectSettings],
) -> Inspection:
    """Read a text, and find out which cells follow a known feature of it.

    Args:
        model: A model, its folder, or its name under saved_models/.
        text: The text itself; the Path of a file, '-' for stdin; or what `TrainedModel.read` gave.
        probe: Regular expressions to use as features, besides the built-in ones.
        ablate: Cells to hold at zero, as 'LAYER:CELL'.
        **settings: Fields of InspectConfig.

    Returns:
        The findings; `page.write` writes them as a page.

    Raises:
        BundleError, CorpusError: The model or text cannot be read, or the text is empty.
        OptionError: A setting, an expression or a cell is wrong.

    Example:
        >>> found = inspect("saved_models/code", Path("main.c"), ablate=["1:37"])
        >>> print(summary(found))
    """
    config = InspectConfig.of("inspect", settings, "ablate", "probe")
    for pattern in probe:
        probes.check(pattern)
    cells = [_parse(value) for value in ablate]
    opened = TrainedModel.of(model)
    _check(cells, opened)
    text = opened.read(text)
    codes = read_codes(opened, text)
    left_out = max(len(codes) - config.characters, 0)
    codes = codes[: config.characters]
    network = NumpyNetwork.of(opened, config.labels)
    ids = opened.vocabulary.lookup(codes)
    reading = _read(network, ids, config.value)
    features = probes.features(opened.vocabulary.from_codes(codes), probe)
    search = probes.search(reading.values.reshape(-1, len(codes)), features, config.level)
    return Inspection(
        model=_about(opened),
        unit=opened.vocabulary.unit,
        name=_name(text),
        left_out=left_out,
        unknown=int((ids == UNKNOWN).sum()),
        codes=codes,
        surprise=reading.surprise,
        guesses=opened.vocabulary.codes_by_id[reading.guesses],
        guess_probabilities=reading.guess_probabilities,
        shown=reading.shown,
        values=reading.values,
        saturation=reading.saturation,
        search=search,
        ablations=_ablate(network, ids, reading.surprise, cells, features, search),
        config=config,
    )


class _Reading(NamedTuple):
    """The network's activity over a text; as in Inspection, but `guesses` are ids."""

    surprise: np.ndarray
    guesses: np.ndarray
    guess_probabilities: np.ndarray
    shown: str
    values: np.ndarray
    saturation: dict[str, np.ndarray]


def _read(network: NumpyNetwork, ids: np.ndarray, shown: str) -> _Reading:
    """Read ids (T,), and record `shown` of each cell if the network has it."""
    size, layers, units = len(ids), len(network.layers), network.units
    shown = shown if network.kind == "lstm" else "hidden"
    values = np.empty((layers, units, size), np.int8)
    surprise = np.empty(size, np.float32)
    top = np.empty((size, min(GUESSES, network.vocabulary - 1)), np.int64)
    likely = np.empty(top.shape, np.float32)
    saturated = {name: np.zeros((2, layers, units)) for name in network.gates}
    at = 0
    for piece in network.read(ids):  # n characters of one copy: (n, 1, ...)
        here = slice(at, at := at + len(piece.surprise))
        surprise[here] = piece.surprise[:, 0]
        top[here], likely[here] = likeliest(piece.probabilities[:, 0], top.shape[1])
        if shown == "cell" and piece.cell is not None:
            activation = np.tanh(piece.cell)
        else:
            activation = piece.hidden
        values[:, :, here] = np.rint(127 * activation[:, 0]).transpose(1, 2, 0)
        for name, gate in piece.gates.items():
            saturated[name] += np.stack([gate < LEFT, gate > RIGHT]).sum((1, 2))
    saturation = {name: (sums / size).astype(np.float32) for name, sums in saturated.items()}
    return _Reading(surprise, top, likely, shown, values, saturation)


def _ablate(
    network: NumpyNetwork,
    ids: np.ndarray,
    surprise: np.ndarray,
    cells: Sequence[tuple[int, int]],
    features: dict[str, np.ndarray],
    search: probes.Search,
) -> tuple[Ablation, ...]:
    """Read ids (T,) with each of the cells held at zero, and compare with `surprise` (T,)."""
    ablations = []
    for at in range(0, len(cells), _SIDE_BY_SIDE):
        group = cells[at : at + _SIDE_BY_SIDE]
        held = np.concatenate([piece.surprise for piece in network.read(ids, group)])  # (T, B)
        for (layer, cell), bits in zip(group, held.T, strict=True):
            cost = bits.astype(np.float64) - surprise
            finding = search.best_of(layer * network.units + cell)
            if finding is None:
                ablations.append(Ablation(layer, cell, float(cost.mean())))
                continue
            values = features[finding.name]
            holds = values if values.dtype == bool else values > np.median(values)
            # The state after a character predicts the next one.
            inside = np.concatenate([[False], holds[:-1]])
            ablations.append(
                Ablation(
                    layer,
                    cell,
                    float(cost.mean()),
                    finding.name,
                    float(cost[inside].mean()) if inside.any() else None,
                    float(cost[~inside].mean()) if not inside.all() else None,
                    int(inside.sum()),
                )
            )
    return tuple(ablations)


def summary(found: Inspection) -> str:
    """The findings as a few lines for the terminal.

    Scores are positive: the sign of a cell that is low where its feature holds is flipped.
    """
    search = found.search
    width = max([len(result.name) for result in search.results] + [20]) + 2
    rows = [
        f"{'feature':<{width}}{'cell':<8}{'first half':>11}{'held out':>10}{'chance':>8}  match"
    ]
    reasons: dict[str, list[str]] = {}
    for finding in search.ordered():
        if finding.found:
            layer, cell = found.locate(finding.cell)
            sign = finding.sign(finding.cell)
            rows.append(
                f"{finding.name:<{width}}{f'{layer}:{cell}':<8}"
                f"{sign * finding.score('first'):>11.2f}{sign * finding.score('second'):>10.2f}"
                f"{finding.chance:>8.2f}  {finding.match(finding.cell)}"
                + (", sign flipped" if sign < 0 else "")
            )
    for result in search.results:
        if isinstance(result, probes.Untested):
            reasons.setdefault(result.reason, []).append(result.name)
        elif not result.found:
            reasons.setdefault("no cell beyond chance", []).append(result.name)
    rows += [f"{reason}: {', '.join(names)}" for reason, names in reasons.items()]
    return "\n".join(rows + [_ablation_line(ablation) for ablation in found.ablations])


def _ablation_line(ablation: Ablation) -> str:
    """The effect of holding a cell at zero, as a line for the terminal."""
    line = f"without {ablation.layer}:{ablation.cell}: {ablation.bits:+.4f} bits per character"
    if ablation.effect != "costs":
        line += {"helps": ", switching it off helps", "no effect": ", no effect"}[ablation.effect]
    if ablation.inside is not None and ablation.outside is not None:
        line += (
            f"; {ablation.inside:+.4f} where {ablation.probe} "
            f"({ablation.inside_characters:,} characters), "
            f"{ablation.outside:+.4f} elsewhere"
        )
    return line


def _name(text: InputText) -> str:
    """The name of a text in the output."""
    return "the text" if text.path is None else Path(text.name).name


def _parse(value: str) -> tuple[int, int]:
    """Layer and cell of 'LAYER:CELL'."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(value), re.ASCII)
    if not match:
        raise OptionError(
            f"{brief(repr(value))} is not a cell; write LAYER:CELL, counted from 0, e.g. 1:37."
        )
    return int(match[1]), int(match[2])


def _check(cells: Sequence[tuple[int, int]], opened: TrainedModel) -> None:
    """Raise OptionError unless the model has these cells."""
    layers, units = opened.card.model.layers or 0, opened.card.model.units or 0
    for layer, cell in cells:
        if layer >= layers or cell >= units:
            raise OptionError(
                f"There is no cell {layer}:{cell}; layers go from 0 to {layers - 1} "
                f"and cells from 0 to {units - 1}."
            )


def _about(opened: TrainedModel) -> dict[str, Any]:
    """The facts about a model that the page shows."""
    card, shape = opened.card, opened.card.model
    return {
        "name": card.name,
        "run": card.run,
        "cell": shape.cell,
        "layers": shape.layers,
        "units": shape.units,
        "parameters": card.parameters,
    }
