"""The loops over time of the fast path, forward and backward.

They contain only the sequential part: the recurrent product and the element-wise cell. For a small
layer the whole loop is one XLA program, including the products. For a large layer oneDNN's products
are faster, and XLA compiles only the cell.

Letters in shapes: B sequences, T time steps, H units, G gate columns of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_charlm.network.cells import Carry, Cell
from keras_charlm.network.dispatch import fused
from keras_charlm.network.tensors import wide

# Maximum time steps in one iteration of `scan`, whose overhead is about the cost of a small cell.
UNROLLED = 10

# oneDNN reorders the right factor of a product in memory at every call, which for few rows takes
# longer than the product. From this many units per row on, the transposed product, with the kernel
# on the left, is faster; in the forward pass only in bfloat16.
_THIN = 10

# Up to this many multiplications per step and gate, the whole loop is one XLA program.
_SMALL = 1 << 20


def forward(
    cell: Cell,
    x: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    h: tf.Tensor,
    carry: Carry,
    save: bool,
) -> tuple[tf.Tensor, tf.Tensor, Carry, list[tf.Tensor]]:
    """Run a cell over projected inputs.

    Args:
        cell: The cell.
        x: (T, B, G).
        recurrent_kernel: (H, G).
        bias: (G,), or (2, G) for the GRU.
        h: The output before the first step, (B, H), float32 or wider.
        carry: (B, H) each, float32 or wider.
        save: Whether to keep what `backward` needs.

    Returns:
        outputs (T, B, H), last h, last carry, and the saved tensors, empty unless `save`.
    """
    batch, units = h.shape
    if _in_one_program(x, h):
        (h, carry), emitted = _forward_program(
            cell, _bits(x), wide(recurrent_kernel), wide(bias), h, carry, save, x.dtype
        )
        outputs, *saved = (tf.bitcast(e, x.dtype) for e in emitted)
        return outputs, h, carry, saved

    product = _product(recurrent_kernel, batch)

    def step(x, h, carry):
        h, carry, *saved = _forward_step(cell, x, product(h), bias, carry, save)
        return (h, carry), [h, *saved]

    shapes = [(batch, units), (batch, cell.saves, units)][: 1 + save]
    (h, carry), (outputs, *saved) = scan(step, [x], (tf.cast(h, x.dtype), carry), shapes)
    outputs = _whole(outputs)
    outputs.set_shape((x.shape[0], batch, units))  # the loop loses the static shape
    return outputs, wide(h), carry, saved


def backward(
    cell: Cell,
    recurrent_kernel: tf.Tensor,
    saved: list[tf.Tensor],
    doutputs: tf.Tensor,
    dh: tf.Tensor,
    dcarry: Carry,
) -> tuple[tf.Tensor, Carry, list[tf.Tensor]]:
    """Gradients of the projections, given those of the results of `forward`.

    Args:
        cell: The cell.
        recurrent_kernel: (H, G).
        saved: The tensors that `forward` saved.
        doutputs: (T, B, H).
        dh: (B, H).
        dcarry: (B, H) each.

    Returns:
        gradients of the initial h and carry, and [dx, du] or [dx], (T, B, G) each.
    """
    if _in_one_program(doutputs, dh):
        dtype, transposed = doutputs.dtype, wide(tf.transpose(recurrent_kernel))
        (dh, dcarry), gradients = _backward_program(
            cell, transposed, [*map(_bits, saved)], _bits(doutputs), dh, dcarry, dtype
        )
        return dh, dcarry, [tf.bitcast(g, dtype) for g in gradients]

    batch, _ = dh.shape
    product = _product(recurrent_kernel, batch, transposed=True)

    def step(doutput, saved, dh, dcarry):
        dcarry, dx_du = _backward_step(cell, doutput, dh, dcarry, saved)
        return (product(dx_du[-1]), dcarry), dx_du

    shapes = [(batch, recurrent_kernel.shape[1])] * cell.gradients
    state = tf.cast(dh, doutputs.dtype), dcarry
    (dh, dcarry), gradients = scan(step, [doutputs, *saved], state, shapes, reverse=True)
    return wide(dh), dcarry, [*map(_whole, gradients)]


def _in_one_program(x: tf.Tensor, h: tf.Tensor) -> bool:
    """Whether the whole loop over `x` (T, B, N) is one XLA program, including the products.

    That saves launching two operations per step; above some size oneDNN's products are faster.
    """
    if None in x.shape[:2]:
        return False
    batch, units = h.shape
    return batch * units**2 <= _SMALL


@fused
def _forward_program(
    cell: Cell,
    x: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    h: tf.Tensor,
    carry: Carry,
    save: bool,
    dtype: tf.DType,
) -> tuple[Any, list[tf.Tensor]]:
    """`forward` as one program; x is `_bits` of (T, B, G), the kernel (H, G) and bias are wide."""

    def step(x, h, carry):
        h, carry, saved = cell.forward(x, h @ recurrent_kernel, bias, carry)
        return (h, carry), [h, *saved] if save else [h]

    shapes = [h.shape] * (1 + cell.saves * save)
    return _scan_in_program(step, [x], (h, carry), shapes, dtype)


@fused
def _backward_program(
    cell: Cell,
    transposed: tf.Tensor,
    saved: list[tf.Tensor],
    doutputs: tf.Tensor,
    dh: tf.Tensor,
    dcarry: Carry,
    dtype: tf.DType,
) -> tuple[Any, list[tf.Tensor]]:
    """`backward` as one program; the kernel (G, H) is wide, saved and doutputs are `_bits`."""

    def step(doutput, *values):
        *saved, dh, dcarry = values
        dcarry, dx_du = cell.backward(doutput + dh, dcarry, saved)
        return (dx_du[-1] @ transposed, dcarry), dx_du

    shapes = [(dh.shape[0], transposed.shape[0])] * cell.gradients
    return _scan_in_program(step, [doutputs, *saved], (dh, dcarry), shapes, dtype, reverse=True)


@fused
def _forward_step(
    cell: Cell, x: tf.Tensor, u: tf.Tensor, bias: tf.Tensor, carry: Carry, save: bool
) -> tuple[Any, ...]:
    """One step of x and u (B, G): h (B, H), carry, and what is saved, (B, saves, H)."""
    h, carry, saved = cell.forward(wide(x), wide(u), wide(bias), carry)
    saved = [tf.cast(tf.stack(saved, 1), x.dtype)] if save else []
    return tf.cast(h, x.dtype), carry, *saved


@fused
def _backward_step(
    cell: Cell, doutput: tf.Tensor, dh: tf.Tensor, dcarry: Carry, saved: tf.Tensor
) -> tuple[Carry, list[tf.Tensor]]:
    """One step back of doutput and dh (B, H), with saved (B, saves, H): dcarry, [dx, du]."""
    saved = tf.unstack(wide(saved), axis=1)
    dcarry, dx_du = cell.backward(wide(doutput) + wide(dh), dcarry, saved)
    return dcarry, [tf.cast(d, doutput.dtype) for d in dx_du]


def _product(
    kernel: tf.Tensor, rows: int | None, transposed: bool = False
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function that multiplies x (rows, H) by the kernel (H, G) in the faster order.

    With `transposed` it multiplies x (rows, G) by the kernel transposed.
    """
    pays = transposed or kernel.dtype == tf.bfloat16
    if pays and rows and kernel.shape[0] >= _THIN * rows:
        left = kernel if transposed else tf.transpose(kernel)
        return lambda x: tf.transpose(tf.matmul(left, x, transpose_b=True))
    return lambda x: tf.matmul(x, kernel, transpose_b=transposed)


def _bits(x: tf.Tensor) -> tf.Tensor:
    """Two-byte floats reinterpreted as integers, of any shape; other dtypes unchanged.

    To read or write an element of such an array, XLA would convert the whole array to float32 and
    back.
    """
    return tf.bitcast(x, tf.uint16) if x.dtype.size == 2 else x


def _scan_in_program(
    step: Callable,
    sequences: list[tf.Tensor],
    state: Any,
    shapes: Sequence[tuple],
    dtype: tf.DType,
    reverse: bool = False,
) -> tuple[Any, list[tf.Tensor]]:
    """`scan` within an XLA program: one step per iteration, in float32 or wider.

    The sequences and the emitted tensors, (T, ...), are `_bits` of arrays of the dtype.
    """
    times = sequences[0].shape[0]
    arrays = [tf.TensorArray(sequences[0].dtype, times, element_shape=s) for s in shapes]

    def iteration(done, state, arrays):
        t = times - 1 - done if reverse else done
        state, emitted = step(*(wide(tf.bitcast(s[t], dtype)) for s in sequences), *state)
        arrays = [
            array.write(t, _bits(tf.cast(value, dtype)))
            for array, value in zip(arrays, emitted, strict=True)
        ]
        return done + 1, state, arrays

    _, state, arrays = tf.while_loop(lambda done, *_: done < times, iteration, (0, state, arrays))
    return state, [array.stack() for array in arrays]


def _unrolled(times: int | None) -> int:
    """Steps per iteration of `scan`: at most `UNROLLED`, and a divisor of the number of steps."""
    return max(n for n in range(1, UNROLLED + 1) if (times or 1) % n == 0)


def _whole(array: tf.TensorArray) -> tf.Tensor:
    """A TensorArray that `scan` returned as one tensor (T, ...)."""
    # TensorFlow Lite has no `concat` of a TensorArray.
    return tf.squeeze(array.stack(), 1) if array.element_shape[0] == 1 else array.concat()


def scan(
    step: Callable,
    sequences: Sequence[tf.Tensor | tf.TensorArray],
    state: tuple,
    shapes: Sequence[tuple],
    reverse: bool = False,
) -> tuple[tuple, list[tf.TensorArray]]:
    """A loop over time, first to last or in `reverse`, with several steps in each iteration.

    Args:
        step: (elements of the sequences at one time, *state) -> (state, list of emitted tensors).
        sequences: (T, ...) each, or a TensorArray that an earlier call over T steps returned; the
            first is a tensor.
        state: Initial state.
        shapes: Shapes of the tensors that a step emits, in the dtype of the first sequence.
        reverse: Whether to go from the last step to the first.

    Returns:
        The last state, and for each emitted tensor a TensorArray with an element (n, ...) for each
        iteration of n steps.
    """
    lead = sequences[0]
    steps = _unrolled(lead.shape[0])
    count = tf.shape(lead)[0] // steps  # of iterations
    arrays = [tf.TensorArray(lead.dtype, count, element_shape=(steps, *shape)) for shape in shapes]

    def iteration(done, state, arrays):
        index = count - 1 - done if reverse else done
        # Slices of the first axis are views; elements of a TensorArray would be copies.
        columns = [
            tf.unstack(
                s.read(index)
                if isinstance(s, tf.TensorArray)
                else s[index * steps : (index + 1) * steps],
                steps,
            )
            for s in sequences
        ]
        emitted = [None] * steps
        for i in reversed(range(steps)) if reverse else range(steps):
            state, emitted[i] = step(*(column[i] for column in columns), *state)
        arrays = [
            array.write(index, tf.stack(values))
            for array, values in zip(arrays, zip(*emitted, strict=True), strict=True)
        ]
        return done + 1, state, arrays

    _, state, arrays = tf.while_loop(lambda done, *_: done < count, iteration, (0, state, arrays))
    return state, arrays
