"""The bundled model that a training starts from by itself."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, train

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.defaults import FAR, LIST, NEAR, NEAR_LONG
from keras_charlm.network.model import named_weights
from keras_charlm.saved.bundle import shipped
from keras_charlm.text.corpus import prepare
from keras_charlm.text.split import split_corpus
from keras_charlm.training import base

PROSE = re.sub(
    r"(?<!\n)\n(?!\n)",
    " ",
    """The boat came in an hour after dark, and nobody was on the quay to meet her.

"I told you so," said the old man, pulling his coat about him. "They have all gone up to the
house to hear the letter read, and they will not come down again before morning."

His daughter did not answer. She was looking at the lamp in the window of the inn, which she had
never seen lit before, and at the shadow of a man who was walking up and down behind the glass.
When he stopped, she thought that he must have seen them; but he only bent over the table, and
wrote something, and went on.

They carried the two boxes up the stairs themselves. The door was open, and in the hall there
was a smell of bread and of wet wool, as there had always been. Nothing was changed; even the
clock was wrong by the same ten minutes. She put down her box and laughed, because she had been
afraid of this evening for seven years, and it was only an evening like any other, with the rain
on the roof and the sea very quiet beyond the wall.

"Who is there?" a voice called from the kitchen.

"It is only us," said her father. "We have come home, if you will have us, and we are both very
hungry."

There was a long silence. Then a chair was pushed back, and they heard the slow steps of their
neighbour, who had kept the house all this time and had not written to them once, and who now
stood in the door with a candle in his hand, and could not say a word.
""",
)
DIGITS = "".join(map(str, np.random.default_rng(0).integers(0, 10, 6000)))


CODE = Path(base.__file__).read_text(encoding="utf-8")
# The names of plants are no first names, and their descriptions are English.
PLANTS = """ash aspen beech birch blackthorn box bramble broom cedar cherry chestnut clover cowslip
crocus daisy elder elm fern fir foxglove furze gentian hazel heather holly honeysuckle ivy juniper
larch laurel lavender lilac lime maple mint moss nettle oak pear pine plum poppy primrose rose rowan
rush sedge sloe snowdrop sorrel spruce thistle thyme violet walnut willow yarrow yew""".split()  # noqa: SIM905
PHRASES = "".join(f"the {name} that grew on the other side of the wall\n" for name in PLANTS)


def find(tmp_path, text, given=None, **config):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    corpus = prepare([path], CorpusConfig(**config))
    return base.find_base(corpus, split_corpus(corpus), given or {})


@pytest.mark.parametrize(
    "text, config, name, tuning",
    [
        (PROSE, {}, "english", NEAR),
        (DIGITS, {}, "code", FAR),
        (CODE, {}, "code", NEAR),
        (PROSE, {"separator": "* * *"}, "english", NEAR),
        ("\n".join(PLANTS), {"lines": True}, "names", LIST),
        (PHRASES, {"lines": True}, "english", LIST),
    ],
    ids=["prose", "digits", "code", "documents", "names", "phrases"],
)
def test_a_short_text_starts_from_the_nearest_model(text, config, name, tuning, tmp_path):
    found, its_tuning = find(tmp_path, text, **config)
    assert found.path == shipped()[name]
    assert its_tuning is tuning


def test_settings_that_keep_the_shape_keep_the_base(tmp_path):
    found, _ = find(tmp_path, PROSE, {"units": None, "size": "auto", "epochs": 3})
    assert found.path == shipped()["english"]


def test_how_near_a_text_is_sets_the_defaults(tmp_path):
    for text, expected in ((PROSE, NEAR), (DIGITS, FAR)):
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        split = split_corpus(prepare([tmp_path / "a.txt"]))
        assert base.find_tuning(base.open_base("english"), split, lines=False) is expected
        assert base.find_tuning(base.open_base("english"), split, lines=True) is LIST


@pytest.mark.parametrize("text, name", [(CODE, "code"), (PROSE, "english")])
def test_a_text_that_repeats_itself_is_near_a_model_of_its_kind(text, name, tmp_path):
    found, tuning = find(tmp_path, text[:1000] * 8)  # which n-grams predict best
    assert (found.path, tuning) == (shipped()[name], NEAR)


def test_a_long_text_trains_a_model_that_is_no_wider_than_its_own_would_be_longer_and_faster():
    code, english = base.open_base("code"), base.open_base("english")
    for model, length, tuning in (
        (code, 300_000, NEAR),
        (code, 300_001, NEAR_LONG),
        (english, 3_000_000, NEAR),
        (english, 3_000_001, NEAR_LONG),
    ):
        assert base.text_tuning(model, length, near=True) is tuning
        assert base.text_tuning(model, length, near=False) is FAR
    assert NEAR_LONG.learning_rate > NEAR.learning_rate
    sizes = (900_000, 2_700_000)
    assert [NEAR_LONG.length.epochs(size, 2048) for size in sizes] == [8, 7]


@pytest.mark.parametrize(
    "text, config, given",
    [
        (DIGITS * 60, {}, {}),  # far from prose, and not short
        (PROSE.translate({i: i + 0x400 for i in range(97, 123)}), {}, {}),  # other characters
        (PROSE[:150], {}, {}),  # too short to tell
        (PROSE * 100, {"lines": True, "duplicates": True}, {}),
        ("\n".join(a + b for a in PLANTS for b in PLANTS), {"lines": True}, {}),  # many names
        (PROSE * (4_000_000 // len(PROSE)), {}, {}),
        (PROSE, {"unit": "byte"}, {}),
        (PROSE, {}, {"units": 448}),
        (PROSE, {}, {"size": "small"}),
        (PROSE, {}, {"cell": "gru"}),
    ],
    ids=[
        "digits",
        "characters",
        "shortest",
        "lines",
        "names",
        "long",
        "bytes",
        "units",
        "size",
        "cell",
    ],
)
def test_other_texts_and_networks_start_from_scratch(tmp_path, text, config, given):
    assert find(tmp_path, text, given, **config) == (None, None)


def test_a_training_says_what_it_starts_from(tmp_path, capfd):
    (tmp_path / "a.txt").write_text(PROSE[:900], encoding="utf-8")
    settings = {"until": "on_train_begin", "epochs": 1, "batch_size": 2, "seq_length": 16}
    network = train(tmp_path / "a.txt", tmp_path / "m", **settings)
    assert "begun from  the bundled model english" in capfd.readouterr().err
    english = base.open_base("english").weights()
    name = "lstm_1/recurrent_kernel"
    np.testing.assert_array_equal(named_weights(network)[name], english[name])
    scratch = train(tmp_path / "a.txt", tmp_path / "n", init_from=None, **settings)
    assert "begun from" not in capfd.readouterr().err
    assert named_weights(scratch)[name].shape == (128, 4 * 128)


def test_a_shape_of_its_own_needs_no_option(tmp_path, capfd):
    (tmp_path / "a.txt").write_text(PROSE[:900], encoding="utf-8")
    settings = {**TINY, "verbose": 1, "until": "on_train_begin"}
    train(tmp_path / "a.txt", tmp_path / "m", **settings)
    shown = capfd.readouterr().err
    assert "1 x 8 lstm" in shown and "begun from" not in shown


def test_lines_of_the_base_are_not_novel(tmp_path, capfd):
    known = ["Mary", "Patricia", "Linda"]
    (tmp_path / "a.txt").write_text("\n".join([*known, *PLANTS]), encoding="utf-8")
    settings = {"epochs": 1, "batch_size": 2, "val_frac": 0, "test_frac": 0}
    model = keras_charlm.fit(tmp_path / "a.txt", tmp_path / "m", lines=True, **settings)
    assert model.card.base == "names"
    names = keras_charlm.load("names")
    same = sum(map(names.known_lines(ignore_case=True), [*known, *PLANTS]))  # Heather, Rose
    assert same > 3
    message = f"trained on {same} of the {len(PLANTS) + 3} training lines"
    assert message in capfd.readouterr().err
    others = [name for name in ("Robert", "James", "Susan") if names.known(name)]
    assert others
    for name in (*others, *PLANTS, *known):
        assert model.known(name)
        assert model.known_lines(ignore_case=True)(name.upper())
    assert not model.known("Mxyzptlk")


def test_the_start_of_documents_begins_as_that_of_the_base(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(PROSE.replace("\n\n", "\n***\n"), encoding="utf-8")
    settings = {"until": "on_train_begin", "epochs": 1, "batch_size": 2, "separator": "***"}
    network = train(path, tmp_path / "m", **settings)
    split = split_corpus(prepare([path], CorpusConfig(separator="***")))
    english = base.open_base("english")
    rows, theirs = named_weights(network)["embedding/embeddings"].numpy(), english.weights()
    row = rows[split.vocabulary.id_of(split.start)]
    start = english.vocabulary.id_of(english.card.start)
    np.testing.assert_array_equal(row, theirs["embedding/embeddings"][start])
