import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.errors import OptionError
from keras_charlm.inspection import probes
from keras_charlm.inspection.probes import features, search

# Of each network with nothing to find: the time goes with it, the statistics do not.
CELLS = 30 if os.environ.get("KERAS_CHARLM_LONG_TESTS") else 10


def held(name, text):
    """The characters after which a feature holds, the others as dots."""
    return "".join(c if yes else "." for c, yes in zip(text, features(text)[name], strict=True))


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("inside double quotes", 'a "b c" d', '..."b c...'[1:]),
        ("inside double quotes", '"a\\"b" c', '"a\\"b...'),
        ("inside double quotes", 'one "two\nthree" x', '...."two\nthree...'),
        (
            "inside double quotes",
            'stray " here\n\nthen "a" b',
            "..... .......".replace(" ", ".") + '......"a...',
        ),
        ("inside double quotes", "x “a b” y", "..“a b..."),
        ("inside single quotes", "it's f('a b') don't", ".......'a b........"),
        ("inside triple quotes", '"""a "b" c""" d', '"""a "b" c""...'),
        ("inside ( )", "a (b (c) d) e)", "..(b (c) d...."),
        ("inside ( )", "(a\n\nb) (c)", ".......(c."),
        ("inside [ ]", "x[1][2]", ".[1.[2."),
        ("inside { }", "{a\n\n{b}}", "{a\n\n{b}."),
        ("inside a # comment", "a # b\nc#d\n# e", "..# b.....# e"),
        ("inside a // comment", "http://x // y\nz", ".........// y.."),
        ("inside a /* */ comment", "a /* b\nc */ d", "../* b\nc *..."),
        ("inside a <!-- --> comment", "<!-- a --> b", "<!-- a --..."),
        ("inside a URL", "see https://a.b/c?d=1, ok", "....https://a.b/c?d=1,..."),
        (
            "inside a speaker's name",
            "ROMEO:\nAy me: no.\n\nFirst Citizen:\nHo",
            "ROMEO:.............First Citizen:...",
        ),
        ("at a word's start", "the cat's", "t...c...s"),
        ("at a capital", "Ab C", "A..C"),
    ],
)
def test_features_hold_where_they_should(name, text, expected):
    assert held(name, text) == expected


def test_numbers():
    found = features("  a(b[c])\n\n x")
    np.testing.assert_array_equal(
        found["position in the line"], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 1, 2]
    )
    np.testing.assert_array_equal(found["indentation"], [1, 2] + [2] * 7 + [0, 0, 1, 1])
    np.testing.assert_array_equal(found["bracket depth"], [0, 0, 0, 1, 1, 2, 2, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(features("ab\nc\n")["distance to the newline"], [2, 1, 0, 1, 0])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab \n\t\"'()[]{}#/*<!->:.A1é中\u2028"), max_size=60))
def test_every_text_has_its_features(text):
    for values in features(text).values():
        assert values.shape == (len(text),)
        assert values.dtype in (bool, np.float32)
        assert (values >= 0).all()


def test_a_user_s_expression():
    found = features("abc abd", ["ab[cd]", "x?"])
    np.testing.assert_array_equal(found["ab[cd]"], [1, 1, 1, 0, 1, 1, 1])
    assert not found["x?"].any()
    assert features(b"a\xffb", ["\xff"])["\xff"].tolist() == [False, True, False]


def test_a_wrong_or_endless_expression_is_refused(monkeypatch):
    with pytest.raises(OptionError, match=r"'\(' is not a regular expression"):
        features("abc", ["("])
    monkeypatch.setattr(probes, "SECONDS", 1.0)
    with pytest.raises(OptionError, match="took longer than 1 seconds"):
        features("a" * 60 + "b", ["(a+)+$"])


def naive_score(values, feature):
    """AUC by all pairs, or the correlation of ranks by sorting."""
    values = values.astype(float)
    if feature.dtype == bool:
        pairs = np.sign(values[feature][:, None] - values[~feature])
        return pairs.mean()
    rank = [np.array([(x < v).sum() + (x == v).sum() / 2 for v in x]) for x in (values, feature)]
    return np.corrcoef(*rank)[0, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_scores_are_auc_and_spearman(seed, yes_or_no):
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (5, 40)).astype(np.int8)
    feature = rng.random(40) < 0.4 if yes_or_no else rng.integers(0, 6, 40).astype(np.float32)
    if np.ptp(feature.astype(int)) == 0:
        return
    shifts = np.array([0, 1, 17])
    found = probes._scores(values, feature, shifts)
    for cell in range(5):
        if np.ptp(values[cell]) == 0:
            assert not found[cell].any()
            continue
        for k, shift in enumerate(shifts):
            assert found[cell, k] == pytest.approx(
                naive_score(values[cell], np.roll(feature, shift)), abs=1e-5
            )


def noise(rng, cells, size, memory):
    """Activations that have nothing to do with a text, but are alike from step to step."""
    values = np.empty((size, cells))
    values[0] = rng.normal(size=cells)
    fresh = rng.normal(size=(size, cells)) * np.sqrt(1 - memory**2)
    for t in range(1, size):
        values[t] = memory * values[t - 1] + fresh[t]
    return np.rint(127 * np.tanh(values)).astype(np.int8).T.copy()


def prose(size, seed=0):
    rng = np.random.default_rng(seed)
    out = ""
    while len(out) < size:
        words = [
            "".join(rng.choice(list("abcde"), rng.integers(1, 8)))
            for _ in range(rng.integers(2, 12))
        ]
        at = rng.integers(0, len(words))
        words[at] = [f'"{words[at]} b"', f"({words[at]})", words[at].title(), "42"][rng.integers(4)]
        out += " ".join(words) + "\n"
    return out[:size]


@pytest.fixture(scope="module")
def book():
    text = prose(6000)
    names = ("inside double quotes", "inside ( )", "position in the line", "at a capital")
    return {name: features(text)[name] for name in names}


def test_nothing_is_found_in_noise_at_the_stated_level(book):
    """Of 40 networks with nothing to find, at level 0.1 more than 9 have a finding with a
    probability of less than 1 in 100 (binomial); they are seeded, so this does not flicker."""
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        memory = rng.choice([0.3, 0.9, 0.99, 0.998], CELLS)
        found = search(noise(rng, CELLS, 6000, memory), book, level=0.1)
        assert found.tested == 4 and found.shifts == 39
        hits += any(f.found for f in found.findings)
        if not any(f.found for f in found.findings):
            assert set(found.labels()) == {None}
    assert hits <= 9


def test_a_planted_cell_is_found_and_no_other(book):
    rng = np.random.default_rng(0)
    values = noise(rng, 30, 6000, rng.choice([0.3, 0.9, 0.99], 30)).astype(int)
    values[7] = values[7] // 2 - 60 * book["inside ( )"]  # one that is off there
    values[20] = 3 * book["position in the line"] - 100
    found = search(np.clip(values, -127, 127).astype(np.int8), book)
    by_name = {f.name: f for f in found.findings}
    assert (by_name["inside ( )"].found, by_name["inside ( )"].cell) == (True, 7)
    assert by_name["inside ( )"].score("second") < -0.5
    assert (by_name["position in the line"].cell, by_name["position in the line"].found) == (20, 1)
    assert by_name["position in the line"].score("second") > 0.9
    assert not by_name["inside double quotes"].found
    labels = found.labels()
    assert labels[7].name == "inside ( )"
    assert labels[20].name == "position in the line"
    assert [label for i, label in enumerate(labels) if i not in (7, 20)] == [None] * 28
    assert found.shifts == math.ceil(4 / 0.05) - 1


def test_a_cell_of_one_half_alone_is_not_found(book):
    rng = np.random.default_rng(1)
    values = noise(rng, 10, 6000, 0.5).astype(int)
    values[3, :3000] = 100 * book["inside ( )"][:3000] - 50
    found = search(values.astype(np.int8), book)
    finding = next(f for f in found.findings if f.name == "inside ( )")
    assert finding.cell == 3 and finding.score("first") > 0.9
    assert not finding.found


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_a_short_text_tells_nothing(size):
    text = prose(50)[:size]
    found = search(np.ones((4, size), np.int8), features(text))
    assert not found.findings
    assert [f.name for f in found.untested] == list(features(text))
    assert all(f.reason for f in found.untested)
    assert found.tested == 0


def finding(name, score, chance=0.1):
    scores = np.array([score], np.float32)
    return probes.Finding(name, "yes or no", scores, scores, 0, chance, True)


def test_the_most_telling_feature_comes_first_and_plain_ones_last():
    names = [("at a letter", 0.99), ("inside ( )", -0.6), ("indentation", 0.3)]
    names += [("inside [ ]", -0.95), ("at a digit", 0.5), ("bracket depth", 0.9)]
    results = [finding(*pair) for pair in names]
    results.append(finding("inside { }", 0.99, chance=0.95))  # most cells would score as high
    expected = ["inside [ ]", "bracket depth", "inside ( )", "inside { }", "indentation"]
    found = probes.Search(tuple(results), 0.05, len(results), 1)
    assert [f.name for f in found.ordered()] == [*expected, "at a letter", "at a digit"]
    assert found.labels()[0].name == found.best_of(0).name == "inside [ ]"


@pytest.mark.parametrize(
    "score, chance, match",
    [
        (0.8, 0.6, "reliable"),
        (-0.95, 0.1, "reliable"),
        (0.95, 0.8, "weak"),
        (0.79, 0.1, "fair"),
        (-0.5, 0.3, "fair"),
        (0.5, 0.31, "weak"),
        (0.49, 0.0, "weak"),
    ],
)
def test_a_word_says_how_well_a_cell_follows(score, chance, match):
    one = finding("inside ( )", score, chance - 1e-6)
    assert one.match(0) == match
    assert one.sign(0) * score > 0
