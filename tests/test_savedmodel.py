"""SavedModels serve the trained model, where neither this package nor Keras can be imported."""

import base64
import json
import re
import shutil
import unicodedata

import numpy as np
import preloaded
import pytest
import tensorflow as tf
from conftest import TINY, babble
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint
from tensorflow.python.tools import saved_model_cli
from test_serving import SETTINGS

import keras_charlm
from keras_charlm.errors import ExportError, OptionError
from keras_charlm.export import checking, savedmodel, serving
from keras_charlm.export.export import export


@pytest.fixture(autouse=True, scope="module")
def preloaded_processes():
    """Models are called in processes that begin with TensorFlow loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(savedmodel, "subprocess", preloaded)
        yield


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


def test_saved_model_cli_shows_types_shapes_and_defaults(text_model, exported, tmp_path, capsys):
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
    again = shutil.copytree(folder, tmp_path / "again")
    write_fingerprint(str(again))
    fingerprints = [tf.saved_model.experimental.read_fingerprint(str(f)) for f in (folder, again)]
    assert fingerprints[0] == fingerprints[1]


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
    bits = pytest.approx(rows[2]["bits_per_character"], rel=1e-6)  # fewer rows round differently
    assert one == [{**rows[2], "bits_per_character": bits}]
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


def test_the_readme_s_requests_and_program_run_as_written(text_model, exported, tmp_path, capsys):
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
