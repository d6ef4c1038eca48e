"""Laws of the SavedModel: it serves the trained model, where nothing of ours can be imported."""

import base64
import json
import re
import unicodedata

import numpy as np
import preloaded
import pytest
import tensorflow as tf
from conftest import TINY, babble
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint
from tensorflow.python.tools import saved_model_cli
from test_tflite import CASES, built, logits_of, opened, shape, text_of

import keras_charlm
from keras_charlm.config import SampleConfig
from keras_charlm.errors import ExportError, OptionError
from keras_charlm.export import checking, savedmodel, serving
from keras_charlm.export.export import export
from keras_charlm.export.graph import save
from keras_charlm.generation.samples import draw_samples, stream_text
from keras_charlm.text.vocabulary import Vocabulary


@pytest.fixture(autouse=True, scope="module")
def preloaded_processes():
    """Models are called in processes that begin with TensorFlow loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(savedmodel, "subprocess", preloaded)
        yield


SETTINGS = {"length": 12, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 1}


@pytest.fixture(scope="module", params=CASES)
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


# Written models, called in a process that can import neither this package nor Keras.


def served(folder, *bodies, text=False):
    """Answer REST requests as TensorFlow Serving does: JSON bodies to answers, decoded."""
    requests = []
    for body in map(json.loads, bodies):
        if "instances" in body:
            rows = body["instances"]
            assert all(row.keys() == rows[0].keys() for row in rows)
            inputs = {key: [row[key] for row in rows] for key in rows[0]}
        else:
            inputs = body["inputs"]
        requests.append((body.get("signature_name", "serving_default"), unpacked(inputs)))
    operators = savedmodel._text_operators() if text else None
    answers = []
    for out in savedmodel.call(folder, requests, operators)["results"]:
        del out["seconds"]
        rows = {len(value) for value in out.values()}
        assert len(rows) == 1, "the row form needs outputs with as many rows as the inputs"
        columns = {key: [packed(key, v) for v in value.tolist()] for key, value in out.items()}
        answers.append(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        )
    return json.loads(json.dumps(answers, allow_nan=False))


def unpacked(value):
    """Values as Serving reads them: {"b64": ...} is bytes."""
    if isinstance(value, dict):
        return (
            base64.b64decode(value["b64"])
            if value.keys() == {"b64"}
            else {key: unpacked(v) for key, v in value.items()}
        )
    return [unpacked(v) for v in value] if isinstance(value, list) else value


def packed(key, value):
    """Values as Serving writes them: strings of names that end in _bytes are base64."""
    if key.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    return value.decode() if isinstance(value, bytes) else value


def body(form, signature=None, **inputs):
    if form == "rows":
        longest = max(len(v) for v in inputs.values() if isinstance(v, list))
        columns = {k: v if isinstance(v, list) else [v] * longest for k, v in inputs.items()}
        content = {
            "instances": [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
        }
    else:
        content = {"inputs": {k: v if isinstance(v, list) else [v] for k, v in inputs.items()}}
    return json.dumps({**({"signature_name": signature} if signature else {}), **content})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Write a model, once: (opened model, folder, report)."""
    done = {}

    def export_once(model):
        if model not in done:
            folder = tmp_path_factory.mktemp("served")
            opened_model = keras_charlm.load(model)
            done[model] = opened_model, folder, savedmodel.write(opened_model, folder)
        return done[model]

    return export_once


@pytest.fixture(scope="module")
def accents_model(tmp_path_factory):
    """A tiny model of a text with accents, emoji and Hebrew, normalized to NFC."""
    folder = tmp_path_factory.mktemp("accents")
    text = babble(1500).replace("cat", "chât").replace("mat", "\N{CAT FACE}").replace("sat", "שָב")
    (folder / "text.txt").write_text(unicodedata.normalize("NFC", text), encoding="utf-8")
    keras_charlm.fit(folder / "text.txt", folder / "model", epochs=2, **TINY)
    return folder / "model"


def test_saved_model_cli_shows_types_shapes_and_defaults(text_model, exported, capsys):
    _, folder, _ = exported(text_model)
    saved_model_cli._show_inputs_outputs(str(folder), "serve", "generate")
    inputs = capsys.readouterr().out.split("output(s):")[0]
    shown = dict(re.findall(r"inputs\['(.*)'\] tensor_info:\n((?: +\w+: .*\n){3})", inputs))
    assert shown.pop("prompt").split()[-1] == "generate_prompt:0"
    defaults = {**SETTINGS, "length": 500, "temperature": 0.8, "seed": -1}
    for name, value in defaults.items():
        dtype, shape, tensor = re.findall(r": (.*)\n", shown.pop(name))
        assert (dtype, shape) == ("DT_INT32" if isinstance(value, int) else "DT_FLOAT", "(-1)")
        assert tensor == f"generate_{name}_default_{value}:0"
    assert not shown
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(folder))
    write_fingerprint(str(folder))
    assert fingerprint == tf.saved_model.experimental.read_fingerprint(str(folder))


def test_rows_and_columns_give_what_generate_gives(text_model, exported):
    model, folder, report = exported(text_model)
    assert not report["tensorflow_text"], "this model knows ASCII alone"
    prompts = ["the ca", "", "a"]
    given = {"prompt": prompts, **SETTINGS, "temperature": 0.8, "seed": [1, 2, 3]}
    rows, columns, one = served(
        folder,
        body("rows", **given),
        body("columns", **given),
        body("rows", **{**given, "prompt": ["a"], "seed": 3}),
    )
    assert rows == columns
    assert one == rows[2:]
    for seed, (prompt, row) in enumerate(zip(prompts, rows, strict=True), 1):
        assert prompt + row["text"] == model.generate(prompt, length=12, temp=0.8, seed=seed)


def test_score_is_that_of_evaluate(text_model, exported):
    model, folder, _ = exported(text_model)
    texts = [babble(400, seed=3), "the cat", ""]
    (rows,) = served(folder, body("rows", "score", text=texts))
    assert [row["characters"] for row in rows] == [400, 7, 0]
    for text, row in zip(texts[:2], rows, strict=False):
        expected = model.evaluate(text).bits_per_character
        assert row["bits_per_character"] == pytest.approx(expected, abs=1e-4)


def test_step_continues_over_rest(text_model, exported):
    model, folder, _ = exported(text_model)
    zeros = [0.0] * model.runner.state_size
    ((first,),) = served(folder, body("rows", "step", text=["the "], state=[zeros]))
    ((second,), (whole,)) = served(
        folder,
        body("rows", "step", text=["cat"], state=[first["state"]]),
        body("columns", "step", text=["the cat"], state=[zeros]),
    )
    assert second["logits"] == pytest.approx(whole["logits"], abs=1e-5)
    assert len(whole["logits"]) == model.vocabulary.size


def test_lines_end_where_the_list_s_lines_end(list_model, exported):
    model, folder, _ = exported(list_model)
    seeds = list(range(20))
    (rows,) = served(
        folder, body("rows", **{**SETTINGS, "prompt": ["a"] * 20, "length": 1000, "seed": seeds})
    )
    expected = {
        s.seed: s for s in model.samples("a", num=20, seed=0, temp=1.0, length=1000, repeat=True)
    }
    for row in rows:
        assert row["text"] == expected[row["seed"]].text
        assert row["bits_per_character"] == pytest.approx(
            expected[row["seed"]].bits_per_character, rel=1e-4
        )
        assert "\n" not in row["text"]


def test_prompts_are_normalized_and_any_script_is_read(accents_model, exported):
    model, folder, report = exported(accents_model)
    assert report["tensorflow_text"]
    prompts = [
        "cha\N{COMBINING CIRCUMFLEX ACCENT}t",
        "châ",
        "\N{CAT FACE}",
        "שָב",
        "\ufeffa",
        "the \N{ROCKET}",
        "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} \0",
    ]
    assert unicodedata.normalize("NFC", prompts[0]) != prompts[0]
    (rows,) = served(folder, body("rows", **{**SETTINGS, "prompt": prompts}), text=True)
    for prompt, row in zip(prompts, rows, strict=True):
        text = model.generate(prompt, length=12, temp=1.0, seed=1, unknown_ok=True)
        assert unicodedata.normalize("NFC", prompt) + row["text"] == text
    assert [row["unknown"] for row in rows] == [0, 0, 0, 0, 1, 1, 4]


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


def test_a_byte_model_reads_and_writes_bytes(byte_model, exported):
    model, saved, report = exported(byte_model)
    assert not report["tensorflow_text"]
    prompts = [b"\xff\x00\xfe", b"", "é".encode()]
    sent = [{"b64": base64.b64encode(prompts[0]).decode()}, "", "é"]
    rows, columns = served(
        saved,
        body("rows", **{**SETTINGS, "prompt": sent}),
        body("columns", **{**SETTINGS, "prompt": sent}),
    )
    assert rows == columns
    for prompt, row in zip(prompts, rows, strict=True):
        text = prompt + base64.b64decode(row["text_bytes"]["b64"])
        assert text == model.generate(prompt, length=12, temp=1.0, seed=1, unknown_ok=True)


def test_the_report_and_the_readme_say_what_a_host_needs(text_model, accents_model, exported):
    for model, needed in (text_model, False), (accents_model, True):
        _, folder, report = exported(model)
        assert report["tensorflow_text"] == needed
        assert report["largest_logit_difference"] <= 1e-4
        assert report["same_seeded_text"].startswith("16 of 16 rows")
        bits = report["bits_per_character"]
        assert bits["trained"] == pytest.approx(bits["exported"], abs=1e-3)
        assert report["bytes"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert ("import tensorflow_text" in (folder / "README.md").read_text()) == needed
    with pytest.raises(ExportError, match="fresh process"):
        savedmodel.call(folder, [])  # its operator is not there


def test_the_readme_s_requests_and_program_run_as_written(text_model, exported, capsys):
    _, folder, _ = exported(text_model)
    python, rest = re.findall(r"```(?:python)?\n(.*?)```", (folder / "README.md").read_text(), re.S)
    rest, bodies = rest.partition("\n")[2], []
    while rest.strip():
        content, end = json.JSONDecoder().raw_decode(rest.lstrip())
        bodies.append(json.dumps(content))
        rest = rest.lstrip()[end:]
    rows, columns, score = served(folder, *bodies)
    assert rows == columns
    assert score[0]["characters"] == len("Maria")
    exec(python.replace("this folder", str(folder)), {})
    assert capsys.readouterr().out.strip() == str(
        np.array([row["text"].encode() for row in rows], object)
    )


def test_which_models_need_tensorflow_text():
    ascii_only, accents = (Vocabulary("char", tuple(map(ord, t))) for t in ("abc", "abcé"))
    assert not serving.needs_text(ascii_only, "nfc")
    assert serving.needs_text(ascii_only, "nfkc")
    assert serving.needs_text(accents, "nfc")
    assert not serving.needs_text(accents, "none")


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_unknown_characters_of_the_text_are_compared_too(tmp_path, monkeypatch, unit):
    text = babble(1500)
    text = text[:1370] + "é" + text[1370:]  # in the validation part alone
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    model = keras_charlm.fit(tmp_path / "text.txt", tmp_path / "model", unit=unit, epochs=1, **TINY)
    monkeypatch.setattr(checking, "CHARACTERS", 256)  # a shorter part would be passed over
    trial = checking.held_out(model, model.runner)
    assert (trial.codes < 0).sum() == {"char": 1, "byte": 2}[unit]
    report = model.export(tmp_path / "out", to="savedmodel")
    assert report["compared_on"].endswith("characters of validation text")
    assert abs(report["bits_per_character"]["cost"]) < 1e-4


class OtherLogits(serving.Server):
    def _logits(self, x):
        return super()._logits(x) + 3.0 * tf.one_hot(5, self.vocabulary.size)


class OtherSeeds(serving.Server):
    def _draw(self, ids, lengths, length, seed, settings):
        return super()._draw(ids, lengths, length, seed + 16, settings)


@pytest.mark.parametrize(
    "server, message",
    [
        (OtherLogits, "SavedModel's logits differ by"),
        (OtherSeeds, "drew the same text in only [0-7] of 16 rows"),
    ],
)
def test_an_export_that_is_not_the_model_is_removed(
    text_model, tmp_path, monkeypatch, server, message
):
    monkeypatch.setattr(savedmodel, "Server", server)
    with pytest.raises(ExportError, match=message):
        export(text_model, tmp_path / "model", to="savedmodel")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over_or_where_it_cannot_be(text_model, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    for name, reason in ("mine", "no export wrote"), ("file", "exists"):
        with pytest.raises(OptionError, match=reason):
            export(text_model, tmp_path / name, to="savedmodel")
    with pytest.raises(OptionError, match="There is no folder"):
        export(text_model, tmp_path / "file" / "model", to="savedmodel")
    monkeypatch.setattr(savedmodel, "needs_text", lambda *_: True)
    monkeypatch.setattr(savedmodel, "_text_operators", lambda: tmp_path / "missing")
    with pytest.raises(ExportError, match="tensorflow-text"):
        export(text_model, tmp_path / "model", to="savedmodel")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
