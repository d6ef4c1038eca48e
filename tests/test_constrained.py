"""Laws of drawing under a rule in the on-device file, and of files with a rule of their own."""

import math

import numpy as np
import pytest
from test_constraints import fits, probabilities
from test_native import generate as native  # noqa: F401
from test_tflite import generate

import keras_charlm
from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError
from keras_charlm.export.constrained import Rule
from keras_charlm.generation import samples
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.tables import ENTRIES, Tables, compile_tables

NEWLINE = 10


@pytest.fixture(scope="module")
def model(list_model):
    return keras_charlm.load(list_model)


def tables_of(model, **given):
    return compile_tables(model.vocabulary, SampleConfig(**given), model.end, model.card.normalize)


def call(model, tables, codes, **given):
    """Call `constrained` for rows of codes (n,), row i with seed i."""
    runner, rows = model.runner, len(codes)
    text = np.zeros((runner.rows, runner.read_width), np.int32)
    lengths = np.zeros(runner.rows, np.int32)
    for r, row in enumerate(codes):
        text[r, : len(row)], lengths[r] = row, len(row)
    moves = np.zeros(ENTRIES, np.int32)
    moves[: tables.moves.size] = tables.moves.ravel()
    arrays = {
        "text": text,
        "text_length": lengths,
        "seed": np.arange(runner.rows, dtype=np.int32),
        "position": np.zeros(runner.rows, np.int32),
        "length": np.int32([256]),
        "stop": np.int32([NEWLINE if tables.lines else -1]),
        "temperature": np.float32([0.8]),
        "top_k": np.int32([0]),
        "top_p": np.float32([1]),
        "min_p": np.float32([0]),
        "state": np.zeros((runner.rows, runner.state_size + 1), np.float32),
        "classes": tables.classes,
        "moves": moves,
        "width": np.int32([tables.moves.shape[1]]),
        "mask": np.int32([0]),
        "patience": np.int32([10_000]),
    }
    for name, value in given.items():
        value = np.asarray(value, arrays[name].dtype)
        arrays[name] = np.broadcast_to(value, arrays[name].shape)
    out = runner("constrained", **arrays)
    return {name: value[:rows] for name, value in out.items()}


def texts(out):
    return ["".join(map(chr, row[:n])) for row, n in zip(out["text"], out["lengths"], strict=True)]


@pytest.mark.parametrize(
    "given", [{"temperature": 1.3}, {"temperature": 1.0, "top_k": 3, "min_p": 0.1}], ids=str
)
def test_a_rule_of_zeros_changes_nothing(model, given):
    zeros = Tables(np.zeros(model.vocabulary.size, np.int32), np.zeros((1, 1), np.int32), True)
    codes = np.tile([NEWLINE, 97], (16, 1))
    plain = generate(model.runner, codes, 16, length=64, stop=NEWLINE, **given)
    for mask in 0, 1:
        ruled = call(model, zeros, codes, length=64, mask=mask, **given)
        np.testing.assert_array_equal(ruled["text"][:, :64], plain["text"])
        np.testing.assert_array_equal(ruled["done"], plain["done"])
        np.testing.assert_array_equal(ruled["bits"], plain["bits"])
        np.testing.assert_array_equal(ruled["state"][:, :-1], plain["state"])
        ended = ruled["lengths"] + ruled["done"]
        np.testing.assert_array_equal(ruled["steps"], ended)


@pytest.mark.parametrize(
    "given", [{"ends_with": "a", "max_length": 4}, {"contains": "bb", "min_length": 3}], ids=str
)
def test_what_is_kept_has_the_conditional_probabilities(model, given):
    config = SampleConfig(**{"max_length": 4, **given}, temp=1.0)
    exact, tables = probabilities(model, config), tables_of(model, **{"max_length": 4, **given})
    drawn = []
    for seed in range(0, 1600, 16):
        seeds = np.arange(seed, seed + 16)
        drawn += texts(call(model, tables, [[NEWLINE]] * 16, seed=seeds, temperature=1))
    assert set(drawn) <= set(exact)
    cells = [(drawn.count(t), p * len(drawn)) for t, p in exact.items() if p * len(drawn) >= 5]
    chi = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    assert chi <= len(cells) + 4 * math.sqrt(2 * len(cells)), (chi, len(cells))


def test_a_device_draws_the_same_line_for_its_seed(model):
    given = {"ends_with": "a", "max_length": 5}
    drawn = list(model.samples(num=16, seed=0, repeat=True, temp=0.8, **given))
    seeds = [sample.seed for sample in drawn]
    out = call(model, tables_of(model, **given), [[NEWLINE]] * 16, seed=seeds)
    assert texts(out) == [sample.text for sample in drawn]


def test_patience_only_divides_the_work(model):
    tables = tables_of(model, match="(abc|cba)+", max_length=6)
    whole = call(model, tables, [[NEWLINE]] * 16)
    assert whole["done"].all()
    codes, state = [[NEWLINE]] * 16, 0
    position, found, calls = np.zeros(16, np.int32), {}, 0
    while len(found) < 16:
        active = [row if r not in found else [] for r, row in enumerate(codes)]
        out = call(model, tables, active, position=position, state=state, patience=5)
        position, state, calls = position + out["steps"], out["state"], calls + 1
        found |= {r: texts(out)[r] for r in range(16) if out["done"][r] and r not in found}
    assert calls > 2, "this test needs rows that begin again"
    assert [found[r] for r in range(16)] == texts(whole)
    np.testing.assert_array_equal(position, whole["steps"])


def test_a_mask_draws_in_pieces_and_always_fits(model):
    tables = tables_of(model, ends_with="cab", ban=["bb"], min_length=5, max_length=12)
    whole = call(model, tables, [[NEWLINE]] * 16, mask=1)
    config = SampleConfig(ends_with="cab", ban=("bb",), min_length=5, max_length=12)
    assert all(fits(text, config) for text in texts(whole))
    assert whole["done"].all()
    codes, state, position, pieces = [[NEWLINE]], 0, 0, ""
    while True:
        out = call(model, tables, codes, length=3, position=position, state=state, mask=1)
        (piece,), position = texts(out), position + int(out["steps"][0])
        pieces, state = pieces + piece, np.pad(out["state"], ((0, 15), (0, 0)))
        if out["done"][0]:
            break
        codes = [[ord(piece[-1])]]
    assert pieces == texts(whole)[0]


def test_a_prompt_counts_in_a_line_and_may_not_fit(model):
    tables = tables_of(model, match="ab*c", max_length=6)
    out = call(model, tables, [[NEWLINE, *map(ord, p)] for p in ("", "ab", "b", "abca", "ac")])
    assert out["done"].all()
    assert out["steps"].astype(bool).tolist() == [True, True, False, False, True]
    for prompt, text in zip(("", "ab"), texts(out), strict=False):
        assert fits(prompt + text, SampleConfig(match="ab*c", max_length=6))
    assert texts(out)[2:] == ["", "", ""]


def test_a_text_bans_words_across_calls(text_model):
    model = keras_charlm.load(text_model)
    tables = tables_of(model, ban=["at", "T"], ignore_case=True)
    out = call(model, tables, [[NEWLINE, *map(ord, "the c")]] * 4, mask=1)
    assert (out["lengths"] == 256).all()
    assert not any("at" in text.lower() or "t" in text.lower() for text in texts(out))
    # A prompt that has a banned word is read all the same.
    out = call(model, tables, [[NEWLINE, *map(ord, "a cat sa")]], mask=1, length=5)
    assert out["lengths"][0] == 5


@pytest.fixture(scope="module")
def own(list_model, tmp_path_factory):
    """A file with a rule of its own."""
    path = tmp_path_factory.mktemp("own") / "own.tflite"
    keras_charlm.load(list_model).export(path, ends_with="a", ban=["bb"], max_length=5)
    return path


OWN = {"ends_with": "a", "ban": ("bb",), "max_length": 5}


def test_a_file_with_its_own_rule_has_the_same_interface_and_draws_what_fits(model, own):
    ruled = keras_charlm.load(own)
    drawn = list(ruled.samples(num=100, seed=0, temp=1.0, repeat=True))
    assert len(drawn) == 100
    assert all(fits(s.text, SampleConfig(**OWN)) for s in drawn)
    tables = tables_of(model, **OWN)
    expected = []
    for seed in range(0, 100, 16):
        seeds = np.arange(seed, seed + 16)
        expected += texts(call(model, tables, [[NEWLINE]] * 16, seed=seeds, temperature=1))
    assert [s.text for s in drawn] == expected[:100]
    assert "".join(ruled.stream(seed=7, temp=1.0)) == expected[7]
    assert next(ruled.samples("b", num=5, seed=1, temp=0)).whole.endswith("a")
    plain, baked = (Runner(path) for path in (model.device_file, own))
    assert (baked.state_size, baked.rule_size) == (plain.state_size, 1)
    assert ruled.bundle.constraints == "--ends-with a --max-length 5 --ban bb"


def test_a_file_with_its_own_rule_refuses_others(own):
    ruled = keras_charlm.load(own)
    for given in {"starts_with": "a"}, {"stop": "b"}, {"max_length": 3}:
        with pytest.raises(OptionError, match="constraints of its own"):
            ruled.samples(**given)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_native_app_draws_the_same(native, model, own, tmp_path, seed):  # noqa: F811
    path = tmp_path / "own.rule"
    model.export(path, to="rule", **OWN)
    assert Tables.read(path, model.vocabulary).lines
    done = native("--lines", "--rule", path, model.device_file, "", seed)
    assert done.returncode == 0, done.stderr
    out = call(model, tables_of(model, **OWN), [[NEWLINE]], seed=seed)
    assert done.stdout.decode() == texts(out)[0] + "\n"
    assert native("--lines", own, "", seed).stdout == done.stdout


def test_a_native_app_refuses_a_wrong_rule(native, model, text_model, tmp_path):  # noqa: F811
    path = tmp_path / "own.rule"
    model.export(path, to="rule", starts_with="a")
    wrong = native("--rule", path, text_model / "model.tflite", "", 1)
    assert wrong.returncode == 1
    assert b"another vocabulary" in wrong.stderr
    assert (
        b"no text that begins"
        in native("--lines", "--rule", path, model.device_file, "b", 1).stderr
    )
    for content, reason in (b"text", b"no rule file"), (path.read_bytes()[:-4], b"damaged"):
        path.write_bytes(content)
        assert reason in native("--rule", path, model.device_file, "", 1).stderr
    assert b"cannot be read" in native("--rule", tmp_path / "no", model.device_file, "", 1).stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"to": "rule"}, "needs a constraint"),
        ({"to": "web", "ends_with": "a"}, "leave out --ends-with with --to web"),
        ({"to": "rule", "ends_with": "bb", "max_length": 1}, "No text of at most 1 characters"),
        ({"to": "tflite", "match": "a("}, "is not a regular expression"),
    ],
)
def test_what_cannot_be_exported_is_refused(model, tmp_path, given, message):
    with pytest.raises(OptionError, match=message):
        model.export(tmp_path / "x", **given)
    assert not list(tmp_path.iterdir())


def test_a_label_does_not_count_in_a_line():
    import tensorflow as tf

    moves = tf.constant([-2, 1, -2, -2, -2, 0])  # two states of three classes
    rule = Rule(tf.constant([0, 1, 2]), moves, 3)
    after = rule.read(tf.constant([[0], [1], [0]]), tf.constant([3, 7, 1]))
    assert after.numpy().ravel().tolist() == [0, 1, 1]


def test_particles_of_a_rare_pair_cost_as_many_bits_as_free_draws_do():
    # 20 free draws cost 3.11 with a standard error of 0.09. Steered by single characters, particles
    # cost 4.5: a second z is rare, but not after a z.
    drawn = keras_charlm.load("names").samples(contains="zz", max_length=8, num=60, seed=1)
    assert 2.8 < np.mean([sample.bits_per_character for sample in drawn]) < 3.6


def test_a_list_that_is_complete_is_not_drawn_again_and_again(monkeypatch):
    names, counts = keras_charlm.load("names"), samples.Counts()
    drawn = names.samples(match="A[bn]", num=500, seed=1, counts=counts)
    assert sorted(sample.text for sample in drawn) == ["Ab", "An"]
    assert counts.complete
    five = ["Ada", "Eva", "Evia", "Mia", "Milina"]
    drawn = names.samples(match="|".join(five), num=500, seed=1, novel=True)
    novel = [name for name in five if not names.known(name)]
    assert 0 < len(novel) < 5
    assert sorted(sample.text for sample in drawn) == novel
    # Lines that top-k excludes are counted, too: here rejections in a row tell.
    monkeypatch.setattr(samples, "MOST_REJECTED", 40)
    counts = samples.Counts()
    drawn = list(names.samples(match="A[a-z]", num=500, seed=1, top_k=12, counts=counts))
    assert len(drawn) < 26
    assert not counts.complete
    assert counts.drawn < 2000  # not 100 times 500
