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

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_charlm import cpu, sampling

__all__ = ["GRU", "LSTM", "Blanks", "Dense", "Dropout", "Embedding", "SimpleRNN", "TiedDense",
           "by_core", "cross_entropy", "fused", "likeliest", "run", "stepper", "steps"]

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
# Largest vocabulary for which an embedding's gradient is a product with one-hot vectors.
_ONE_HOT = 256

# A cell is a dozen small operations, each a trip through memory; XLA fuses them into one.
fused = tf.function(autograph=False, jit_compile=tf.test.is_built_with_xla() or None)


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    """The element-wise part of a recurrent layer at one time step.

    All of it is in float32 or wider. The carry is whatever goes from step to step beside the
    output `h`: a tuple of (B, H), because sums over hundreds of steps must not round to eight bits.
    """

    # (x, u, bias, carry) -> (h, carry, saved), where x and u are the projections of the input and
    # of the last h, (B, G), and saved is what the backward pass cannot do without: the gates and
    # the carry before the step, a list of (B, H); with axis=0 all of these are transposed
    forward: Callable
    # (dh, dcarry, saved) -> (dcarry, [dx, du]), or (dcarry, [dx]) where x and u are only ever added
    backward: Callable
    saves: int  # how many things there are in saved
    gradients: int  # how many there are of dx and du


def _wide(x):
    """`x` in the dtype of element-wise arithmetic: float64 for float64, else float32."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _lstm_forward(x, u, bias, carry, axis=1):
    (c,) = carry
    z = x + u + bias
    # All gates at once, as tanh(z) is 2 sigmoid(2z) - 1: XLA is slow at putting parts together.
    candidate = tf.repeat(tf.constant([0, 0, 1, 0], z.dtype), c.shape[axis])
    candidate = tf.expand_dims(candidate, 1 - axis)
    gates = tf.sigmoid(z * (1 + candidate)) * (1 + candidate) - candidate
    i, f, g, o = tf.split(gates, 4, axis)
    c_next = f * c + i * g
    return o * tf.tanh(c_next), (c_next,), [i, f, g, o, c]


def _lstm_backward(dh, dcarry, saved):
    (dc,), (i, f, g, o, c) = dcarry, saved
    t = tf.tanh(f * c + i * g)
    dc += dh * o * (1 - t * t)
    dz = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
    return (dc * f,), [tf.concat(dz, 1)]


def _gru_forward(x, u, bias, carry, axis=1):
    (h,) = carry
    xz, xr, xg = tf.split(x + bias[0], 3, axis)
    uz, ur, ug = tf.split(u + bias[1], 3, axis)
    z, r = tf.sigmoid(xz + uz), tf.sigmoid(xr + ur)
    g = tf.tanh(xg + r * ug)
    h_next = z * h + (1 - z) * g
    return h_next, (h_next,), [z, r, g, ug, h]


def _gru_backward(dh, dcarry, saved):
    (dh_carry,), (z, r, g, ug, h) = dcarry, saved
    dh += dh_carry
    dz = dh * (h - g) * z * (1 - z)
    dg = dh * (1 - z) * (1 - g * g)
    dr = dg * ug * r * (1 - r)
    return (dh * z,), [tf.concat([dz, dr, dg], 1), tf.concat([dz, dr, dg * r], 1)]


def _simple_forward(x, u, bias, carry, axis=1):
    h = tf.tanh(x + u + bias)
    return h, carry, [h]


def _simple_backward(dh, dcarry, saved):
    (h,) = saved
    return dcarry, [dh * (1 - h * h)]


_LSTM = _Cell(_lstm_forward, _lstm_backward, saves=5, gradients=1)
_GRU = _Cell(_gru_forward, _gru_backward, saves=5, gradients=2)
_SIMPLE = _Cell(_simple_forward, _simple_backward, saves=1, gradients=1)


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
            cell, _bits(x), _wide(recurrent_kernel), _wide(bias), h, carry, save, x.dtype)
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
    return outputs, _wide(h), carry, saved


def _backward(cell, recurrent_kernel, saved, doutputs, dh, dcarry):
    """Gradients of the projections, from those of what `_forward` returned.

    Returns:
        gradients of the initial h and carry, and [dx, du] or [dx], each (T, B, G).
    """
    if _in_one_program(doutputs, dh):
        dtype, transposed = doutputs.dtype, _wide(tf.transpose(recurrent_kernel))
        (dh, dcarry), gradients = _backward_program(
            cell, transposed, [*map(_bits, saved)], _bits(doutputs), dh, dcarry, dtype)
        return dh, dcarry, [tf.bitcast(g, dtype) for g in gradients]

    batch, _ = dh.shape
    product = _product(recurrent_kernel, batch, transposed=True)

    def step(doutput, saved, dh, dcarry):
        dcarry, dx_du = _backward_step(cell, doutput, dh, dcarry, saved)
        return (product(dx_du[-1]), dcarry), dx_du

    shapes = [(batch, recurrent_kernel.shape[1])] * cell.gradients
    state = tf.cast(dh, doutputs.dtype), dcarry
    (dh, dcarry), gradients = _scan(step, [doutputs, *saved], state, shapes, reverse=True)
    return _wide(dh), dcarry, [g.concat() for g in gradients]


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
    h, carry, saved = cell.forward(_wide(x), _wide(u), _wide(bias), carry)
    saved = [tf.cast(tf.stack(saved, 1), x.dtype)] if save else []  # (B, saves, H)
    return tf.cast(h, x.dtype), carry, *saved


@fused
def _backward_step(cell, doutput, dh, dcarry, saved):
    saved = tf.unstack(_wide(saved), axis=1)
    dcarry, dx_du = cell.backward(_wide(doutput) + _wide(dh), dcarry, saved)
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
        state, emitted = step(*(_wide(tf.bitcast(s[place], dtype)) for s in sequences), *state)
        arrays = [array.write(place, _bits(tf.cast(value, dtype)))
                  for array, value in zip(arrays, emitted, strict=True)]
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
        columns = [tf.unstack(s.read(place) if isinstance(s, tf.TensorArray)
                              else s[place * steps : (place + 1) * steps], steps)
                   for s in sequences]
        emitted = [None] * steps
        for i in reversed(range(steps)) if reverse else range(steps):
            state, emitted[i] = step(*(column[i] for column in columns), *state)
        arrays = [array.write(place, tf.stack(values))
                  for array, values in zip(arrays, zip(*emitted, strict=True), strict=True)]
        return done + 1, state, arrays

    _, state, arrays = tf.while_loop(lambda done, *_: done < turns, turn, (0, state, arrays))
    return state, arrays


def _recur(cell, sequences, states, kernel, recurrent_kernel, bias, training):
    """A whole recurrent layer with a derived gradient, which itself has none.

    Args:
        cell: a `_Cell`.
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
            projected = tf.reshape(_flat(x) @ kernel, (*_lead(x), kernel.shape[1]))  # (T, B, G)
            return _forward(cell, projected, recurrent_kernel, bias, h, carry, save)

        outputs, h_last, carry_last, saved = forward(save=training)

        def gradient(doutputs, dh, *dcarry):
            kept = saved or forward(save=True)[-1]
            dh, dcarry, dx_du = _backward(cell, recurrent_kernel, kept, doutputs, dh, dcarry)
            dx_du = [_flat(d) for d in dx_du]  # (T * B, G)
            dx, du = dx_du[0], dx_du[-1]
            before = tf.concat([tf.cast(h, dtype)[None], outputs[:-1]], axis=0)  # (T, B, H)
            dkernel = tf.matmul(_flat(x), dx, transpose_a=True)
            drecurrent = tf.matmul(_flat(before), du, transpose_a=True)
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

    outputs, h, *carry = by_core(share, sequences, *map(_wide, (h, *carry)))
    return outputs, _together(cell, h, carry)


def _apart(cell, states):
    """h and what is carried beside it: the LSTM's c; the GRU carries h itself, unrounded."""
    return (states[0], states[0]) if cell is _GRU else states


def _together(cell, h, carry):
    """The states of h and what is carried beside it."""
    return list(carry) if cell is _GRU else [h, *carry]


def by_core(function, *values):
    """Calls `function` once for each core, with a share of the rows of every value, at the same
    time; rows are along the first axis, of the results too.

    Returns:
        The list of results, each of all rows again.
    """
    batch, replicas = values[0].shape[0], 1  # replicas on this machine
    if tf.distribute.has_strategy():
        replicas = len(tf.distribute.get_strategy().extended.worker_devices)
    parts = cpu.parts(batch or 0, replicas) if on_cpu_only() else 1
    if parts == 1:
        return list(function(*values))
    rows = [batch // parts + (i < batch % parts) for i in range(parts)]
    shares = zip(*(tf.split(value, rows) for value in values), strict=True)
    if tf.inside_function():  # built once for all shares of as many rows, however many cores
        function = tf.function(function, autograph=False)
    results = [function(*share) for share in shares]
    return [tf.concat(result, axis=0) for result in zip(*results, strict=True)]


def _lead(x):
    """The sizes of all axes of `x` but the last."""
    return tf.unstack(tf.shape(x)[:-1])


def _flat(x):
    """`x` (T, B, N) as (T * B, N)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def on_cpu_only():
    """Whether TensorFlow sees no device but CPUs, so that cuDNN cannot take the layer over."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


class _FastOnCPU:
    """Mixin before a recurrent layer of Keras: its inner loop by `_recur` where that applies."""

    _fast_cell: _Cell

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

    _fast_cell = _LSTM


@keras.saving.register_keras_serializable(package="keras_charlm")
class GRU(_FastOnCPU, keras.layers.GRU):
    """Gated recurrent unit, as `keras.layers.GRU` in all but speed on the CPU.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014,
    in the variant that resets after the recurrent product.

    Arguments and results are those of `keras.layers.GRU`, with one state, h (B, H).
    """

    _fast_cell = _GRU


@keras.saving.register_keras_serializable(package="keras_charlm")
class SimpleRNN(_FastOnCPU, keras.layers.SimpleRNN):
    """Fully connected recurrence, as `keras.layers.SimpleRNN` in all but speed on the CPU.

    Source: Elman, "Finding Structure in Time", Cognitive Science 14(2), 1990.

    Arguments and results are those of `keras.layers.SimpleRNN`, with one state, h (B, H).
    """

    _fast_cell = _SIMPLE


@keras.saving.register_keras_serializable(package="keras_charlm")
class Embedding(keras.layers.Embedding):
    """Rows of a table, as `keras.layers.Embedding`, with a faster gradient on the CPU.

    For a small vocabulary the gradient is a product with one-hot vectors, where Keras sums row by
    row and leaves a sparse gradient to the optimizer.

    Arguments and results are those of `keras.layers.Embedding`.
    """

    def call(self, inputs):
        if self.input_dim > _ONE_HOT or not on_cpu_only():
            return super().call(inputs)

        table = tf.cast(self.embeddings, self.compute_dtype)

        def share(ids):
            @tf.custom_gradient
            def look_up(table):
                def gradient(dy):
                    one_hot = tf.one_hot(tf.reshape(ids, [-1]), self.input_dim, dtype=dy.dtype)
                    return tf.matmul(one_hot, _flat(dy), transpose_a=True)  # (V, D)

                return tf.gather(table, ids), gradient

            return [look_up(table)]

        (rows,) = by_core(share, inputs)
        return rows

    def vectors(self):
        """The table as the layers behind it see it, float32 (V, D)."""
        return _rounded(self, self.embeddings)


@keras.saving.register_keras_serializable(package="keras_charlm")
class Dense(keras.layers.Dense):
    """A fully connected layer, as `keras.layers.Dense`, shared among the cores.

    Arguments and results are those of `keras.layers.Dense`.
    """

    def call(self, inputs, training=None):
        (outputs,) = by_core(lambda rows: [super(Dense, self).call(rows)], inputs)
        return outputs

    def affine(self):
        """The kernel (H, V) and the bias (V,)."""
        return tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable(package="keras_charlm")
class TiedDense(keras.layers.Layer):
    """Logits by the table of an embedding: how alike the input, projected to the embedding's width,
    and each symbol's vector are, plus a bias.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017.

    Args:
        symbols: V, rows of the table.
        width: its columns.
        kernel_initializer: of the projection.

    Call arguments:
        inputs: (B, T, H).

    Returns:
        (B, T, V).
    """

    def __init__(self, symbols, width, kernel_initializer, **kwargs):
        super().__init__(**kwargs)
        self.symbols, self.width = symbols, width
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def tie(self, embedding):
        """Take the table of an `Embedding`, before the first call."""
        # Kept within a function: it stays a weight of the embedding alone.
        self.table = lambda: embedding.embeddings

    def build(self, shape):
        self.kernel = self.add_weight(
            (shape[-1], self.width), initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.symbols,), initializer="zeros", name="bias")

    def call(self, inputs):
        kernel, table, bias = (tf.convert_to_tensor(w) for w in (
            self.kernel, self.table(), self.bias))

        def share(rows):
            logits = tf.matmul(_flat(rows) @ kernel, table, transpose_b=True) + bias
            return [tf.reshape(logits, (*_lead(rows), self.symbols))]

        (outputs,) = by_core(share, inputs)
        return outputs

    def affine(self):
        """The kernel (H, V) of both products as one, and the bias (V,)."""
        return (tf.matmul(self.kernel, self.table(), transpose_b=True),
                tf.convert_to_tensor(self.bias))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.symbols)

    def get_config(self):
        return {**super().get_config(), "symbols": self.symbols, "width": self.width,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}


@fused
def _masked(x, row, seed, rate):
    """`x` (B, ...) where a random number for its place is not below `rate`, scaled to the same
    mean; `row` (B,) says which rows of the whole batch these are."""
    places = tf.reshape(tf.range(tf.size(x)), tf.shape(x)) + row[0] * tf.size(x[0])
    kept = tf.cast(sampling.uniform(seed, places) >= rate, x.dtype)
    return tf.cast(_wide(x * kept) / (1 - rate), x.dtype)


def _next_seed(layer):
    """The seed of a random layer and a counter, int32 (2,)."""
    return tf.cast(layer.seed_generator.next(), tf.int32)


def _replica():
    """The number of the replica that runs this."""
    replica = tf.distribute.get_replica_context()
    return replica.replica_id_in_sync_group if replica else 0


@keras.saving.register_keras_serializable(package="keras_charlm")
class Dropout(keras.layers.Dropout):
    """Dropout, as `keras.layers.Dropout` with other masks, drawn faster on the CPU.

    Each replica of a distribution strategy draws its own mask, where Keras draws one for all.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15, 2014.

    Arguments and results are those of `keras.layers.Dropout`.
    """

    def call(self, inputs, training=False):
        if not training or self.noise_shape is not None or not 0 < self.rate < 1:
            return super().call(inputs, training=training)
        seed, number = _next_seed(self), _replica()
        if not on_cpu_only():
            seed = tf.random.experimental.stateless_fold_in(seed, number)
            return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed)
        # Odd factors, as every bit of the three then counts; the generator does the mixing.
        seed = seed[0] * 0x01000193 + seed[1] * 0x0019660D + number * 0x3C6EF35F

        def share(x, row):
            @tf.custom_gradient
            def drop(x):
                return (_masked(x, row, seed, self.rate),
                        lambda dy: _masked(dy, row, seed, self.rate))

            return [drop(x)]

        (outputs,) = by_core(share, inputs, tf.range(tf.shape(inputs)[0]))
        return outputs


@keras.saving.register_keras_serializable(package="keras_charlm")
class Blanks(keras.layers.Dropout):
    """In training, some ids read as 0: what a network knows by heart helps it less.

    Source: Xie et al., "Data Noising as Smoothing in Neural Network Language Models", ICLR 2017,
    section 3, blank noising.

    Arguments are those of `keras.layers.Dropout`; ids of any integer type and shape go in and out.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        seed = tf.random.experimental.stateless_fold_in(_next_seed(self), _replica())
        kept = tf.random.stateless_uniform(tf.shape(inputs), seed) >= self.rate
        return tf.where(kept, inputs, tf.zeros_like(inputs))


def cross_entropy(ids, logits):
    """The loss of each character in nats, as `keras.losses.SparseCategoricalCrossentropy` from
    logits, shared among the cores.

    Args:
        ids: (B, T), of any dtype: Keras makes them floats.
        logits: (B, T, V).

    Returns:
        (B, T), of which Keras takes the mean.
    """
    (nats,) = by_core(lambda *rows: [tf.nn.sparse_softmax_cross_entropy_with_logits(*rows)],
                      tf.cast(ids, tf.int32), logits)
    return nats


def likeliest(logits):
    """The id with the largest logit, shared among the cores.

    Args:
        logits: (..., V).

    Returns:
        int32 (...).
    """
    (ids,) = by_core(lambda rows: [tf.argmax(rows, -1, tf.int32)], logits)
    return ids


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
    kernel, recurrent = (tf.transpose(_rounded(layer, w)) for w in weights)
    bias = _rounded(layer, layer.cell.bias)[..., None]

    def step(x, states):
        h, *carry = _apart(cell, states)
        h, carry, _ = cell.forward(kernel @ x, recurrent @ h, bias, carry, axis=0)
        return _together(cell, h, carry)

    return step


def _rounded(layer, weight):
    """A weight as the products of the layer see it, but in float32."""
    return tf.cast(tf.cast(weight, layer.compute_dtype), tf.float32)


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
