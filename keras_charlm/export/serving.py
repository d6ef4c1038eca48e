"""The graph of a SavedModel: a trained network with string inputs and outputs.

In addition to the on-device graph, it does what that leaves to the host: UTF-8, Unicode
normalization, prompts and texts of any length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import ModelConfig, SampleConfig
from keras_charlm.export.constrained import keep_ended
from keras_charlm.export.graph import OnDeviceGraph
from keras_charlm.generation.samples import LENGTH, LINE_LENGTH
from keras_charlm.network import sampling
from keras_charlm.text.labels import Label
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary

LONGEST = 100_000  # maximum characters of one request, which must not block a server for hours

_RANGES = {
    "length": f"from 0 to {LONGEST:,}",
    "temperature": "from 0 to 100",
    "top_k": "0 for all characters, or how many",
    "top_p": "above 0 and at most 1",
    "min_p": "from 0 to 1",
}


class Server(OnDeviceGraph):
    """A trained network that reads and writes strings.

    Signatures, with B rows, V symbols and S states. A string is UTF-8, or for a byte model any
    bytes; characters that are not in the training text are read as the unknown symbol. A setting is
    a tensor of B values, or of one for all rows, and has a default (`defaults`); a row's result
    depends on that row alone.

    `generate`, which is also `serving_default`:
        prompt: string (B,).
        length: int32 (B,), characters to draw, at most `LONGEST`.
        temperature, top_k, top_p, min_p: float32, int32, float32, float32 (B,); see
            `sampling.draw`.
        seed: int32 (B,); a negative one is replaced by a random one.
        labels: string (B, any number), of a model with labels only: VALUE or COLUMN=VALUE, and
            empty strings for none. One row is for all.
      Outputs:
        text: string (B,), the continuation of the prompt; for lines, up to the end of the line. In
            a byte model it is `text_bytes`: TensorFlow Serving encodes such names in base64.
        seed: int32 (B,), the seed that reproduces the text.
        bits_per_character: float32 (B,), the mean of -log2 p over the characters drawn, including
            the end of the line, at temperature 1; 0 if nothing was drawn.
        unknown: int32 (B,), how many characters of the prompt are unknown.

    `score`: text string (B,), and labels as above -> bits_per_character float32 (B,), the mean of
    -log2 p over all its characters, and characters int32 (B,). Both are 0 for an empty text.

    `step`: text string (B,), state float32 (B, S) -> logits float32 (B, V) of the next character,
    state float32 (B, S). It reads the whole text; an empty text is the beginning of a document. The
    initial state is all zeros, and id 0 of the logits is the unknown symbol.

    Args:
        model: A network of `model.build`; its weights are copied.
        config: Its configuration.
        vocabulary: Its symbols.
        labels: The labels that it reads.
        lines: Whether its documents are lines.
        start: Code of the symbol that is read before a document, and that ends a line.
        normalize: Unicode normalization of prompts and texts.
    """

    def __init__(
        self,
        model: keras.Model,
        config: ModelConfig,
        vocabulary: Vocabulary,
        *,
        lines: bool,
        start: int,
        normalize: str,
        labels: Sequence[Label] = (),
    ):
        self._labels, self._lines = _by_name(labels), lines
        super().__init__(model, config, vocabulary)
        self._bytes = vocabulary.unit == "byte"
        self._start = vocabulary.id_of(start)
        self._form = normalize.upper() if needs_text(vocabulary, normalize) else None
        # The unknown symbol is never drawn: its empty string pads rows after their end.
        self._strings = np.array([b"", *map(self._string, vocabulary.codes)], object)  # (V,)

    def _string(self, code: int) -> bytes:
        return bytes([code]) if self._bytes else chr(code).encode()

    def _signatures(self) -> dict[str, tuple[Callable, tuple[tf.TensorSpec, ...]]]:
        prompt, text = (tf.TensorSpec([None], tf.string, name) for name in ("prompt", "text"))
        state = tf.TensorSpec([None, self.state_size], tf.float32, "state")
        settings = [
            tf.TensorSpec([None], value.dtype, name) for name, value in self.defaults().items()
        ]
        labels = (
            (tf.TensorSpec([None, None], tf.string, "labels"),) if self.vocabulary.labels else ()
        )
        return {
            "generate": (self._generate_strings, (prompt, *settings, *labels)),
            "score": (self._score_strings, (text, *labels)),
            "step": (self._step_strings, (text, state)),
        }

    def signatures(self) -> dict[str, Callable]:
        """The signatures as they are saved: `generate` and `score` with defaults."""
        default, none = self.defaults(), tf.constant([[""]])
        bare = super().signatures()
        generate, score = bare["generate"], bare["score"]
        # A SavedModel takes the defaults from the arguments, so these are written out.
        own = {"generate": _unlabelled(generate, default)}
        if self.vocabulary.labels:
            own = {
                "generate": _labelled(generate, default, none),
                "score": lambda text, labels=none: score(text, labels),
            }
        return bare | {
            name: tf.function(function, input_signature=self.functions[name].input_signature)
            for name, function in own.items()
        }

    def defaults(self) -> dict[str, tf.Tensor]:
        """The default of each setting of `generate`, of shape (1,)."""
        usual = SampleConfig()
        return {
            "length": tf.constant([LINE_LENGTH if self._lines else LENGTH], tf.int32),
            "temperature": tf.constant([usual.temp], tf.float32),
            "top_k": tf.constant([usual.top_k], tf.int32),
            "top_p": tf.constant([usual.top_p], tf.float32),
            "min_p": tf.constant([usual.min_p], tf.float32),
            "seed": tf.constant([-1], tf.int32),
        }

    def _decode(self, text: tf.Tensor, start: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Decode strings (B,) to ids (B, L), L at least 1, and lengths (B,), each at least 1.

        Args:
            text: Strings.
            start: Prepend the start symbol to all rows instead of only to empty ones.

        Returns:
            ids, lengths, and the number of unknown characters of each row (B,).
        """
        if self._form:
            import tensorflow_text

            text = tensorflow_text.normalize_utf8(text, self._form)
        if self._bytes:
            lengths = tf.strings.length(text)
            # The width must not be zero; what is beyond a row's end is never read.
            width = tf.maximum(tf.reduce_max(lengths), 1)
            codes = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=width), tf.int32)
        else:
            ragged = tf.strings.unicode_decode(text, "UTF-8")
            codes, lengths = ragged.to_tensor(), tf.cast(ragged.row_lengths(), tf.int32)
        ids = self._ids(codes)
        inside = tf.range(tf.shape(ids)[1]) < lengths[:, None]
        unknown = tf.reduce_sum(tf.cast(inside & tf.equal(ids, UNKNOWN), tf.int32), axis=1)
        if start:
            ids, lengths = tf.pad(ids, [[0, 0], [1, 0]], constant_values=self._start), lengths + 1
        else:
            empty = tf.equal(lengths, 0)
            ids = tf.where(empty[:, None], self._start, tf.pad(ids, [[0, 0], [0, 1]]))
            lengths = tf.maximum(lengths, 1)
        return ids, lengths, unknown

    def _begin(
        self, text: tf.Tensor, labels: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Decode texts (B,) after the start symbol and labels (B, n).

        Returns:
            ids (B, L), lengths (B,), and the numbers of unknown characters and of labels (B,) each.
        """
        ids, lengths, unknown = self._decode(text, start=True)
        if labels is None:
            return ids, lengths, unknown, tf.zeros_like(lengths)
        names, numbers = self._labels
        matches = tf.equal(labels[:, :, None], names)  # (B, n, M)
        own = tf.reduce_sum(tf.where(matches, numbers, 0), axis=2)  # (B, n), 0 for none
        right = tf.reduce_all(tf.equal(labels, "") | (own > 0))
        rows = tf.shape(text)[0]
        checks = [
            _require(right, "labels must be those of the model's card"),
            _require(_one_or(rows, labels), "labels must be one row, or one for each text"),
        ]
        with tf.control_dependencies(checks):
            own = tf.broadcast_to(own, [rows, tf.shape(own)[1]])
            # Ids are in the order of the columns; none come first.
            own = tf.sort(own, axis=1)
        count = tf.reduce_sum(tf.cast(own > 0, tf.int32), axis=1)
        ids = tf.concat([ids[:, :1], own, ids[:, 1:]], axis=1)
        at = tf.range(tf.shape(ids)[1])[None]
        none = tf.shape(own)[1] - count[:, None]
        at = tf.where(at > 0, tf.minimum(at + none, tf.shape(ids)[1] - 1), at)
        return tf.gather(ids, at, batch_dims=1), lengths + count, unknown, count

    def _zeros(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return self._split(tf.zeros([rows, self.state_size]))

    def _generate_strings(
        self,
        prompt: tf.Tensor,
        length: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        seed: tf.Tensor,
        labels: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        rows = tf.shape(prompt)[0]
        length = _each("length", length, rows, (length >= 0) & (length <= LONGEST))
        temperature = _each(
            "temperature", temperature, rows, (temperature >= 0) & (temperature <= 100)
        )
        top_k = _each("top_k", top_k, rows, top_k >= 0)
        top_p = _each("top_p", top_p, rows, (top_p > 0) & (top_p <= 1))
        min_p = _each("min_p", min_p, rows, (min_p >= 0) & (min_p <= 1))
        seed = _each("seed", seed, rows)
        # The raw operator, so that a seed set in the exporting process is not stored in the file.
        new = tf.raw_ops.RandomUniformInt(shape=[rows], minval=0, maxval=2**31 - 1)
        seed = tf.where(seed < 0, new, seed)

        ids, lengths, unknown, _ = self._begin(prompt, labels)
        settings = {
            "temperature": temperature[:, None],
            "top_k": top_k[:, None],
            "top_p": top_p[:, None],
            "min_p": min_p[:, None],
        }
        drawn, nats, count = self._draw(ids, lengths, length, seed, settings)
        text = tf.strings.reduce_join(tf.gather(self._strings, drawn), axis=0)
        return {
            "text_bytes" if self._bytes else "text": text,
            "seed": seed,
            "bits_per_character": nats / np.float32(np.log(2)) / tf.maximum(count, 1),
            "unknown": unknown,
        }

    def _draw(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        length: tf.Tensor,
        seed: tf.Tensor,
        settings: dict[str, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Read each row's ids (B, L) up to its length (B,), and draw up to `length` (B,) more.

        Args:
            ids, lengths: As `_decode` returns them.
            length: Characters to draw, int32 (B,).
            seed: int32 (B,).
            settings: temperature, top_k, top_p and min_p of `sampling.draw`, each (B, 1).

        Returns:
            The ids drawn, int32 (N + 1, B), UNKNOWN in the first row and after a row's end; the
            sum of -ln p over them, and their number, both including the stop symbol, float32 (B,).
        """
        stop = self._start if self._lines else UNKNOWN  # UNKNOWN is never drawn
        rows = tf.shape(ids)[0]
        states = self._read_all_but_last(ids, lengths, self._zeros(rows))

        def draw(n, last, active, drawn, nats, count, *states):
            x, after = self._read(last, states)
            logits = self._logits(x)  # (B, V)
            chosen = sampling.draw(logits, sampling.uniform(seed, n), **settings)  # (B,)
            cost = -tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
            nats += tf.where(active, cost, 0.0)
            count += tf.cast(active, tf.float32)
            continues = active & tf.not_equal(chosen, stop)
            drawn = drawn.write(n + 1, tf.where(continues, chosen, UNKNOWN))
            states = keep_ended(active, after, states)
            return n + 1, chosen, continues & (n + 1 < length), drawn, nats, count, *states

        last, zeros = tf.gather(ids, lengths - 1, batch_dims=1), tf.zeros([rows])
        drawn = tf.TensorArray(tf.int32, tf.reduce_max(length) + 1, element_shape=[None])
        drawn = drawn.write(0, tf.fill([rows], UNKNOWN))  # gives the unwritten ones their shape
        _, _, _, drawn, nats, count, *_ = tf.while_loop(
            lambda n, last, active, *_: tf.reduce_any(active),
            draw,
            (tf.constant(0), last, length > 0, drawn, zeros, zeros, *states),
        )
        return drawn.stack(), nats, count

    def _score_strings(
        self, text: tf.Tensor, labels: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        ids, lengths, _, count = self._begin(text, labels)

        def score(t, nats, *states):
            x, states = self._read(tf.gather(ids, t, axis=1), states)
            log_p = tf.nn.log_softmax(self._logits(x))
            scored = (t >= count) & (t < lengths - 1)  # labels are read only
            target = tf.where(scored, tf.gather(ids, t + 1, axis=1), UNKNOWN)
            cost = -tf.gather(log_p, target, batch_dims=1)
            # In float32 the sum over a long text would lose precision.
            nats += tf.cast(tf.where(scored, cost, 0.0), tf.float64)
            return t + 1, nats, *states

        rows, longest, characters = tf.shape(ids)[0], tf.reduce_max(lengths), lengths - 1 - count
        _, nats, *_ = tf.while_loop(
            lambda t, *_: t < longest - 1,
            score,
            (tf.constant(0), tf.zeros([rows], tf.float64), *self._zeros(rows)),
        )
        mean = nats / np.log(2) / tf.cast(tf.maximum(characters, 1), tf.float64)
        return {"bits_per_character": tf.cast(mean, tf.float32), "characters": characters}

    def _step_strings(self, text: tf.Tensor, state: tf.Tensor) -> dict[str, tf.Tensor]:
        ids, lengths, _ = self._decode(text, start=False)
        states = self._read_all_but_last(ids, lengths, self._split(state))
        x, states = self._read(tf.gather(ids, lengths - 1, batch_dims=1), states)
        return {"logits": self._logits(x), "state": tf.concat(states, axis=1)}


def _by_name(labels: Sequence[Label]) -> tuple[np.ndarray, np.ndarray]:
    """The names of labels, VALUE where it is in one column only and COLUMN=VALUE, and their ids."""
    names = {f"{label.column}={label.value}": label.id for label in labels}
    values = [label.value for label in labels]
    names |= {label.value: label.id for label in labels if values.count(label.value) == 1}
    return np.array(list(names), object), np.array(list(names.values()), np.int32)


def _unlabelled(generate: Callable, default: dict[str, tf.Tensor]) -> Callable:
    """`generate` with the defaults of its settings."""

    def signature(
        prompt,
        length=default["length"],
        temperature=default["temperature"],
        top_k=default["top_k"],
        top_p=default["top_p"],
        min_p=default["min_p"],
        seed=default["seed"],
    ):
        return generate(prompt, length, temperature, top_k, top_p, min_p, seed)

    return signature


def _labelled(generate: Callable, default: dict[str, tf.Tensor], none: tf.Tensor) -> Callable:
    """The same of a model with labels, by default `none`."""

    def signature(
        prompt,
        length=default["length"],
        temperature=default["temperature"],
        top_k=default["top_k"],
        top_p=default["top_p"],
        min_p=default["min_p"],
        seed=default["seed"],
        labels=none,
    ):
        return generate(prompt, length, temperature, top_k, top_p, min_p, seed, labels)

    return signature


def _each(
    name: str, value: tf.Tensor, rows: tf.Tensor, right: tf.Tensor | bool = True
) -> tf.Tensor:
    """Broadcast a setting (1,) or (B,) to (B,); fails unless all of its values are `right`."""
    checks = [_require(_one_or(rows, value), f"{name} must be one value, or one for each prompt")]
    if name in _RANGES:
        checks.append(_require(tf.reduce_all(right), f"{name} must be {_RANGES[name]}"))
    with tf.control_dependencies(checks):  # before an operator fails with a less clear message
        return tf.broadcast_to(value, [rows])


def _one_or(rows: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Whether a tensor has one row, or this many."""
    own = tf.shape(value)[0]
    return tf.equal(own, 1) | tf.equal(own, rows)


def _require(right: tf.Tensor, sentence: str) -> tf.Tensor:
    """Fail with a message that begins with this sentence unless the scalar is true.

    Assert would put "assertion failed" before it. TensorFlow in Python shows the operator's name
    before the message, so that says the same.
    """
    name = "_".join(re.findall(r"\w+", sentence))
    message = f"{sentence}; change the request"  # TensorFlow adds " : Tensor had NaN values"
    return tf.debugging.check_numerics(tf.where(right, 0.0, np.nan), message, name=name)


def needs_text(vocabulary: Vocabulary, form: str) -> bool:
    """Whether prompts are normalized by an operator of tensorflow-text.

    NFC does not change ASCII, so a model with an ASCII vocabulary needs no operator: only the
    number of unknown characters can differ. NFKC turns other characters, such as ligatures, into
    ASCII.

    Args:
        vocabulary: The model's characters.
        form: Unicode normalization: 'nfc', 'nfkc' or 'none'.
    """
    return form == "nfkc" or (form == "nfc" and vocabulary.codes[-1] > 127)
