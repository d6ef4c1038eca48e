import json
import os
import shutil

import pytest

from keras_charlm.charlm import load
from keras_charlm.errors import BundleError
from keras_charlm.saved.bundle import open_bundle, publish, recover, shipped
from keras_charlm.saved.card import FORMAT, Card


@pytest.fixture
def copy(text_model, tmp_path):
    return shutil.copytree(text_model, tmp_path / "copy")


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_card_survives_json(text_model):
    card = open_bundle(text_model).card
    assert Card.from_dict(json.loads(json.dumps(card.to_dict())), text_model) == card
    assert card.files.keys() == {"vocabulary.json", "model.weights.h5", "model.tflite"}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"format": 99}, f"has format 99, and this program reads format {FORMAT}; update"),
        ({"format": 1}, "has format 1, .* so train the model again"),
        ({"format": "x"}, "no model's configuration"),
        ({"model": {"cell": "transformer"}}, "damaged"),
        ({"model": {"layer": 3}}, "damaged"),
        ({"start": "x"}, "damaged"),
        ({"corpus": {}}, "damaged"),
        ({"surprise": 1}, "damaged"),
    ],
)
def test_wrong_configurations_are_told(copy, values, message):
    change(copy, **values)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["vocabulary.json", "model.weights.h5", "model.tflite"])
def test_tampered_and_missing_files_are_told(copy, name):
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    def use():
        model = load(copy)
        model.generate(length=3)
        model.evaluate("cat")

    with pytest.raises(BundleError, match="not the file that training wrote"):
        use()
    path.unlink()
    with pytest.raises(BundleError, match="incomplete"):
        use()


def test_folders_that_are_no_models(tmp_path, text_file):
    with pytest.raises(BundleError, match="There is no model"):
        open_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match=r"it has no config\.json"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="is no on-device model"):
        open_bundle(text_file)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(BundleError, match="has not ended; finish it with: kcharlm fit --resume"):
        open_bundle(tmp_path)


def test_the_newest_model_is_the_default(text_model, list_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = open_bundle()
    assert shipped.card.name == "names"  # nothing trained here: the shipped name generator
    for i, source in enumerate((list_model, text_model)):
        shutil.copytree(source, tmp_path / "saved_models" / source.name)
        stamp = 1_000_000 * (i + 1)
        os.utime(tmp_path / "saved_models" / source.name / "config.json", (stamp, stamp))
    assert open_bundle().path.name == "cats"
    assert open_bundle("list").path.name == "list"  # by name
    assert open_bundle("names").path == shipped.path  # wherever one is
    assert open_bundle("english").path == shipped.path.parent / "english"


def test_the_bundled_models_are_not_the_newest_in_a_clone(monkeypatch):
    clone = shipped()["names"].parent.parent
    monkeypatch.chdir(clone)
    own = {path.parent.name for path in (clone / "saved_models").glob("*/config.json")}
    if own == set(shipped()):  # no models of the developer's
        assert open_bundle().card.name == "names"
    else:
        assert open_bundle().path.name not in shipped()


def test_a_half_written_folder_is_not_the_newest_model(text_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("saved_models/cats", "saved_models/.corpus.new", "saved_models/.corpus.old"):
        shutil.copytree(text_model, name)
        stamp = 2_000_000 if "corpus" in name else 1_000_000
        os.utime(f"{name}/config.json", (stamp, stamp))
    assert open_bundle().path.name == "cats"


def test_a_publication_that_fails_leaves_the_old_model(copy):
    card = open_bundle(copy).card

    def fails(folder):
        (folder / "vocabulary.json").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        publish(copy, card, fails)
    assert open_bundle(copy).card == card
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_a_crash_between_the_two_renames_is_mended(copy):
    old = copy.with_name(f".{copy.name}.old")
    copy.rename(old)
    copy.with_name(f".{copy.name}.new").mkdir()
    recover(copy)
    assert open_bundle(copy)
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]
