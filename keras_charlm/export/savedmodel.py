"""A TensorFlow SavedModel with strings in and out, as TensorFlow Serving takes it.

It holds what the on-device file holds, and what that file leaves to its host: text as UTF-8,
Unicode normalization, prompts and texts of any length. It loads with `tf.saved_model.load` in a
process that has neither this package nor Keras; the signatures are described at `Server`.
"""

from __future__ import annotations

import importlib.util
import operator
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_charlm.config import ModelConfig
from keras_charlm.display import quiet
from keras_charlm.errors import ExportError
from keras_charlm.export.graph import READ, OnDeviceGraph
from keras_charlm.export.tflite import TOLERANCE
from keras_charlm.files import write_json
from keras_charlm.generation.runner import score_text
from keras_charlm.network import sampling
from keras_charlm.saved import bundle
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import UNKNOWN, Vocabulary, normalize

LONGEST = 100_000  # characters that one request may draw: a server must not be held up for ever


_RELOAD = Path(__file__).with_name("reload.py")


_ROWS, _DRAW = 16, 64  # texts and characters drawn by the check


class Server(OnDeviceGraph):
    """A trained network that reads and writes strings.

    Signatures, with B rows, V symbols and S states. A string is UTF-8, or for a byte model any
    bytes; characters that training never had read as the unknown symbol. The settings are tensors
    of B values, or single values that hold for all rows; a row's result depends on that row alone.

    `generate`, which is also `serving_default`:
        prompt: string (B,).
        length: int32, characters to draw, at most `LONGEST`.
        temperature, top_k, top_p: float32, int32, float32; see `sampling.draw`.
        seed: int32; a negative one is replaced by a new one.
      Outputs:
        text: string (B,), what follows the prompt; of a list, up to the end of the line. A byte
            model calls it `text_bytes`: TensorFlow Serving writes such a name's value in base64.
        seed: int32 (B,), which draws the same text again.
        bits_per_character: float32 (B,), the mean of -log2 p over what was drawn, the end of the
            line included, by the plain probabilities; 0 where nothing was.
        unknown: int32 (B,), how many characters of the prompt are unknown.

    `score`: text string (B,) -> bits_per_character float32 (B,), the mean of -log2 p of all its
    characters, and characters int32 (B,). An empty text has 0 of both.

    `step`: text string (B,), state float32 (B, S) -> logits float32 (B, V) of the character that
    follows, state float32 (B, S). It reads all of the text; an empty one stands for the beginning
    of a document. The first state is all zeros, and id 0 of the logits is the unknown symbol.

    Args:
        model: A network of `model.build`; its weights are copied.
        config: Its configuration.
        vocabulary: Its symbols.
        lines: Its documents are lines.
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
    ):
        super().__init__(model, config, vocabulary)
        self._bytes, self._lines = vocabulary.unit == "byte", lines
        self._start = vocabulary.id_of(start)
        self._form = normalize.upper() if needs_text(vocabulary, normalize) else None
        symbols = (vocabulary.from_codes(np.array([code])) for code in vocabulary.codes)
        # The unknown symbol is never drawn: its empty string fills rows behind their end.
        self._strings = np.array(
            [b"", *(s if self._bytes else s.encode() for s in symbols)], object
        )  # (V,)

    def _signatures(self) -> dict:
        def each(name, dtype):
            return tf.TensorSpec(None, dtype, name)

        text = tf.TensorSpec([None], tf.string, "text")
        return {
            "generate": (self._generate, (
                tf.TensorSpec([None], tf.string, "prompt"), each("length", tf.int32),
                each("temperature", tf.float32), each("top_k", tf.int32),
                each("top_p", tf.float32), each("seed", tf.int32))),
            "score": (self._score, (text,)),
            "step": (self._step, (text, tf.TensorSpec([None, self.state_size], tf.float32,
                                                      "state"))),
        }  # fmt: skip

    def _decode(self, text, start):
        """Strings (B,) to ids (B, L), L at least 1, and lengths (B,), each at least 1.

        Args:
            text: Strings.
            start: Whether all rows begin with the start symbol, or those only that are empty.

        Returns:
            ids, lengths, and the number of unknown characters of each row (B,).
        """
        if self._form:
            import tensorflow_text

            text = tensorflow_text.normalize_utf8(text, self._form)
        if self._bytes:
            lengths = tf.strings.length(text)
            # The width must not be zero; what lies behind a row's end is never read.
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

    def _zeros(self, rows):
        return self._split(tf.zeros([rows, self.state_size]))

    def _read_all(self, ids, lengths, states):
        """Reads each row's ids (B, L) up to its length but the last, and returns that one (B,)
        and the states."""

        def read(t, *states):
            _, after = self._read(tf.gather(ids, t, axis=1), states)
            return t + 1, *_keep(t < lengths - 1, after, states)

        longest = tf.reduce_max(lengths)
        states = tf.while_loop(lambda t, *_: t < longest - 1, read, (tf.constant(0), *states))[1:]
        return tf.gather(ids, lengths - 1, batch_dims=1), states

    def _generate(self, prompt, length, temperature, top_k, top_p, seed):
        rows = tf.shape(prompt)[0]

        def each(name, value, right):
            said = tf.debugging.Assert(tf.reduce_all(right), [f"{name} must be {_RANGES[name]}"])
            with tf.control_dependencies([said]):  # before anything fails for it less clearly
                return tf.broadcast_to(tf.reshape(value, [-1]), [rows])

        length = each("length", length, (length >= 0) & (length <= LONGEST))
        temperature = each("temperature", temperature, (temperature >= 0) & (temperature <= 100))
        top_k = each("top_k", top_k, top_k >= 0)
        top_p = each("top_p", top_p, (top_p > 0) & (top_p <= 1))
        seed = tf.broadcast_to(tf.reshape(seed, [-1]), [rows])
        # The raw operator: a seed set in the exporting process must not go into the file.
        new = tf.raw_ops.RandomUniformInt(shape=[rows], minval=0, maxval=2**31 - 1)
        seed = tf.where(seed < 0, new, seed)

        ids, lengths, unknown = self._decode(prompt, start=self._lines)
        last, states = self._read_all(ids, lengths, self._zeros(rows))
        stop = self._start if self._lines else UNKNOWN  # which is never drawn
        longest = tf.reduce_max(length)

        def draw(n, last, active, drawn, nats, count, *states):
            x, after = self._read(last, states)
            logits = self._logits(x)  # (B, V)
            uniform = sampling.uniform(seed, n)  # (B,)
            chosen = sampling.draw(logits, uniform, temperature[:, None], top_k[:, None],
                                   top_p[:, None])  # fmt: skip
            cost = -tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
            nats += tf.where(active, cost, 0.0)
            count += tf.cast(active, tf.float32)
            going = active & tf.not_equal(chosen, stop)
            drawn = drawn.write(n + 1, tf.where(going, chosen, UNKNOWN))
            return (n + 1, chosen, going & (n + 1 < length), drawn, nats, count,
                    *_keep(active, after, states))  # fmt: skip

        drawn = tf.TensorArray(tf.int32, longest + 1, element_shape=[None])
        drawn = drawn.write(0, tf.fill([rows], UNKNOWN))  # gives the unwritten ones their shape
        _, _, _, drawn, nats, count, *_ = tf.while_loop(
            lambda n, last, active, *_: tf.reduce_any(active), draw,
            (tf.constant(0), last, length > 0, drawn, tf.zeros([rows]), tf.zeros([rows]), *states),
        )  # fmt: skip
        text = tf.strings.reduce_join(tf.gather(self._strings, drawn.stack()), axis=0)
        return {
            "text_bytes" if self._bytes else "text": text,
            "seed": seed,
            "bits_per_character": nats / np.float32(np.log(2)) / tf.maximum(count, 1),
            "unknown": unknown,
        }

    def _score(self, text):
        ids, lengths, _ = self._decode(text, start=True)

        def score(t, nats, *states):
            x, states = self._read(tf.gather(ids, t, axis=1), states)
            log_p = tf.nn.log_softmax(self._logits(x))
            cost = -tf.gather(log_p, tf.gather(ids, t + 1, axis=1), batch_dims=1)
            # Of a long text's sum float32 would lose what a character adds.
            nats += tf.cast(tf.where(t < lengths - 1, cost, 0.0), tf.float64)
            return t + 1, nats, *states

        rows, longest, characters = tf.shape(ids)[0], tf.reduce_max(lengths), lengths - 1
        _, nats, *_ = tf.while_loop(
            lambda t, *_: t < longest - 1, score,
            (tf.constant(0), tf.zeros([rows], tf.float64), *self._zeros(rows)),
        )  # fmt: skip
        mean = nats / np.log(2) / tf.cast(tf.maximum(characters, 1), tf.float64)
        return {"bits_per_character": tf.cast(mean, tf.float32), "characters": characters}

    def _step(self, text, state):
        ids, lengths, _ = self._decode(text, start=False)
        last, states = self._read_all(ids, lengths, self._split(state))
        x, states = self._read(last, states)
        return {"logits": self._logits(x), "state": tf.concat(states, axis=1)}


_RANGES = {
    "length": f"from 0 to {LONGEST:,}",
    "temperature": "from 0 to 100",
    "top_k": "0 for all characters, or how many",
    "top_p": "above 0 and at most 1",
}


def _keep(active, new, old):
    """Tensors (B, ...) of rows that are at their end stay as they are."""
    return [tf.where(active[:, None], a, b) for a, b in zip(new, old, strict=True)]


def needs_text(vocabulary: Vocabulary, form: str) -> bool:
    """Whether prompts are normalized by an operator of tensorflow-text.

    Under NFC a model that knows ASCII alone goes without: what differs is how characters that it
    has never seen are counted. NFKC makes ASCII of others, such as ligatures.
    """
    return form == "nfkc" or (form == "nfc" and vocabulary.codes[-1] > 127)


def write(opened: TrainedModel, folder: Path) -> dict[str, Any]:
    """Write a model as a SavedModel, and check it in a process of its own.

    Args:
        opened: The model.
        folder: Where it goes; must not exist.

    Returns:
        The report: `bytes` on the disk; `tensorflow_text`, whether the loading process needs its
        operators; `logits_difference`, the largest to the model's on-device file; `same_text`, of
        `texts` drawn with the same seeds; `bits_per_character` of `file` and `export` over a text
        that the model drew; `load_seconds`; `characters_per_second` of `one` text and of a `batch`.

    Raises:
        ExportError: The folder cannot be written, tensorflow-text is needed and missing, or the
            SavedModel does not give what the model gives; nothing is left behind.
    """
    card, folder = opened.card, Path(folder)
    if folder.exists():
        raise ExportError(f"{folder} exists already; name another folder, or remove it.")
    text = needs_text(opened.vocabulary, card.normalize)
    if text and not _text_operators().is_file():
        raise ExportError(
            f"This model's texts are normalized by {card.normalize.upper()}, which a SavedModel "
            "does with tensorflow-text, and that is not installed; install it, or export on Linux."
        )
    server = Server(opened.model, card.model, opened.vocabulary, lines=card.lines,
                    start=card.start, normalize=card.normalize)  # fmt: skip
    try:
        folder.mkdir(parents=True)
        save(server, folder)
        write_json(folder / bundle.VOCABULARY, opened.vocabulary.to_dict())
        (folder / "README.md").write_text(_readme(opened, server, text), encoding="utf-8")
        return {
            "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
            "tensorflow_text": text,
            **check(opened, folder),
        }
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise ExportError(
                f"{folder} cannot be written ({error.strerror or error}); name another folder."
            ) from error
        raise


def save(server: Server, folder: Path) -> None:
    """Write the SavedModel itself."""
    functions = {name: f.get_concrete_function() for name, f in server.functions.items()}
    # A request that names no signature means this one.
    functions["serving_default"] = functions["generate"]
    bare = tf.Module()  # the server itself would have every function saved twice
    bare.weights = server.weights
    with quiet():
        tf.saved_model.save(bare, str(folder), signatures=functions)


def _text_operators() -> Path:
    """The library of tensorflow-text that normalizes; the whole package would need Keras."""
    spec = importlib.util.find_spec("tensorflow_text")
    root = Path(spec.origin).parent if spec and spec.origin else Path("tensorflow_text")
    return root / "python" / "ops" / "_normalize_ops.so"


def call(folder: Path, requests: list[tuple[str, dict]], operators: Path | None = None) -> dict:
    """Call a SavedModel's signatures in a fresh process without this package and Keras.

    Args:
        folder: The SavedModel.
        requests: Names of signatures and their inputs.
        operators: Library of operators to load first.

    Returns:
        `load_seconds`, and `results`: of each request its outputs and `seconds`.

    Raises:
        ExportError: It does not load, or a call fails.
    """
    arguments = [str(folder), *([str(operators)] if operators else [])]
    done = subprocess.run([sys.executable, "-I", str(_RELOAD), *arguments],
                          input=pickle.dumps(requests), capture_output=True)  # fmt: skip
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise ExportError(f"The SavedModel failed in a fresh process: {lines[-1]}")
    return pickle.loads(done.stdout)


def check(opened: TrainedModel, folder: Path) -> dict[str, Any]:
    """Compare a SavedModel with the model's on-device file.

    Args:
        opened: The model.
        folder: The SavedModel.

    Returns:
        The measured part of `write`'s report.

    Raises:
        ExportError: It fails in a fresh process, its logits differ by more than `TOLERANCE`, or
            the same seeds draw other texts.
    """
    runner, vocabulary, card = opened.runner, opened.vocabulary, opened.card
    noise = vocabulary.from_codes(np.random.default_rng(0).choice(vocabulary.codes, READ))
    if isinstance(noise, str):
        noise = normalize(noise, card.normalize)
    state, logits = np.zeros((1, runner.state_size), np.float32), []
    for code in vocabulary.to_codes(noise):
        out = runner("step", text=np.int32([code]), state=state)
        state, logits = out["state"], [*logits, out["logits"][0]]
    beginnings = [noise[:n] for n in range(1, len(noise) + 1)]
    # Half of the texts begin anew, the others go on from the noise.
    seeds, prompts = list(range(_ROWS)), [noise[:0], noise] * (_ROWS // 2)
    drawn = [{s.seed: s.text for s in opened.samples(
        prompt, num=_ROWS, seed=0, length=_DRAW, temp=1.0, unknown_ok=True)}
        for prompt in prompts[:2]]  # fmt: skip
    expected = [drawn[seed % 2].get(seed, noise[:0]) for seed in seeds]  # lines may be empty
    start = vocabulary.from_codes(np.array([card.start]))
    text = start.join(drawn[0].values())

    def generate(rows):
        return "generate", {"prompt": prompts[:rows], "length": _DRAW, "temperature": 1.0,
                            "top_k": 0, "top_p": 1.0, "seed": seeds[:rows]}  # fmt: skip

    operators = _text_operators() if needs_text(vocabulary, card.normalize) else None
    zeros = np.zeros((len(beginnings), runner.state_size), np.float32)
    called = call(folder, [
        ("step", {"text": beginnings, "state": zeros}), ("score", {"text": [text]}),
        generate(_ROWS), generate(1), generate(_ROWS), generate(1),  # the first of each warms up
    ], operators)  # fmt: skip
    step, score, batch, _, again, one = called["results"]

    worst = float(np.abs(step["logits"] - np.stack(logits)).max())
    if not worst <= TOLERANCE:
        raise ExportError(
            f"The SavedModel's logits differ by {worst:.2g} from the trained model's; at most "
            f"{TOLERANCE:g} is accepted, so it was not written."
        )
    texts = list(batch["text_bytes"]) if vocabulary.unit == "byte" else [
        t.decode() for t in batch["text"]]  # fmt: skip
    # Rounding alone changes a character in many thousands, and with it the rest of its row.
    if (same := sum(map(operator.eq, texts, expected))) < _ROWS // 2:
        raise ExportError(
            f"With the same seeds the SavedModel drew the same text in {same} of {_ROWS} rows "
            "only; it is not the trained model, so it was not written."
        )
    characters, bits, _ = score_text(runner, vocabulary, start + text)
    return {
        "logits_difference": worst,
        "same_text": same,
        "texts": _ROWS,
        "bits_per_character": {"file": bits / max(characters, 1),
                               "export": float(score["bits_per_character"][0])},
        "load_seconds": called["load_seconds"],
        "characters_per_second": {"one": len(texts[0]) / one["seconds"],
                                  "batch": sum(map(len, texts)) / again["seconds"]},
    }  # fmt: skip


def _readme(opened: TrainedModel, server: Server, text: bool) -> str:
    """What a person who finds the folder needs to know."""
    card, name = opened.card, opened.card.name
    out = "text_bytes" if server._bytes else "text"
    loading = "import tensorflow as tf\n\n"
    needs = "It needs no other library to load."
    if text:
        loading = (
            "import tensorflow as tf\n"
            "import tensorflow_text  # operators of the model's Unicode normalization; needs "
            "Keras\n\n"
        )
        needs = (
            f"Its prompts and texts are normalized by {card.normalize.upper()} with an operator of "
            "tensorflow-text:\n"
            "**a process that loads it must `import tensorflow_text` first**, of the version that "
            "fits its\nTensorFlow. That import needs Keras; a process without Keras loads the "
            "operator alone, with\n"
            '`tf.load_op_library(".../tensorflow_text/python/ops/_normalize_ops.so")`. '
            "TensorFlow Serving\nhas tensorflow-text's operators built in."
        )
    units = "Strings are bytes." if server._bytes else "Strings are UTF-8."
    if server._bytes:
        units += (
            ' In JSON, bytes that are not UTF-8 are written `{"b64": "..."}`, in both directions.'
        )
    settings = '"length": 20, "temperature": 0.8, "top_k": 0, "top_p": 1.0'
    return f"""# {name}: a SavedModel

A character-level language model: {card.model.cell}, {card.model.layers} x {card.model.units},
{opened.vocabulary.size - 1} symbols. It was written by keras_charlm, which is not needed to use it.
{needs}

## In Python

```python
{loading}model = tf.saved_model.load("this folder")
out = model.signatures["generate"](
    prompt=tf.constant(["Mar", "J"]), length=tf.constant(20), temperature=tf.constant(0.8),
    top_k=tf.constant(0), top_p=tf.constant(1.0), seed=tf.constant([1, 2]))
print(out["{out}"].numpy())
```

## With TensorFlow Serving

Mount this folder as `/models/{name}/1`. By row, or by column where one value serves all rows; all
six inputs are needed:

```
POST /v1/models/{name}:predict
{{"instances": [{{"prompt": "Mar", {settings}, "seed": 1}},
               {{"prompt": "J", {settings}, "seed": 2}}]}}

{{"inputs": {{"prompt": ["Mar", "J"], {settings}, "seed": [1, 2]}}}}

{{"signature_name": "score", "instances": [{{"text": "Maria"}}]}}
```

## Signatures

{units} There are B rows; a setting is one value for all of them, or B values.
Characters that training never had read as the unknown symbol.

| signature | inputs | outputs |
| --- | --- | --- |
| `generate` | `prompt` string (B,); `length` int32, at most {LONGEST:,}; `temperature` float32, 0 for the likeliest character; `top_k` int32, 0 for all; `top_p` float32; `seed` int32, -1 for a new one | `{out}` string (B,), what follows the prompt; `seed` int32 (B,); `bits_per_character` float32 (B,); `unknown` int32 (B,), unknown characters in the prompt |
| `score` | `text` string (B,) | `bits_per_character` float32 (B,); `characters` int32 (B,) |
| `step` | `text` string (B,), read after `state`; `state` float32 (B, {server.state_size}), zeros at first | `logits` float32 (B, {opened.vocabulary.size}) of the next character; `state` |

Column i of the logits is character i - 1 of the codes in `vocabulary.json`; column 0 is the unknown
symbol. The same seed draws the same text as `kcharlm generate --seed` and the model's on-device
file.
"""  # noqa: E501
