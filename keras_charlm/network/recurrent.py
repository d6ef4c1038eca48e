"""Layers and the loss of Keras with a fast forward and backward pass on the CPU.

`LSTM`, `GRU` and `SimpleRNN` here have the weights, the configuration and the results of the layers
of the same name in Keras. Where no accelerator is present and the configuration is the usual one,
the time loop keeps only what is sequential, the recurrent product and the element-wise cell:

    forward     all input projections as one matrix product, then the loop over time
    backward    the loop over time for the gate gradients alone, then every weight gradient and the
                input gradient as one large matrix product each

For small layers that loop is one program of XLA, products and all. For large ones the products are
faster by oneDNN, and XLA compiles the cell alone. Where there is no way back to keep anything for,
as in scoring a text, one program does a time step of all layers after the other: see `stepper`.

Each core takes a share of the batch's rows through all of this on its own: the products of one time
step are too small to share, and the cores would wait for each other twice a step. The other layers
and the loss share their rows out likewise, because the operations run in one thread each (see
`cpu.tune`).

Everywhere else (GPU, masks, unusual activations, recurrent dropout) Keras's own code runs.

Under a mixed policy the products, the outputs and what is saved for the gradient have the compute
dtype, while gates and states are worked out in float32. From call to call a stateful layer carries
what Keras lets it: all of the state in float32 and float64, and in the mixed policies the state
rounded to the compute dtype, once per window. `run` rounds nothing.

Letters in shapes: B sequences, T time steps, D input features, H units, G gate columns of the
kernels (4H for LSTM, 3H for GRU, H for SimpleRNN).
"""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_charlm.network.cells import GRU_CELL, LSTM_CELL, SIMPLE_CELL, Cell, fused, wide
from keras_charlm.network.cores import by_core, flat, leading_sizes, on_cpu_only, rounded

# Most time steps in one turn of the loop, whose own cost is that of a small cell.
_UNROLLED = 10


# A matrix product packs its right factor anew each time, which for few rows takes longer than the
# product. From this many units a row on, the transposed product, with the kernel on the left, is
# faster; forwards in bfloat16 only.
_THIN = 10


# Up to so many multiplications in a step's product for each gate, XLA runs the whole loop.
_SMALL = 1 << 20


# Most units of a layer that XLA scores text by in less than float32, for which it has no products.
_NARROW = 128


def _forward(cell, x, recurrent_kernel, bias, h, carry, save):
    """Runs `cell` over projected inputs.

    Args:
        x: (T, B, G).
        recurrent_kernel: (H, G).
        h: the output before the first step, (B, H), wide.
        carry: tuple of (B, H), wide.
        save: whether to keep what `_backward` needs.

    Returns:
        outputs (T, B, H), last h, last carry, and a list of what is saved, empty unless `save`.
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
    (h, carry), (outputs, *saved) = _scan(step, [x], (tf.cast(h, x.dtype), carry), shapes)
    outputs = outputs.concat()
    outputs.set_shape((x.shape[0], batch, units))  # which the loop has forgotten
    return outputs, wide(h), carry, saved


def _backward(cell, recurrent_kernel, saved, doutputs, dh, dcarry):
    """Gradients of the projections, from those of what `_forward` returned.

    Returns:
        gradients of the initial h and carry, and [dx, du] or [dx], each (T, B, G).
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
    (dh, dcarry), gradients = _scan(step, [doutputs, *saved], state, shapes, reverse=True)
    return wide(dh), dcarry, [g.concat() for g in gradients]


def _in_one_program(x, h):
    """Whether XLA runs the loop over `x` (T, B, N) as well, products and all, which then spares
    the start of two operations a step. The products of oneDNN are faster from some size on."""
    if None in x.shape[:2]:
        return False
    batch, units = h.shape
    return batch * units**2 <= _SMALL


@fused
def _forward_program(cell, x, recurrent_kernel, bias, h, carry, save, dtype):
    def step(x, h, carry):
        h, carry, saved = cell.forward(x, h @ recurrent_kernel, bias, carry)
        return (h, carry), [h, *saved] if save else [h]

    shapes = [h.shape] * (1 + cell.saves * save)
    return _loop(step, [x], (h, carry), shapes, dtype)


@fused
def _backward_program(cell, transposed, saved, doutputs, dh, dcarry, dtype):
    def step(doutput, *values):
        *saved, dh, dcarry = values
        dcarry, dx_du = cell.backward(doutput + dh, dcarry, saved)
        return (dx_du[-1] @ transposed, dcarry), dx_du

    shapes = [(dh.shape[0], transposed.shape[0])] * cell.gradients
    return _loop(step, [doutputs, *saved], (dh, dcarry), shapes, dtype, reverse=True)


@fused
def _forward_step(cell, x, u, bias, carry, save):
    h, carry, saved = cell.forward(wide(x), wide(u), wide(bias), carry)
    saved = [tf.cast(tf.stack(saved, 1), x.dtype)] if save else []  # (B, saves, H)
    return tf.cast(h, x.dtype), carry, *saved


@fused
def _backward_step(cell, doutput, dh, dcarry, saved):
    saved = tf.unstack(wide(saved), axis=1)
    dcarry, dx_du = cell.backward(wide(doutput) + wide(dh), dcarry, saved)
    return dcarry, [tf.cast(d, doutput.dtype) for d in dx_du]


def _product(kernel, rows, transposed=False):
    """The function of x, of so many rows, that gives its product with the kernel (H, G), or with
    the kernel transposed, in the faster order."""
    pays = transposed or kernel.dtype == tf.bfloat16
    if pays and rows and kernel.shape[0] >= _THIN * rows:
        left = kernel if transposed else tf.transpose(kernel)
        return lambda x: tf.transpose(tf.matmul(left, x, transpose_b=True))
    return lambda x: tf.matmul(x, kernel, transpose_b=transposed)


def _bits(x):
    """Numbers of two bytes as integers: to read or write one of many such, XLA would convert them
    all to float32 and back."""
    return tf.bitcast(x, tf.uint16) if x.dtype.size == 2 else x


def _loop(step, sequences, state, shapes, dtype, reverse=False):
    """`_scan` within a program of XLA: one step a turn, on wide numbers. The sequences and what is
    emitted, tensors (T, ...), are `_bits` of numbers of the dtype."""
    times = sequences[0].shape[0]
    arrays = [tf.TensorArray(sequences[0].dtype, times, element_shape=s) for s in shapes]

    def turn(done, state, arrays):
        place = times - 1 - done if reverse else done
        state, emitted = step(*(wide(tf.bitcast(s[place], dtype)) for s in sequences), *state)
        arrays = [
            array.write(place, _bits(tf.cast(value, dtype)))
            for array, value in zip(arrays, emitted, strict=True)
        ]
        return done + 1, state, arrays

    _, state, arrays = tf.while_loop(lambda done, *_: done < times, turn, (0, state, arrays))
    return state, [array.stack() for array in arrays]


def _turn(times):
    """Steps of one turn of the loop over so many time steps, of which there are whole turns."""
    return max(n for n in range(1, _UNROLLED + 1) if (times or 1) % n == 0)


def _scan(step, sequences, state, shapes, reverse=False):
    """A loop over time, first to last or in `reverse`, several steps a turn.

    Args:
        step: (elements of the sequences at one time, *state) -> (state, list of what it emits).
        sequences: each (T, ...), or a TensorArray that an earlier call over T steps returned.
        state: what the first step begins with.
        shapes: those of what a step emits, in the dtype of the first sequence.

    Returns:
        The last state, and of each thing emitted a TensorArray with an element (n, ...) for each
        turn of n steps.
    """
    lead = sequences[0]
    steps = _turn(lead.shape[0])
    turns = tf.shape(lead)[0] // steps
    arrays = [tf.TensorArray(lead.dtype, turns, element_shape=(steps, *shape)) for shape in shapes]

    def turn(done, state, arrays):
        place = turns - 1 - done if reverse else done
        # Slices of the first axis are views; elements of a TensorArray would be copies.
        columns = [
            tf.unstack(
                s.read(place)
                if isinstance(s, tf.TensorArray)
                else s[place * steps : (place + 1) * steps],
                steps,
            )
            for s in sequences
        ]
        emitted = [None] * steps
        for i in reversed(range(steps)) if reverse else range(steps):
            state, emitted[i] = step(*(column[i] for column in columns), *state)
        arrays = [
            array.write(place, tf.stack(values))
            for array, values in zip(arrays, zip(*emitted, strict=True), strict=True)
        ]
        return done + 1, state, arrays

    _, state, arrays = tf.while_loop(lambda done, *_: done < turns, turn, (0, state, arrays))
    return state, arrays


def _recur(cell, sequences, states, kernel, recurrent_kernel, bias, training):
    """A whole recurrent layer with a derived gradient, which itself has none.

    Args:
        cell: a `Cell`.
        sequences: (B, T, D), in the dtype of the matrix products.
        states: list of (B, H): h and, for the LSTM, c.
        kernel: (D, G).
        recurrent_kernel: (H, G).
        bias: (G,), or (2, G) for the GRU.
        training: whether a gradient is expected. Without it nothing is saved for one; should it be
            asked for after all, the forward pass is run again.

    Returns:
        outputs (B, T, H) and the new states, list of (B, H) in float32 or wider.
    """
    dtype = sequences.dtype

    @tf.custom_gradient
    def recur(*arguments):
        # A tape outside must not look into the loops for a way back of their own.
        x, kernel, recurrent_kernel, bias, h = map(tf.stop_gradient, arguments[:5])
        carry = tuple(map(tf.stop_gradient, arguments[5:]))

        def forward(save):
            projected = tf.reshape(
                flat(x) @ kernel, (*leading_sizes(x), kernel.shape[1])
            )  # (T, B, G)
            return _forward(cell, projected, recurrent_kernel, bias, h, carry, save)

        outputs, h_last, carry_last, saved = forward(save=training)

        def gradient(doutputs, dh, *dcarry):
            kept = saved or forward(save=True)[-1]
            dh, dcarry, dx_du = _backward(cell, recurrent_kernel, kept, doutputs, dh, dcarry)
            dx_du = [flat(d) for d in dx_du]  # (T * B, G)
            dx, du = dx_du[0], dx_du[-1]
            before = tf.concat([tf.cast(h, dtype)[None], outputs[:-1]], axis=0)  # (T, B, H)
            dkernel = tf.matmul(flat(x), dx, transpose_a=True)
            drecurrent = tf.matmul(flat(before), du, transpose_a=True)
            ones = tf.ones_like(dx[:, :1])  # as a product, a sum is several times faster
            dbias = tf.concat([tf.matmul(ones, d, transpose_a=True) for d in dx_du], axis=0)
            dinputs = tf.reshape(tf.matmul(dx, kernel, transpose_b=True), tf.shape(x))
            return dinputs, dkernel, drecurrent, tf.reshape(dbias, bias.shape), dh, *dcarry

        return (outputs, h_last, *carry_last), gradient

    h, *carry = _apart(cell, states)
    weights = [tf.cast(w, dtype) for w in (kernel, recurrent_kernel, bias)]

    def share(x, h, *carry):
        outputs, *states = recur(tf.transpose(x, (1, 0, 2)), *weights, h, *carry)
        return tf.transpose(outputs, (1, 0, 2)), *states

    outputs, h, *carry = by_core(share, sequences, *map(wide, (h, *carry)))
    return outputs, _together(cell, h, carry)


def _apart(cell, states):
    """h and what is carried beside it: the LSTM's c; the GRU carries h itself, unrounded."""
    return (states[0], states[0]) if cell is GRU_CELL else states


def _together(cell, h, carry):
    """The states of h and what is carried beside it."""
    return list(carry) if cell is GRU_CELL else [h, *carry]


class _FastOnCPU:
    """Mixin before a recurrent layer of Keras: its inner loop by `_recur` where that applies."""

    _fast_cell: Cell

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Keras compiles a whole training step with XLA if every layer agrees to it; on the CPU
        # that is slower than without, and the part that profits is compiled here.
        self.supports_jit = False

    def is_fast(self, mask=None, training=False):
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
            and getattr(self, "use_cudnn", "auto") is not True  # which has to raise
        )

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """What `call` of Keras leaves to its recurrent layers.

        Args:
            sequences: (B, T, D).
            initial_state: list of (B, H), in the compute dtype.
            mask: (B, T) or None.
            training: whether a gradient is expected.

        Returns:
            last output (B, H), outputs (B, T, H), list of new states (B, H).
        """
        if not self.is_fast(mask, training):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        outputs, states = _recur(
            self._fast_cell,
            sequences,
            initial_state,
            self.cell.kernel,
            self.cell.recurrent_kernel,
            self.cell.bias,
            training,
        )
        return outputs[:, -1], outputs, states


@keras.saving.register_keras_serializable(package="keras_charlm")
class LSTM(_FastOnCPU, keras.layers.LSTM):
    """Long short-term memory, as `keras.layers.LSTM` in all but speed on the CPU.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997;
    the forget gate from Gers, Schmidhuber and Cummins, "Learning to Forget", 2000.

    Args:
        *args, **kwargs: those of `keras.layers.LSTM`.

    Call arguments:
        sequences: (B, T, D).
        initial_state: [h, c], each (B, H); by default the layer's own if `stateful`, else zeros.

    Returns:
        (B, T, H) with `return_sequences`, else (B, H); with `return_state` also h and c, (B, H).
    """

    _fast_cell = LSTM_CELL


@keras.saving.register_keras_serializable(package="keras_charlm")
class GRU(_FastOnCPU, keras.layers.GRU):
    """Gated recurrent unit, as `keras.layers.GRU` in all but speed on the CPU.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014,
    in the variant that resets after the recurrent product.

    Arguments and results are those of `keras.layers.GRU`, with one state, h (B, H).
    """

    _fast_cell = GRU_CELL


@keras.saving.register_keras_serializable(package="keras_charlm")
class SimpleRNN(_FastOnCPU, keras.layers.SimpleRNN):
    """Fully connected recurrence, as `keras.layers.SimpleRNN` in all but speed on the CPU.

    Source: Elman, "Finding Structure in Time", Cognitive Science 14(2), 1990.

    Arguments and results are those of `keras.layers.SimpleRNN`, with one state, h (B, H).
    """

    _fast_cell = SIMPLE_CELL


def steps(layer):
    """Whether a layer has a `stepper` here that is faster than `run`."""
    return layer.is_fast() and (layer.compute_dtype == "float32" or layer.units <= _NARROW)


def stepper(layer):
    """One time step of a layer, for the loop of a program of XLA. Each sequence is a column there
    and not a row: the kernels stand on the left of the products, where none has to be packed anew
    in every step.

    Args:
        layer: an `LSTM`, `GRU` or `SimpleRNN` of this module, on its fast path.

    Returns:
        The function from x (D, B) and states, a list of (H, B), to the new states, of which the
        first is the output; all in float32.
    """
    cell, weights = layer._fast_cell, (layer.cell.kernel, layer.cell.recurrent_kernel)
    kernel, recurrent = (tf.transpose(rounded(layer, w)) for w in weights)
    bias = rounded(layer, layer.cell.bias)[..., None]

    def step(x, states):
        h, *carry = _apart(cell, states)
        h, carry, _ = cell.forward(kernel @ x, recurrent @ h, bias, carry, axis=0)
        return _together(cell, h, carry)

    return step


def run(layer, sequences, states=None):
    """Runs a built recurrent layer forward without touching its own state, at any batch size.

    Args:
        layer: an `LSTM`, `GRU` or `SimpleRNN` of this module that returns sequences.
        sequences: (B, T, D).
        states: list of (B, H), as many as the layer has, or None for zeros.

    Returns:
        outputs (B, T, H) in the layer's compute dtype and the list of new states (B, H). On the
        fast path these are float32 or wider, so that a text read in pieces gives what it gives in
        one piece.
    """
    sequences = tf.cast(sequences, layer.compute_dtype)
    if states is None:
        states = layer.get_initial_state(tf.shape(sequences)[0])
    if layer.is_fast():
        weights = layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias
        return _recur(layer._fast_cell, sequences, states, *weights, training=False)
    states = [tf.cast(s, layer.compute_dtype) for s in states]
    # cuDNN gets the weights as they are, so outside a call of the layer, where Keras casts them,
    # mixed precision has to go by way of the cell, which casts its own.
    mixed = layer.compute_dtype != layer.variable_dtype
    inner_loop = keras.layers.RNN.inner_loop if mixed else type(layer).inner_loop
    _, outputs, states = inner_loop(layer, sequences, states, mask=None, training=False)
    return outputs, list(states)
