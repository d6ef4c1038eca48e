"""The recurrent cells in plain arithmetic: one time step of each, and what a cell consists of.

These functions run with any array library: with TensorFlow in the on-device graph, with NumPy in
the inspector. For training, `cells` has a version with analytic gradients. Importing this module
loads no library, so that code without TensorFlow can use the table `CELLS` too.

Letters in shapes: B rows, H units, G = blocks * H columns of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Array = Any  # a tensor or an array


class Library(Protocol):
    """The functions that these equations need; the module `tensorflow` has them."""

    sigmoid: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    split: Callable[..., Sequence[Array]]  # (x, number of equal parts, axis)


# (library, x (B, G), states (B, H) each, recurrent kernel (H, G), bias, kept) ->
# (new states, gates), (B, H) each. See `PlainCell.step`.
Step = Callable[..., tuple[list[Array], tuple[Array, ...]]]


@dataclass(frozen=True)
class PlainCell:
    """A kind of recurrent cell.

    Attributes:
        step: One time step. Its arguments are the library; the projected input x (B, G), without
            its bias; the states, (B, H) each, the output h first; the recurrent kernel (H, G);
            the bias, (G,) or, if it has several rows, (biases, G); and optionally `kept`
            (B, H), 0 for each unit that is held at zero and 1 for the others. It returns the new
            states and the gates, (B, H) each, in the order of `gates`.
        states: Number of states.
        gates: Names of the gates that `step` returns, all between 0 and 1.
        blocks: Blocks of H columns in the kernels: the gates and the candidate.
        biases: Rows of the bias.
    """

    step: Step
    states: int
    gates: tuple[str, ...]
    blocks: int
    biases: int


def _held(state: Array, kept: Array | None) -> Array:
    """The state with zeros where `kept` is 0; if `kept` is None, no operation is added."""
    return state if kept is None else state * kept


def _lstm(
    library: Library,
    x: Array,
    states: Sequence[Array],
    recurrent_kernel: Array,
    bias: Array,
    kept: Array | None = None,
) -> tuple[list[Array], tuple[Array, ...]]:
    h, c = states
    i, f, g, o = library.split(x + h @ recurrent_kernel + bias, 4, axis=1)
    i, f, o = library.sigmoid(i), library.sigmoid(f), library.sigmoid(o)
    c = _held(f * c + i * library.tanh(g), kept)
    return [o * library.tanh(c), c], (i, f, o)


def _gru(
    library: Library,
    x: Array,
    states: Sequence[Array],
    recurrent_kernel: Array,
    bias: Array,
    kept: Array | None = None,
) -> tuple[list[Array], tuple[Array, ...]]:
    (h,) = states
    xz, xr, xg = library.split(x + bias[0], 3, axis=1)
    uz, ur, ug = library.split(h @ recurrent_kernel + bias[1], 3, axis=1)
    z, r = library.sigmoid(xz + uz), library.sigmoid(xr + ur)
    h = z * h + (1 - z) * library.tanh(xg + r * ug)
    return [_held(h, kept)], (z, r)


def _rnn(
    library: Library,
    x: Array,
    states: Sequence[Array],
    recurrent_kernel: Array,
    bias: Array,
    kept: Array | None = None,
) -> tuple[list[Array], tuple[Array, ...]]:
    (h,) = states
    return [_held(library.tanh(x + h @ recurrent_kernel + bias), kept)], ()


CELLS = {
    "lstm": PlainCell(_lstm, 2, ("input", "forget", "output"), blocks=4, biases=1),
    "gru": PlainCell(_gru, 1, ("update", "reset"), blocks=3, biases=2),
    "rnn": PlainCell(_rnn, 1, (), blocks=1, biases=1),
}
