"""Laws of an export: it is the trained model, says what it is, and leaves nothing half-written."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import preloaded
import pytest

from keras_charlm.charlm import load
from keras_charlm.config import CorpusConfig, ExportConfig, FitConfig, ModelConfig
from keras_charlm.errors import BundleError, ExportError, OptionError
from keras_charlm.evaluation import evaluator
from keras_charlm.export import checking, graph, packing, savedmodel, tflite
from keras_charlm.export.export import export
from keras_charlm.files import write_json
from keras_charlm.generation.litert import Runner
from keras_charlm.network import model
from keras_charlm.saved import bundle, tflite_card
from keras_charlm.saved.card import Card
from keras_charlm.text import streams
from keras_charlm.text.vocabulary import Vocabulary

README = Path(__file__).parent.parent / "README.md"
# Latin, Hebrew and Arabic, combining marks, an emoji of several code points, the last code point.
WIDE = "\n abcdef אבג سلام e\u0301\u0308 👩\u200d🔬🏽 \U0010ffff"
VOCABULARIES = {
    "wide": Vocabulary("char", tuple(sorted({ord(c) for c in WIDE}))),
    "byte": Vocabulary("byte", (0, 10, 32, *range(97, 123), 128, 255)),
}
# name: configuration, vocabulary
CASES = {
    "lstm": (ModelConfig("lstm", 2, 16, 5, False, 0.1), "wide"),
    "gru-bytes": (ModelConfig("gru", 1, 32, 0, False, 0.0), "byte"),
    "rnn": (ModelConfig("rnn", 3, 12, 6, True, 0.0), "wide"),
}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """A function from the name of a case to the folder of a model whose text is gone."""
    made = {}

    def folder(name):
        if name not in made:
            config, vocabulary = CASES[name]
            made[name] = published(
                tmp_path_factory.mktemp("case") / name, config, VOCABULARIES[vocabulary]
            )
        return made[name]

    return folder


def published(folder, config, vocabulary):
    network = model.build(config, vocabulary.size, seed=3)
    random = np.random.default_rng(0)
    for weight in network.trainable_variables:
        weight.assign(weight.numpy() + random.normal(0, 0.3, weight.shape))
    card = Card(
        name=folder.name,
        run="r",
        created="2000-01-01T00:00:00+00:00",
        versions={},
        model=config,
        fit=FitConfig(epochs=1, learning_rate=1e-3, size="small"),
        corpus={
            "name": "gone",
            "files": ["/gone.txt"],
            "bytes": 1,
            "characters": 1,
            "sha256": "0" * 64,
            "config": CorpusConfig(unit=vocabulary.unit).to_dict(),
        },
        split={part: {"characters": 1} for part in ("train", "validation", "test")},
        start=10,
        scores={"epoch": 1},
    )

    def write(new):
        write_json(new / bundle.VOCABULARY, vocabulary.to_dict())
        source = graph.OnDeviceGraph(network, config, vocabulary)
        network.save_weights(new / bundle.WEIGHTS)
        (new / bundle.DEVICE).write_bytes(
            packing.pack(tflite.convert(source), card.on_device(vocabulary))
        )

    bundle.publish(folder, card, write)
    return folder


@pytest.fixture(scope="module")
def exported(folder_of, tmp_path_factory):
    """A function from a case and a quantization to the model, its export and the report."""
    models, made = {}, {}

    def export_once(name, quantize="none"):
        if name not in models:
            models[name] = load(folder_of(name))
        if (name, quantize) not in made:
            folder = tmp_path_factory.mktemp("export")
            (folder / ".m.tflite.new").mkdir()  # what a crash may have left
            (folder / "m.tflite.tmp").write_text("")
            report = models[name].export(folder / "m.tflite", quantize=quantize, license="CC0")
            made[name, quantize] = models[name], folder / "m.tflite", report
        return made[name, quantize]

    return export_once


@pytest.mark.parametrize(
    "name, quantize",
    [
        *(("lstm", quantize) for quantize in tflite.QUANTIZE),
        ("gru-bytes", "none"),
        ("gru-bytes", "int8"),
        ("rnn", "none"),
        ("rnn", "float16"),
    ],
)
def test_every_kind_exports_passes_its_check_and_generates(exported, name, quantize):
    original, path, report = exported(name, quantize)
    assert json.loads(path.with_name("m.tflite.report.json").read_text()) == report
    assert sorted(p.name for p in path.parent.iterdir()) == ["m.tflite", "m.tflite.report.json"]
    assert report["bytes"] == path.stat().st_size == sum(report["bytes_by_part"].values())
    assert "that the model drew" in report["compared_on"]
    assert not set(report["operators"]) & {"CUSTOM", "VAR_HANDLE"}
    runner = Runner(path)
    for call in report["golden"]:
        settings = {name: call[name] for name in ("seed", "temperature", "top_k", "top_p")}
        drawn = checking.call(runner, [np.array(call["text"])], **settings)[0]
        assert drawn.tolist() == call["drawn"]
    assert abs(report["bits_per_character"]["cost"]) < 0.01
    opened = load(path)
    text = opened.generate(length=80, seed=4)
    assert len(text) == 80
    if quantize == "none":
        assert report["largest_logit_difference"] < 1e-4
        assert text == original.generate(length=80, seed=4)
    card = original.card.to_dict()
    names = [Path(file).name for file in card["corpus"]["files"]]  # a file is passed on
    card |= {"files": opened.card.files, "corpus": {**card["corpus"], "files": names}}
    assert opened.card == Card.from_dict(card, path)
    assert opened.vocabulary == original.vocabulary


def test_a_file_scores_a_text_as_its_model_does(exported, tmp_path):
    text = "abc אבג سلام é 👩\u200d🔬🏽 !" * 9  # the last is not in the vocabulary
    original, path, _ = exported("lstm")
    (tmp_path / "t.txt").write_text(text)
    theirs, *ours = (
        model.evaluate(read).to_dict()
        for model, read in ((original, text), (load(path), text), (load(path), tmp_path / "t.txt"))
    )
    theirs.pop("text")
    for scores, name in zip(ours, ("a text", str(tmp_path / "t.txt")), strict=True):
        assert scores.pop("text") == name
        assert scores == pytest.approx(theirs, rel=1e-5)


def test_a_file_is_used_and_read_without_tensorflow(text_model, text_file, kcharlm):
    path = text_model / "model.tflite"
    code = (
        "import sys\nfrom kcharlm.main import main\nsys.argv = {!r}\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        "assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    )
    for args in (["generate", "--length", "9"], ["info"], ["evaluate", str(text_file)]):
        argv = ["kcharlm", args[0], str(path), *args[1:]]
        subprocess.run([sys.executable, "-c", code.format(argv)], check=True, timeout=60)
    text = [kcharlm("generate", p, "--seed", 1, "--length", 50)[1] for p in (path, text_model)]
    assert text[0] == text[1]


def test_the_readme_s_reader_finds_the_card(text_model, tmp_path):
    page = README.parent / "docs" / "exporting.md"
    listing = re.search(r"```python\n(import json\nfrom ai_edge.*?)```", page.read_text(), re.S)[1]
    shutil.copy(text_model / "model.tflite", tmp_path / "names.tflite")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            listing + "\nimport sys\nassert 'tensorflow' not in sys.modules\n"
            "print(values['card']['name'])",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "'epoch': " in done.stdout
    assert done.stdout.endswith("cats\n")


def test_held_out_text_is_the_validation_part_where_it_is_there(text_model, tmp_path, monkeypatch):
    from keras_charlm.export import checking

    monkeypatch.setattr(checking, "CHARACTERS", 256)  # a shorter part would not tell enough
    report = export(text_model, tmp_path / "m.tflite")
    assert report["compared_on"] == "75 characters of validation text"


def test_a_budget_takes_the_best_that_fits(exported, tmp_path):
    name = "lstm"
    sizes = {quantize: exported(name, quantize)[2]["bytes"] for quantize in tflite.QUANTIZE}
    model = exported(name)[0]
    best = export(model, tmp_path / "best", budget=sizes["none"], license="CC0")
    assert (best["quantize"], best["given_up"]) == ("none", None)
    less = export(model, tmp_path / "less", budget=sizes["none"] - 1, license="CC0")
    assert less["quantize"] == next(q for q in tflite.QUANTIZE if sizes[q] < sizes["none"])
    assert less["given_up"].startswith(f"none ({sizes['none']:,} bytes)")
    with pytest.raises(ExportError, match=r"No file fits 100 bytes: none \(.*raise --budget"):
        export(model, tmp_path / "no", budget=100)
    assert not (tmp_path / "no").exists()
    with pytest.raises(OptionError, match="give one"):
        ExportConfig(budget=100, quantize="int8")


def test_an_export_for_an_older_runtime_draws_the_same(exported, tmp_path):
    original, _, usual = exported("rnn")
    report = export(original, tmp_path / "old.tflite", min_runtime="2.12", license="CC0")
    assert report["golden"] == usual["golden"]
    assert report["same_seeded_text"] == usual["same_seeded_text"]
    runtimes = [each["least_runtime"].split(",")[0] for each in (report, usual)]
    assert runtimes == ["TensorFlow Lite 2.12", "TensorFlow Lite 2.13"]


def test_an_export_that_fails_its_check_is_removed(exported, tmp_path, monkeypatch):
    from keras_charlm.export import checking

    model = exported("rnn")[0]  # whose own export has to pass
    (tmp_path / "m.tflite").write_text("old")
    monkeypatch.setattr(checking, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="logits differ by"):
        export(model, tmp_path / "m.tflite", overwrite=True)
    monkeypatch.setattr(checking, "COST", -1.0)
    with pytest.raises(ExportError, match="bits per character where the trained model needs"):
        export(model, tmp_path / "m.tflite", overwrite=True, quantize="int8")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.tflite", "old")]


@pytest.mark.parametrize(
    "args, message",
    [
        (["-o", "taken"], "taken exists; name another --output, or replace it with --overwrite"),
        (["-o", "folder", "--overwrite"], "folder is a folder; name a file with --output"),
        (
            ["-o", "folder", "--overwrite", "--to", "web"],
            "folder is a folder that no export wrote",
        ),
        (["-o", "none/m.tflite"], "There is no folder none for m.tflite; make it, or name"),
        (["--budget", "much"], "'much' is not a size"),
        (["--budget", "9KB", "--quantize", "int8"], "Both --budget and --quantize"),
        (["--to", "savedmodel", "--budget", "9KB"], "--budget is for --to tflite"),
        (["--to", "web", "--min-runtime", "2.12"], "--min-runtime is for --to tflite"),
        (["--quantize", "int4"], "'int4' is not one of"),
    ],
)
def test_bad_input_gets_one_sentence_and_changes_nothing(
    kcharlm, text_model, tmp_path, monkeypatch, args, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("x")
    (tmp_path / "folder").mkdir()
    code, out, err = kcharlm("export", text_model, *args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "taken"]


def test_nothing_goes_into_the_model_s_own_folder(text_model):
    with pytest.raises(OptionError, match="in the model's own folder"):
        export(text_model, text_model / "model.tflite", overwrite=True)
    with pytest.raises(BundleError, match="is an export already"):
        export(text_model / "model.tflite", text_model.parent / "x")


def test_a_folder_is_exported_and_replaced_as_a_whole(text_model, tmp_path, monkeypatch):
    export(text_model, tmp_path / "served", to="savedmodel")
    monkeypatch.setattr(savedmodel, "subprocess", preloaded)
    report = export(text_model, tmp_path / "served", to="savedmodel", overwrite=True)
    assert json.loads((tmp_path / "served.report.json").read_text()) == report
    assert (tmp_path / "served" / "saved_model.pb").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["served", "served.report.json"]


def test_a_first_export_cut_short_before_its_file_is_done_again(text_model, tmp_path):
    path, report = tmp_path / "m.tflite", tmp_path / "m.tflite.report.json"
    report.write_text("{}")
    with pytest.raises(OptionError, match=r"report\.json exists"):
        export(text_model, path)
    (tmp_path / "m.tflite.tmp").write_text("cut short")
    written = export(text_model, path)
    assert json.loads(report.read_text()) == written
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, report.name]


@pytest.mark.parametrize("to", ["web", "savedmodel"])
def test_an_export_names_no_folder_of_the_corpus(text_model, text_file, tmp_path, to, monkeypatch):
    monkeypatch.setattr(savedmodel, "subprocess", preloaded)
    export(text_model, tmp_path / "out", to=to)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".tflite"]
    assert len(files) > 4
    for path in files:
        assert str(text_file.parent).encode() not in path.read_bytes(), path


@pytest.mark.parametrize("verb", ["generate", "info", "evaluate"])
def test_damaged_and_foreign_files_are_refused(kcharlm, text_model, text_file, tmp_path, verb):
    content = (text_model / "model.tflite").read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    random = np.random.default_rng(0).bytes(5000)
    files = {
        "empty": b"",
        "random": random,
        "posing": random[:4] + b"TFL3" + random[8:],
        "truncated": content[: len(content) // 2],
        "short": content[:-1],
        "changed": changed,
        "foreign": foreign(),
    }
    for name, data in files.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        code, out, err = kcharlm(verb, path, *([text_file] if verb == "evaluate" else []))
        assert (code, out) == (2, ""), name
        assert re.search("is no on-device model|is damaged|has no card of keras_charlm", err), name
        assert len(err.splitlines()) == 1, err


def foreign():
    """A .tflite file of somebody else."""
    import tensorflow as tf

    from keras_charlm.display import quiet

    module = tf.Module()
    function = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([1])])
    with quiet():
        return tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], module
        ).convert()


def test_novel_needs_the_folder(kcharlm, list_model):
    code, _, err = kcharlm("generate", list_model / "model.tflite", "--novel")
    assert code == 2
    assert "does not hold the training lines" in err
    lines = kcharlm("generate", list_model / "model.tflite", "--num", 4, "--seed", 1)[1]
    assert lines == kcharlm("generate", list_model, "--num", 4, "--seed", 1)[1]


@pytest.mark.parametrize("quantize", tflite.QUANTIZE)
@pytest.mark.parametrize("name", CASES)
def test_a_file_scores_as_the_network_with_its_weights(exported, name, quantize):
    original, path, _ = exported(name, quantize)
    opened = load(path)
    with pytest.raises(BundleError, match=r"only an on-device file, without model\.weights\.h5"):
        opened.build(1)
    network = original.build(1)
    if quantize == "float16":
        network.set_weights([w.astype(np.float16) for w in network.get_weights()])
    scored = opened.evaluate("a cat").to_dict()
    score = evaluator.Evaluator(network, int(opened.vocabulary.lookup(np.array([10]))[0]))
    ids = opened.vocabulary.encode("a cat")
    own = score(streams.TextStream(ids, np.arange(opened.vocabulary.size, dtype=np.int32), 0, 5))
    # With int8 weights LiteRT rounds what they are multiplied by as well.
    near = 1e-2 if quantize == "int8" else 1e-5
    assert scored["bits_per_character"] == pytest.approx(own.bits_per_character, rel=near)


def test_a_new_card_replaces_the_old_one_and_weights_are_aligned(text_model, tmp_path):
    path = tmp_path / "m.tflite"
    shutil.copy(text_model / "model.tflite", path)
    values = tflite_card.read(path)
    content = packing.pack(path.read_bytes(), {**values, "license": 'a "quote", 𝒶'})
    path.write_bytes(content)
    again = tflite_card.read(path)
    assert again["file_sha256"] != values["file_sha256"]
    assert {**again, "file_sha256": values["file_sha256"]} == {**values, "license": 'a "quote", 𝒶'}
    assert packing.pack(content, again) == content
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes())
    start = np.frombuffer(model._tab.Bytes, np.uint8).ctypes.data
    for i in range(model.BuffersLength()):
        if model.Buffers(i).DataLength():
            assert (model.Buffers(i).DataAsNumpy().ctypes.data - start) % packing.ALIGNMENT == 0


def test_the_shipped_names_in_int8_take_about_300_kilobytes(tmp_path):
    names = README.parent / "saved_models" / "names"
    report = export(names, tmp_path / "names.tflite", quantize="int8")
    assert report["bytes"] <= 305_000
    assert report["bits_per_character"]["cost"] <= 0.01


def test_the_bundled_models_take_less_than_twelve_megabytes():
    homes = bundle.shipped()
    assert set(homes) == {"code", "english", "names"}
    files = [p for home in homes.values() for p in home.iterdir() if p.name != bundle.REPORT]
    assert sum(path.stat().st_size for path in files) < 12_000_000
    formats = {name: bundle.open_bundle(home).card.fit.quantize for name, home in homes.items()}
    assert formats == {"code": "int8", "english": "int8", "names": "float16"}
