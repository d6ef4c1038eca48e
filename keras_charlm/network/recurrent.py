"""Keras's recurrent layers with a fast forward and backward pass on the CPU.

`LSTM`, `GRU` and `SimpleRNN` here have the weights, the configuration and the results of the layers
of the same name in Keras. If TensorFlow sees only CPUs and the configuration is the usual one, the
loop over time contains only the sequential part, the recurrent product and the element-wise cell
(see `loops`):

    forward     all input projections as one matrix product, then the loop over time
    backward    the loop over time for the gate gradients alone, then every weight gradient and the
                input gradient as one large matrix product each

Scoring a text needs no gradient, so one XLA program can run all layers in each time step: see
`stepper`.

Each core runs all of this on a share of the batch's rows (see `cores`): the products of one time
step are too small to be split, and the cores would wait for each other twice per step. The other
layers and the loss split their rows too, because `cpu.tune` gives each operation one thread.

Everywhere else (GPU, masks, unusual activations, recurrent dropout) Keras's own code runs.

Under a mixed policy the products, the outputs and the tensors saved for the gradient have the
compute dtype, while gates and states are computed in float32. Between calls, Keras keeps the state
of a stateful layer exactly in float32 and float64, and under the mixed policies rounded to the
compute dtype, once per window. `run` rounds nothing.

Letters in shapes: B sequences, T time steps, D input features, H units, G gate columns of the
kernels (4H for LSTM, 3H for GRU, H for SimpleRNN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_charlm.network import derivatives, loops
from keras_charlm.network.cells import GRU_CELL, LSTM_CELL, SIMPLE_CELL, Carry, Cell
from keras_charlm.network.cores import by_core
from keras_charlm.network.dispatch import on_cpu_only
from keras_charlm.network.tensors import flat, leading_sizes, rounded, wide

# Maximum units of a layer for which `stepper` is faster under a mixed policy: it computes in
# float32, because XLA has no products in bfloat16 and float16.
_NARROW = 128


def recur(
    cell: Cell,
    sequences: tf.Tensor,
    states: Sequence[tf.Tensor],
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    training: bool,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Run a whole recurrent layer, with an analytic gradient.

    Higher derivatives are those of `derivatives.layer`, in ordinary operations.

    Args:
        cell: The equations.
        sequences: (B, T, D), in the dtype of the matrix products.
        states: (B, H) each: h and, for the LSTM, c.
        kernel: (D, G).
        recurrent_kernel: (H, G).
        bias: (G,), or (2, G) for the GRU.
        training: Whether a gradient is expected. If not, nothing is saved for it, and a gradient
            requested anyway runs the forward pass again.

    Returns:
        outputs (B, T, H) and the new states, (B, H) each, in float32 or wider.
    """

    @tf.custom_gradient
    def layer(*arguments):
        return _results_and_gradient(cell, arguments, training)

    h, *carry = _split_states(cell, states)
    weights = [tf.cast(w, sequences.dtype) for w in (kernel, recurrent_kernel, bias)]

    def share(x, h, *carry):
        outputs, *states = layer(tf.transpose(x, (1, 0, 2)), *weights, h, *carry)
        return tf.transpose(outputs, (1, 0, 2)), *states

    outputs, h, *carry = by_core(share, sequences, *map(wide, (h, *carry)))
    return outputs, _join_states(cell, h, carry)


def _results_and_gradient(
    cell: Cell, arguments: Sequence[tf.Tensor], training: bool
) -> tuple[tuple[tf.Tensor, ...], Callable[..., Sequence[tf.Tensor]]]:
    """What `tf.custom_gradient` needs: the results of a layer, and the function of its gradients.

    Args:
        cell: The equations.
        arguments: Those of `derivatives.layer` after the cell.
        training: Whether a gradient is expected.
    """
    # Prevents an outer gradient tape from recording the loops.
    x, kernel, recurrent_kernel, bias, h = map(tf.stop_gradient, arguments[:5])
    carry = tuple(map(tf.stop_gradient, arguments[5:]))
    # Either the input or the states may have an unknown batch size.
    x.set_shape((None, h.shape[0], None))
    for state in (h, *carry):
        state.set_shape((x.shape[1], None))

    def forward(save):
        projected = tf.reshape(flat(x) @ kernel, (*leading_sizes(x), kernel.shape[1]))  # (T, B, G)
        # With an unknown number of time steps the reshape forgets the batch size.
        projected.set_shape((*x.shape[:2], kernel.shape[1]))
        return loops.forward(cell, projected, recurrent_kernel, bias, h, carry, save)

    outputs, h_last, carry_last, saved = forward(save=training)

    def backward(doutputs, dh, *dcarry):
        kept = saved or forward(save=True)[-1]
        dh, dcarry, dx_du = loops.backward(cell, recurrent_kernel, kept, doutputs, dh, dcarry)
        before = tf.concat([tf.cast(h, x.dtype)[None], outputs[:-1]], axis=0)  # (T, B, H)
        return *_gradients(x, before, kernel, bias, dx_du), dh, *dcarry

    def gradient(*upstream):
        return derivatives.differentiable(cell, arguments, upstream, backward)

    return (outputs, h_last, *carry_last), gradient


def _gradients(
    x: tf.Tensor, before: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, dx_du: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of the input and the weights, each as one product over all time steps.

    Args:
        x: The input, (T, B, D).
        before: The output before each step, (T, B, H).
        kernel: (D, G).
        bias: (G,), or (2, G) for the GRU.
        dx_du: Gradients of the projections, [dx, du] or [dx], (T, B, G) each.

    Returns:
        Gradients of the input (T, B, D), the kernel (D, G), the recurrent kernel (H, G) and the
        bias.
    """
    dx_du = [flat(d) for d in dx_du]  # (T * B, G)
    dx, du = dx_du[0], dx_du[-1]
    dkernel = tf.matmul(flat(x), dx, transpose_a=True)
    drecurrent = tf.matmul(flat(before), du, transpose_a=True)
    ones = tf.ones_like(dx[:, :1])  # a sum as a matrix product is several times faster
    dbias = tf.concat([tf.matmul(ones, d, transpose_a=True) for d in dx_du], axis=0)
    dinputs = tf.reshape(tf.matmul(dx, kernel, transpose_b=True), tf.shape(x))
    return dinputs, dkernel, drecurrent, tf.reshape(dbias, bias.shape)


def _split_states(cell: Cell, states: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """h and the carry, (B, H) each: the LSTM's c; the GRU carries h itself, unrounded."""
    return (states[0], states[0]) if cell is GRU_CELL else states


def _join_states(cell: Cell, h: tf.Tensor, carry: Carry) -> list[tf.Tensor]:
    """The layer's states, (B, H) each, from h and the carry; inverse of `_split_states`."""
    return list(carry) if cell is GRU_CELL else [h, *carry]


_RNN: Any = object  # for type checkers: the layer of Keras that follows the mixin


class FastOnCPU(_RNN):
    """Mixin before a recurrent layer of Keras: runs its inner loop with `recur` if possible.

    Attributes:
        fast_cell: The equations of the layer.
    """

    fast_cell: Cell

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Keras compiles the whole training step with XLA if every layer supports it; on the CPU
        # that is slower, and the part that benefits is compiled here.
        self.supports_jit = False

    def is_fast(self, mask: tf.Tensor | None = None, training: bool | None = False) -> bool:
        """Whether a call with these arguments, on this machine, takes the fast path."""
        cell = self.cell
        return (
            on_cpu_only()
            and mask is None
            and cell.activation is keras.activations.tanh
            and getattr(cell, "recurrent_activation", None) in (None, keras.activations.sigmoid)
            and cell.use_bias
            and getattr(cell, "reset_after", True)
            and not (training and (cell.dropout or cell.recurrent_dropout))
            and not (self.go_backwards or self.unroll)
            and getattr(self, "use_cudnn", "auto") is not True  # for which Keras raises an error
        )

    def build(
        self,
        sequences_shape: tuple[int | None, ...],
        initial_state_shape: Any = None,
    ) -> None:
        """Make the weights; see `keras.layers.RNN`."""
        cell = self.cell
        initializer = cell.recurrent_initializer
        if tf.as_dtype(cell.variable_dtype).size < 4:
            # TensorFlow has no QR decomposition in bfloat16, which an orthogonal matrix needs.
            cell.recurrent_initializer = lambda shape, dtype: tf.cast(
                initializer(shape, "float32"), dtype
            )
        super().build(sequences_shape, initial_state_shape)
        cell.recurrent_initializer = initializer

    def inner_loop(
        self,
        sequences: tf.Tensor,
        initial_state: list[tf.Tensor],
        mask: tf.Tensor | None,
        training: bool | None = False,
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Run the layer over all time steps; called by Keras's `call`.

        Args:
            sequences: (B, T, D).
            initial_state: (B, H) each, in the compute dtype.
            mask: (B, T) or None.
            training: Whether a gradient is expected; None means no.

        Returns:
            last output (B, H), outputs (B, T, H), new states (B, H) each.
        """
        if not self.is_fast(mask, training):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        cell = self.cell
        weights = cell.kernel, cell.recurrent_kernel, cell.bias
        outputs, states = recur(self.fast_cell, sequences, initial_state, *weights, bool(training))
        return outputs[:, -1], outputs, states


@keras.saving.register_keras_serializable(package="keras_charlm")
class LSTM(FastOnCPU, keras.layers.LSTM):
    """Long short-term memory: `keras.layers.LSTM`, but faster on the CPU.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997;
    the forget gate from Gers, Schmidhuber and Cummins, "Learning to Forget", 2000.

    Args:
        *args, **kwargs: Arguments of `keras.layers.LSTM`.

    Call arguments:
        sequences: (B, T, D).
        initial_state: [h, c], (B, H) each; by default the layer's own if `stateful`, else zeros.

    Returns:
        (B, T, H) with `return_sequences`, else (B, H); with `return_state` also h and c, (B, H).
    """

    fast_cell = LSTM_CELL


@keras.saving.register_keras_serializable(package="keras_charlm")
class GRU(FastOnCPU, keras.layers.GRU):
    """Gated recurrent unit: `keras.layers.GRU`, but faster on the CPU.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014,
    in the variant that resets after the recurrent product.

    Arguments and results are those of `keras.layers.GRU`, with one state, h (B, H).
    """

    fast_cell = GRU_CELL


@keras.saving.register_keras_serializable(package="keras_charlm")
class SimpleRNN(FastOnCPU, keras.layers.SimpleRNN):
    """Fully connected recurrence: `keras.layers.SimpleRNN`, but faster on the CPU.

    Source: Elman, "Finding Structure in Time", Cognitive Science 14(2), 1990.

    Arguments and results are those of `keras.layers.SimpleRNN`, with one state, h (B, H).
    """

    fast_cell = SIMPLE_CELL


def has_stepper(layer: keras.layers.RNN) -> bool:
    """Whether a layer has a `stepper` that is faster than `run`."""
    return (
        isinstance(layer, FastOnCPU)
        and layer.is_fast()
        and (layer.compute_dtype == "float32" or layer.units <= _NARROW)
    )


def stepper(layer: keras.layers.RNN) -> Callable[[tf.Tensor, list[tf.Tensor]], list[tf.Tensor]]:
    """One time step of a layer, for a loop within an XLA program.

    Here each sequence is a column, not a row: with the kernels on the left of the products, no
    kernel is reordered in memory at every step.

    Args:
        layer: An `LSTM`, `GRU` or `SimpleRNN` of this module, on its fast path.

    Returns:
        A function from x (D, B) and states, (H, B) each, to the new states, of which the first is
        the output; all in float32.
    """
    cell, weights = layer.fast_cell, (layer.cell.kernel, layer.cell.recurrent_kernel)
    kernel, recurrent = (tf.transpose(rounded(layer, w)) for w in weights)
    bias = rounded(layer, layer.cell.bias)[..., None]

    def step(x, states):
        h, *carry = _split_states(cell, states)
        h, carry, _ = cell.forward(kernel @ x, recurrent @ h, bias, carry, axis=0)
        return _join_states(cell, h, carry)

    return step


def run(
    layer: keras.layers.RNN, sequences: tf.Tensor, states: Sequence[tf.Tensor] | None = None
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Run a built recurrent layer forward at any batch size, without changing its own state.

    Args:
        layer: A layer of this module or of Keras that returns sequences.
        sequences: (B, T, D).
        states: (B, H) each, as many as the layer has, or None for zeros.

    Returns:
        outputs (B, T, H) in the layer's compute dtype and the new states, (B, H) each. On the
        fast path these are float32 or wider, so that reading a text in pieces gives the same result
        as reading it at once.
    """
    sequences = tf.cast(sequences, layer.compute_dtype)
    if states is None:
        states = list(layer.get_initial_state(tf.shape(sequences)[0]))
    if isinstance(layer, FastOnCPU) and layer.is_fast():
        weights = layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias
        return recur(layer.fast_cell, sequences, states, *weights, training=False)
    states = [tf.cast(s, layer.compute_dtype) for s in states]
    # cuDNN would get the uncast weights: Keras casts them only within a call of the layer. The
    # generic loop uses the cell, which casts its own.
    mixed = layer.compute_dtype != layer.variable_dtype
    inner_loop = keras.layers.RNN.inner_loop if mixed else type(layer).inner_loop
    _, outputs, states = inner_loop(layer, sequences, states, mask=None, training=False)
    return outputs, list(states)
