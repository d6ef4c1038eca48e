"""The graph of the on-device file: plain variables, and a function for each signature."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.display import quiet
from keras_charlm.export import constrained
from keras_charlm.export.constrained import Step, keep_ended
from keras_charlm.export.limits import checked
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.tables import ENTRIES, Tables
from keras_charlm.network import sampling
from keras_charlm.network.equations import CELLS
from keras_charlm.network.model import named_weights, recurrent_layers
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary

READ = 64  # P: maximum characters that one call of `generate` reads
DRAW = 64  # N: maximum characters that one call of `generate` draws
ROWS = 16  # rows of `generate_batch`
SCORE = 256  # maximum characters that one call of `score` reads


class OnDeviceGraph(tf.Module):
    """The graph of the on-device file: plain variables, and a function for each signature.

    It has no Keras objects: the converter would lose their weights, or keep them in resource
    variables, which browsers do not support.

    Signatures, with B rows, P characters to read, N to draw, V symbols and S states (the states of
    all layers concatenated in one tensor, all zeros before a text):

    `generate` (B = 1) and `generate_batch` (B = 16) read a text and draw what follows. Inputs:
        text: int32 (B, P), code points, or byte values; unknown ones read as the unknown symbol.
            A label has the code that the model's card gives.
        text_length: int32 (B,), how many of them to read; a row of length 0 is idle.
        seed: int32 (B,).
        position: int32 (B,), index of the first character to draw, for the random numbers.
        length: int32 (1,), characters to draw, at most N; 0 only reads.
        stop: int32 (1,), the code point that ends a row; -1 for none.
        temperature, top_k, top_p, min_p: float32, int32, float32 and float32 (1,); see
            `sampling.draw`.
        state: float32 (B, S).
    Outputs:
        text: int32 (B, N), the characters drawn, without the stop character; -1 after the end.
        lengths: int32 (B,), their number; -1 in every row if a setting is out of range.
        done: int32 (B,), 1 if the stop character was drawn or the row was idle.
        bits: float32 (B,), sum of -log2 p over all characters drawn, the stop character included,
            at temperature 1, without top-k, top-p and min-p.
        state: float32 (B, S), after reading everything but the last character. With that character
            as its text, the next call continues exactly as one longer call would have.

    `constrained` (B = 16; one text is a row, while the others are idle) draws only what fits a rule
    (`generation.tables`). Further inputs; zeros accept every text:
        classes: int32 (V,), the class of each symbol.
        moves: int32 (M,), from each state by each class, state after state; padded.
        width: int32 (1,), the number of classes.
        mask: int32 (1,). 0: a row whose next character does not fit begins again, which gives the
            model's own distribution given the rule. 1: only characters that fit are drawn.
        patience: int32 (1,), characters that a row may draw in this call before its last beginning.
    The state is of width S + 1: its last column is the state of the rule. A call draws up to 256
    characters. A further output:
        steps: int32 (B,), characters drawn, those in vain included; the next call's position is
            higher by them. A row that is not done and has no text needs another call.
    A row whose prompt does not fit is done, with no text and no steps.

    A graph with a rule of its own has no `constrained`: its `generate` and `generate_batch` follow
    the rule, with the inputs and outputs above and a state of width S + 1. A row of lines that
    begins (position 0) begins again until the line fits, for at most `PATIENCE` characters; later,
    and in texts, only characters that fit are drawn.

    `step` reads one character: text int32 (1,), state -> logits float32 (1, V), state.

    `score` reads a text: text int32 (1, 256), text_length int32 (1,), state -> bits float32 (1,),
    the sum of -log2 p over every character but the first; correct int32 (1,), how many of those the
    model ranked first; and the state after reading everything but the last character.

    `vocab`: index int32 (V,) -> codes int32 (V,), the code point of each id, -1 for UNKNOWN.

    Args:
        model: A network of `model.build`; its weights are copied.
        config: Its configuration, resolved.
        vocabulary: Its symbols.
        tables: A rule that all texts drawn have to fit.
        uniform: `sampling.uniform`, or `export.uniform`'s for the oldest runtimes.

    Attributes:
        vocabulary: The symbols.
        state_size: Width of the state (S).
        rule_size: Further columns of the state of `generate`: 1 with a rule of its own, else 0.
        weights: The copied weights, in the order of `model.named_weights`.
        functions: The signatures by name.
    """

    def __init__(
        self,
        model: keras.Model,
        config: ModelConfig,
        vocabulary: Vocabulary,
        tables: Tables | None = None,
        uniform: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = sampling.uniform,
    ):
        super().__init__()
        self._own, self.rule_size = tables, int(tables is not None)
        self._uniform = uniform
        self.vocabulary = vocabulary
        self._cell = CELLS[config.cell]
        recurrent = recurrent_layers(model)
        self._layers, self._one_hot = len(recurrent), not config.embedding
        self._tied = config.tied
        self._sizes = [layer.units for layer in recurrent for _ in range(self._cell.states)]
        self.state_size = sum(self._sizes)
        # Ids to codes, ascending, padded to a power of two for the binary search. Labels can be
        # read, but have no logits, so they are never drawn.
        self._codes = vocabulary.input_codes.astype(np.int32)  # (V + L,)
        self._search_bits = (vocabulary.inputs - 1).bit_length()
        self._search = np.full(2**self._search_bits, 2**31 - 1, np.int32)
        self._search[: vocabulary.inputs] = self._codes
        # Sample on the CPU during training too: the loop is long and its products are small.
        weights = named_weights(model)
        with tf.device("CPU"):
            self.weights = [tf.Variable(w.numpy(), trainable=False) for w in weights.values()]
        self.functions = {
            name: tf.function(function, input_signature=signature, autograph=False)
            for name, (function, signature) in self._signatures().items()
        }

    def assign(self, model: keras.Model) -> None:
        """Copy a model's weights again; the functions are not traced again."""
        for variable, weight in zip(self.weights, named_weights(model).values(), strict=True):
            variable.assign(weight.numpy())

    def runner(self) -> GraphRunner:
        """A runner of the signatures in TensorFlow; `generation.litert.Runner` runs a file's."""
        return GraphRunner(self)

    def signatures(self) -> dict[str, Callable]:
        """The signatures as they are saved."""
        return {name: f.get_concrete_function() for name, f in self.functions.items()}

    def _signatures(self) -> dict[str, tuple[Callable, tuple[tf.TensorSpec, ...]]]:
        def ints(name: str, *shape: int) -> tf.TensorSpec:
            return tf.TensorSpec(shape, tf.int32, name)

        def floats(name: str, *shape: int) -> tf.TensorSpec:
            return tf.TensorSpec(shape, tf.float32, name)

        def generate(rows: int, further: int = 0) -> tuple[tf.TensorSpec, ...]:
            return (
                ints("text", rows, READ),
                ints("text_length", rows),
                ints("seed", rows),
                ints("position", rows),
                ints("length", 1),
                ints("stop", 1),
                floats("temperature", 1),
                ints("top_k", 1),
                floats("top_p", 1),
                floats("min_p", 1),
                floats("state", rows, self.state_size + further),
            )

        rule = (
            ints("classes", self.vocabulary.size),
            ints("moves", ENTRIES),
            ints("width", 1),
            ints("mask", 1),
            ints("patience", 1),
        )
        state = floats("state", 1, self.state_size)
        drawing: dict[str, tuple[Callable, tuple[tf.TensorSpec, ...]]]
        if self._own:
            drawing = {
                "generate": (self._generate_ruled, generate(1, 1)),
                "generate_batch": (self._generate_ruled, generate(ROWS, 1)),
            }
        else:
            drawing = {
                "generate": (self._generate, generate(1)),
                "generate_batch": (self._generate, generate(ROWS)),
                "constrained": (self._constrained, generate(ROWS, 1) + rule),
            }
        limited = {
            name: (checked(draw, DRAW if draw == self._generate else constrained.LINE), spec)
            for name, (draw, spec) in drawing.items()
        }
        return limited | {
            "step": (self._step, (ints("text", 1), state)),
            "score": (self._score, (ints("text", 1, SCORE), ints("text_length", 1), state)),
            "vocab": (self._vocab, (ints("index", self.vocabulary.size),)),
        }

    def _ids(self, codes: tf.Tensor) -> tf.Tensor:
        """Ids of codes of any shape, by binary search: a table of all code points would be 4 MB."""
        ids = tf.zeros_like(codes)
        for bit in reversed(range(self._search_bits)):
            higher = ids + 2**bit
            ids = tf.where(tf.gather(self._search, higher) <= codes, higher, ids)
        ids = tf.minimum(ids, len(self._codes) - 1)
        return tf.where(tf.equal(tf.gather(self._codes, ids), codes), ids, UNKNOWN)

    def _read(
        self, ids: tf.Tensor, states: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Read one character a row: ids (B,), states of (B, H) -> output (B, H), new states."""
        weights = iter(self.weights)
        # A one-hot vector times the kernel is a row of the kernel.
        x = tf.gather(next(weights), ids)
        after: list[tf.Tensor] = []
        for layer in range(self._layers):
            projected = x if self._one_hot and layer == 0 else x @ next(weights)
            at = layer * self._cell.states
            own = states[at : at + self._cell.states]
            new, _ = self._cell.step(tf, projected, own, next(weights), next(weights))
            x = new[0]
            after += new
        return x, after

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        """Outputs (B, H) to logits (B, V)."""
        kernel, bias = self.weights[-2:]
        x = x @ kernel
        if self._tied:
            table = self.weights[0]
            if self.vocabulary.labels:
                table = table[: self.vocabulary.size]
            x = tf.matmul(x, table, transpose_b=True)
        return x + bias

    def _split(self, state: tf.Tensor) -> list[tf.Tensor]:
        """The state (B, S) to a tensor (B, H) for each of the layers' states."""
        return tf.split(state, self._sizes, axis=1)

    def _generate(
        self,
        text: tf.Tensor,
        text_length: tf.Tensor,
        seed: tf.Tensor,
        position: tf.Tensor,
        length: tf.Tensor,
        stop: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        state: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        rows = text.shape[0]
        ids, stop = self._ids(text), self._ids(stop)  # no stop is UNKNOWN, which is never drawn
        # Wrong inputs from a host must not read out of bounds.
        text_length, length = tf.minimum(text_length, READ), tf.minimum(length[0], DRAW)
        states = self._read_all_but_last(ids, text_length, self._split(state))
        # All of the loop's random numbers at once: cheaper than a few at each step.
        random = self._uniform(seed[:, None], position[:, None] + tf.range(DRAW))  # (B, N)

        def draw(n, last, active, drawn, bits, *states):
            x, after = self._read(last, states)
            logits = self._logits(x)  # (B, V)
            uniform = tf.gather(random, n, axis=1)
            chosen = sampling.draw(logits, uniform, temperature, top_k, top_p, min_p)  # (B,)
            cost = -tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
            if rows > 1:
                after, cost = keep_ended(active, after, states), tf.where(active, cost, 0.0)
            active = active & tf.not_equal(chosen, stop)
            column = tf.where(active, chosen, UNKNOWN)[:, None]  # UNKNOWN: nothing drawn
            drawn = tf.where(tf.equal(tf.range(DRAW), n), column, drawn)
            return n + 1, chosen, active, drawn, bits + cost, *after

        last = tf.gather(ids, tf.maximum(text_length - 1, 0), batch_dims=1)
        drawn = constrained.nothing(last, DRAW)
        _, _, active, drawn, nats, *states = tf.while_loop(
            lambda n, last, active, *_: (n < length) & tf.reduce_any(active),
            draw,
            (tf.constant(0), last, text_length > 0, drawn, tf.zeros(rows), *states),
        )
        return {
            "text": tf.gather(self._codes, drawn),
            "lengths": tf.reduce_sum(tf.cast(tf.not_equal(drawn, UNKNOWN), tf.int32), axis=1),
            "done": 1 - tf.cast(active, tf.int32),
            "bits": _bits(nats),
            "state": tf.concat(states, axis=1),
        }

    def _constrained(
        self,
        text: tf.Tensor,
        text_length: tf.Tensor,
        seed: tf.Tensor,
        position: tf.Tensor,
        length: tf.Tensor,
        stop: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        state: tf.Tensor,
        classes: tf.Tensor,
        moves: tf.Tensor,
        width: tf.Tensor,
        mask: tf.Tensor,
        patience: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        rule = constrained.Rule(classes, moves, width)
        cuts = temperature, top_k, top_p, min_p
        masks = tf.not_equal(mask, 0) | _greedy(temperature, top_k)
        given = seed, position, length, stop, cuts
        return self._fitting(rule, text, text_length, state, given, masks, patience[0])

    def _generate_ruled(
        self,
        text: tf.Tensor,
        text_length: tf.Tensor,
        seed: tf.Tensor,
        position: tf.Tensor,
        length: tf.Tensor,
        stop: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        state: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        own = self._own
        assert own is not None, "a signature of graphs with a rule of their own"
        rule = constrained.Rule(
            tf.constant(own.classes), tf.constant(own.moves.ravel()), own.moves.shape[1]
        )
        cuts = temperature, top_k, top_p, min_p
        masks = _greedy(temperature, top_k) | (position > (0 if own.lines else -1))
        given = seed, position, length, stop, cuts
        out = self._fitting(rule, text, text_length, state, given, masks, None)
        del out["steps"]  # the interface is that of a file without a rule
        return out

    def _fitting(
        self,
        rule: constrained.Rule,
        text: tf.Tensor,
        text_length: tf.Tensor,
        state: tf.Tensor,
        given: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]],
        masks: tf.Tensor,
        patience: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        """Read a text and draw what follows and fits a rule; see `constrained.Request`.

        Args:
            rule: The rule.
            text, text_length, state: As for `generate`; the state has the rule's as last column.
            given: seed, position, length and stop as for `generate`, and the cuts.
            masks: Rows that draw only what fits, bool, (B,) or (1,).
            patience: As for `constrained`; None for a file's own rule.
        """
        rows, ids = text.shape[0], self._ids(text)
        seed, position, length, stop, cuts = given
        text_length = tf.minimum(text_length, READ)
        *states, at = tf.split(state, [*self._sizes, 1], axis=1)

        def step(ids, states):
            x, after = self._read(ids, states[:-1])
            return x, [*after, rule.read(states[-1], ids)]

        first = self._read_all_but_last(ids, text_length, [*states, tf.cast(at, tf.int32)], step)
        last = tf.gather(ids, tf.maximum(text_length - 1, 0), batch_dims=1)
        request = constrained.Request(
            self._uniform,
            seed,
            position,
            text_length > 0,
            tf.minimum(length[0], constrained.LINE),
            self._ids(stop),
            cuts,
            masks & tf.ones(rows, tf.bool),
            constrained.PATIENCE if patience is None else patience,
            patience is not None,
        )
        out, (*states, at) = constrained.draw(step, self._logits, rule, last, first, request)
        out["text"] = tf.gather(self._codes, out.pop("drawn"))
        out["bits"] = _bits(out.pop("nats"))
        out["state"] = tf.concat([*states, tf.cast(at, tf.float32)], axis=1)
        return out

    def _read_all_but_last(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        states: Sequence[tf.Tensor],
        step: Step | None = None,
    ) -> list[tf.Tensor]:
        """Read each row's ids (B, P) up to its length (B,) but the last; returns the states.

        Args:
            ids, lengths: What to read.
            states: The states before it.
            step: Reads a character, as `_read` does; by default `_read`.
        """
        step = step or self._read

        def read(t, *states):
            _, after = step(tf.gather(ids, t, axis=1), states)
            # A single row is always active: the loop ends with it.
            if ids.shape[0] != 1:
                after = keep_ended(t < lengths - 1, after, states)
            return t + 1, *after

        longest = tf.reduce_max(lengths)
        return tf.while_loop(lambda t, *_: t < longest - 1, read, (tf.constant(0), *states))[1:]

    def _step(self, text: tf.Tensor, state: tf.Tensor) -> dict[str, tf.Tensor]:
        x, states = self._read(self._ids(text), self._split(state))
        return {"logits": self._logits(x), "state": tf.concat(states, axis=1)}

    def _score(
        self, text: tf.Tensor, text_length: tf.Tensor, state: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        ids, length = self._ids(text), tf.minimum(text_length[0], SCORE)

        def score(t, nats, correct, *states):
            x, states = self._read(tf.gather(ids, t, axis=1), states)
            logits, target = self._logits(x), tf.gather(ids, t + 1, axis=1)
            nats -= tf.gather(tf.nn.log_softmax(logits), target, batch_dims=1)
            hit = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), target)
            return t + 1, nats, correct + tf.cast(hit, tf.int32), *states

        _, nats, correct, *states = tf.while_loop(
            lambda t, *_: t < length - 1,
            score,
            (tf.constant(0), tf.zeros(1), tf.zeros(1, tf.int32), *self._split(state)),
        )
        return {"bits": _bits(nats), "correct": correct, "state": tf.concat(states, axis=1)}

    def _vocab(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"codes": tf.gather(self._codes, index)}


def _greedy(temperature: tf.Tensor, top_k: tf.Tensor) -> tf.Tensor:
    """Whether the likeliest character is drawn: beginning again would draw the same text."""
    return tf.equal(temperature, 0.0) | tf.equal(top_k, 1)


def _bits(nats: tf.Tensor) -> tf.Tensor:
    # With float16 weights the converter also rounds this constant; a sum of two is precise enough.
    high = np.float32(np.float16(1 / np.log(2)))
    return nats * high + nats * np.float32(1 / np.log(2) - high)


def save(graph: OnDeviceGraph, folder: str | Path, default: str | None = None) -> None:
    """Write a graph as a SavedModel.

    Args:
        graph: The graph.
        folder: A folder, which is created if it is missing.
        default: The signature for requests that name none.

    Raises:
        OSError: The folder cannot be written.
    """
    functions = graph.signatures()
    if default:
        functions["serving_default"] = functions[default]
    bare = tf.Module()  # saving the graph itself would save every function twice
    bare.weights = graph.weights
    try:
        with quiet():
            tf.saved_model.save(bare, str(folder), signatures=functions)
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message.rpartition("; ")[2], str(folder)) from error


class GraphRunner(Runner):
    """Runs an `OnDeviceGraph` in TensorFlow, as a `Runner` runs a file in LiteRT."""

    def __init__(self, network: OnDeviceGraph):
        self.rows, self.read_width, self.draw_width, self.score_width = ROWS, READ, DRAW, SCORE
        self.state_size, self.rule_size = network.state_size, network.rule_size
        self._functions = network.functions

    def __call__(self, signature: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        with tf.device("CPU"):
            out = self._functions[signature](**arrays)
        return {name: tensor.numpy() for name, tensor in out.items()}
