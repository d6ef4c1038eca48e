"""Laws of the SavedModel's signatures: they are those of the trained model, for strings."""

import numpy as np
import pytest
import tensorflow as tf
from test_tflite import built, logits_of, opened, shape, text_of

from keras_charlm.config import SampleConfig
from keras_charlm.export import serving
from keras_charlm.export.graph import save
from keras_charlm.generation.samples import draw_samples, stream_text
from keras_charlm.text.vocabulary import Vocabulary

SETTINGS = {"length": 12, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 1}


# Each cell and each vocabulary of `CASES`: strings come before and after what those compare.
@pytest.fixture(scope="module", params=["lstm", "gru", "rnn"])
def case(request, tmp_path_factory):
    """A cell at toy size: Keras model, file's runner, vocabulary, server, loaded SavedModel."""
    keras_model, _, vocabulary, _ = built(request.param)
    server = serving.Server(
        keras_model, shape(request.param), vocabulary, lines=False, start=10, normalize="none"
    )
    folder = tmp_path_factory.mktemp("saved") / request.param
    save(server, folder)
    loaded = tf.saved_model.load(str(folder))
    return keras_model, opened(request.param), vocabulary, server, loaded


def some(vocabulary, length):
    """Codes (length,), one in ten of them unknown."""
    codes = text_of(vocabulary, length, seed=length)
    return codes & 0xFF if vocabulary.unit == "byte" else codes


def strings(vocabulary, *codes):
    texts = [vocabulary.from_codes(np.asarray(c)) for c in codes]
    return [t if isinstance(t, bytes) else t.encode() for t in texts]


def run(loaded, name, **inputs):
    signature = loaded.signatures[name]
    specs = signature.structured_input_signature[1]
    inputs = {k: np.atleast_1d(v) for k, v in inputs.items()}  # a setting may be one value
    out = signature(**{k: tf.constant(v, specs[k].dtype) for k, v in inputs.items()})
    return {k: v.numpy() for k, v in out.items()}


def drawn(out):
    return out["text_bytes" if "text_bytes" in out else "text"].tolist()


def by_file(runner, vocabulary, prompt, **settings):
    """What the on-device file draws, as bytes."""
    config = SampleConfig(unknown_ok=True, **settings)
    text = vocabulary.from_codes([])[:0].join(
        stream_text(runner, vocabulary, config, prompt, start=10, normalize="none")
    )
    return text if isinstance(text, bytes) else text.encode()


def test_step_gives_the_logits_of_the_keras_model(case):
    keras_model, runner, vocabulary, _, loaded = case
    codes = [some(vocabulary, n) for n in (1, 40, 7)]
    zeros = np.zeros((3, runner.state_size), np.float32)
    out = run(loaded, "step", text=strings(vocabulary, *codes), state=zeros)
    for row, logits in zip(codes, out["logits"], strict=True):
        expected = logits_of(keras_model, vocabulary, row)[-1]
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    # Two steps equal one, and the empty text is the start symbol.
    first = run(loaded, "step", text=strings(vocabulary, codes[1][:15]), state=zeros[:1])
    second = run(loaded, "step", text=strings(vocabulary, codes[1][15:]), state=first["state"])
    np.testing.assert_allclose(second["logits"][0], out["logits"][1], atol=1e-5)
    start = run(loaded, "step", text=[b"", b"\n"], state=zeros[:2])["logits"]
    np.testing.assert_array_equal(start[0], start[1])


def test_score_is_that_of_the_keras_model(case):
    keras_model, _, vocabulary, _, loaded = case
    codes = [some(vocabulary, n) for n in (30, 0, 5)]
    out = run(loaded, "score", text=strings(vocabulary, *codes))
    assert out["characters"].tolist() == [30, 0, 5]
    assert out["bits_per_character"][1] == 0
    for row, bits in zip(codes, out["bits_per_character"], strict=True):
        if len(row):
            logits = logits_of(keras_model, vocabulary, np.concatenate([[10], row[:-1]]))
            log_p = tf.nn.log_softmax(logits).numpy()[range(len(row)), vocabulary.lookup(row)]
            np.testing.assert_allclose(bits, -log_p.mean() / np.log(2), rtol=1e-4)


def test_rows_draw_what_the_file_draws_each_with_its_own_settings(case):
    _, runner, vocabulary, _, loaded = case
    prompts = [vocabulary.from_codes(some(vocabulary, n)) for n in (3, 90, 0, 1, 2)]
    settings = {
        "length": [20, 5, 70, 0, 9],
        "temperature": [1, 0, 0.5, 1, 2],
        "top_k": [0, 0, 5, 0, 0],
        "top_p": [1, 1, 1, 1, 0.9],
        "min_p": [0.1, 0, 0.2, 0, 0],
        "seed": [5, 6, 7, 8, 9],
    }
    out = run(loaded, "generate", prompt=prompts, **settings)
    for row, prompt in enumerate(prompts):
        own = {k: v[row] for k, v in settings.items()}
        expected = by_file(runner, vocabulary, prompt, temp=float(own.pop("temperature")), **own)
        assert drawn(out)[row] == expected, row
    assert out["seed"].tolist() == settings["seed"]
    expected = [(vocabulary.encode(p) == 0).sum() for p in prompts]
    assert out["unknown"].tolist() == expected


def test_bits_are_those_of_the_samples(case):
    _, runner, vocabulary, _, loaded = case
    prompt = vocabulary.from_codes(np.array(vocabulary.codes[2:4]))
    out = run(loaded, "generate", prompt=[prompt] * 3, **{**SETTINGS, "seed": [3, 4, 5]})
    config = SampleConfig(seed=3, num=3, length=12, temp=1.0)
    expected = list(draw_samples(runner, vocabulary, config, prompt, start=10))
    np.testing.assert_allclose(
        out["bits_per_character"], [s.bits_per_character for s in expected], rtol=1e-4
    )


def test_no_length_and_no_batch_is_traced_again(case):
    _, _, vocabulary, server, _ = case
    symbol = strings(vocabulary, vocabulary.codes[1:2])[0]
    for rows, length in (1, 1), (1, 50), (3, 7), (16, 0):
        for _ in range(2):
            text = tf.constant([symbol * length] * rows)
            each = {k: tf.constant([v]) for k, v in SETTINGS.items()}
            server.functions["generate"](prompt=text, **each)
            server.functions["score"](text=text)
            server.functions["step"](text=text, state=tf.zeros([rows, server.state_size]))
    for function in server.functions.values():
        assert function.experimental_get_tracing_count() == 1


def test_a_negative_seed_stands_for_a_new_one(case):
    _, _, vocabulary, _, loaded = case
    tf.keras.utils.set_random_seed(1)
    prompt = strings(vocabulary, vocabulary.codes[1:2]) * 8
    first = run(loaded, "generate", prompt=prompt, **{**SETTINGS, "seed": -1})
    second = run(loaded, "generate", prompt=prompt, **{**SETTINGS, "seed": -1})
    assert len({*first["seed"].tolist(), *second["seed"].tolist()}) == 16
    again = run(loaded, "generate", prompt=prompt, **{**SETTINGS, "seed": first["seed"]})
    assert drawn(again) == drawn(first)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", -1),
        ("length", 10**6),
        ("temperature", -0.5),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("temperature", [1.0, 1.0, 1.0]),
        ("seed", [1, 2, 3]),
        ("length", []),
    ],
)
def test_settings_out_of_range_are_refused(case, name, value):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        run(case[-1], "generate", prompt=["a", "b"], **{**SETTINGS, name: value})
    # Before the message TensorFlow in Python names the operator, and so says the same.
    _, _, detected, _, message, *_ = raised.value.message.splitlines()
    assert detected.startswith(f"Detected at node {name}_must_be_")
    assert message.startswith(f"{name} must be ")


def test_what_is_left_out_has_the_defaults_of_generate(case, tmp_path):
    *_, server, loaded = case
    save(server, tmp_path / "saved")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "saved"))
        generate = signature.signature_def["generate"]
        assert generate.defaults.keys() == SETTINGS.keys()
        assert {len(i.tensor_shape.dim) for i in generate.inputs.values()} == {1}
        text = next(name for name in generate.outputs if name.startswith("text"))
        names = [generate.outputs[name].name for name in (text, "seed")]
        texts, seeds = session.run(names, {generate.inputs["prompt"].name: ["a", "b"]})
    own = {**SETTINGS, "length": 500, "temperature": 0.8, "seed": seeds}
    assert drawn(run(loaded, "generate", prompt=["a", "b"], **own)) == texts.tolist()


def test_nfkc_reads_a_ligature_as_its_letters(tmp_path):
    import tensorflow_text  # noqa: F401 - its operators

    keras_model, _, vocabulary, _ = built("lstm")
    server = serving.Server(
        keras_model, shape("lstm"), vocabulary, lines=False, start=10, normalize="nfkc"
    )
    save(server, tmp_path / "nfkc")
    loaded = tf.saved_model.load(str(tmp_path / "nfkc"))
    out = run(loaded, "score", text=["ﬁn", "fin", "né", "ne\u0301"])
    assert out["characters"].tolist() == [3, 3, 2, 2]
    bits = out["bits_per_character"]
    assert bits[0] == bits[1]
    assert bits[2] == bits[3]


def test_which_models_need_tensorflow_text():
    ascii_only, accents = (Vocabulary("char", tuple(map(ord, t))) for t in ("abc", "abcé"))
    assert not serving.needs_text(ascii_only, "nfc")
    assert serving.needs_text(ascii_only, "nfkc")
    assert serving.needs_text(accents, "nfc")
    assert not serving.needs_text(accents, "none")
