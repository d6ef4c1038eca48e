"""Laws of drawing under constraints, with the tiny model of lines over "abc"."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_charlm.config import SampleConfig
from keras_charlm.errors import OptionError
from keras_charlm.generation import conditional, fitting
from keras_charlm.generation.constraints import compile_rule
from keras_charlm.generation.pattern import Pattern
from keras_charlm.generation.words import Words
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import Vocabulary

SEED = 3


@pytest.fixture(scope="module")
def model(list_model):
    return TrainedModel(list_model)


def fits(text, config):
    """Whether a text fits, by Python's own means."""

    def case(s):
        return s.lower() if config.ignore_case else s

    flags = re.IGNORECASE if config.ignore_case else 0
    return (
        case(text).startswith(case(config.starts_with or ""))
        and case(text).endswith(case(config.ends_with or ""))
        and case(config.contains or "") in case(text)
        and not any(case(word) in case(text) for word in config.ban)
        and config.min_length <= len(text) <= (config.max_length or 10**9)
        and (config.match is None or re.fullmatch(config.match, text, flags) is not None)
    )


def probabilities(model, config):
    """The exact probability of every text of at most `max_length` characters that fits."""
    runner, vocabulary = model.runner, model.vocabulary
    letters = [vocabulary.from_codes([code]) for code in vocabulary.codes]
    newline = vocabulary.id_of(10)
    exact, beginnings = {}, [("", 1.0, 10, np.zeros((1, runner.state_size), np.float32))]
    while beginnings:
        text, p, code, state = beginnings.pop()
        out = runner("step", text=np.array([code], np.int32), state=state)
        after = conditional.probabilities(
            np.where(np.arange(vocabulary.size), out["logits"][0].astype(float), -np.inf), config
        )
        if text and fits(text, config):
            exact[text] = p * after[newline]
        if len(text) < config.max_length:
            for symbol, letter in enumerate(letters, 1):
                if symbol != newline:
                    code = ord(letter)
                    beginnings.append((text + letter, p * after[symbol], code, out["state"]))
    total = sum(exact.values())
    return {text: p / total for text, p in exact.items() if p > 0}


def draw_by(way, monkeypatch):
    """Choose the way to draw."""
    never = 10**9
    monkeypatch.setattr(fitting, "OFTEN", 0 if way == "free" else never)
    monkeypatch.setattr(fitting, "ENOUGH", never)
    if way == "particles":
        monkeypatch.setattr(conditional, "MOST_WORK", 0)


CASES = [
    {"max_length": 4},
    {"ends_with": "a", "max_length": 4},
    {"contains": "bb", "min_length": 3, "max_length": 4, "temp": 0.7},
    {"match": "(ab|c+)*", "max_length": 5},
    {"ban": ("ab", "cc"), "starts_with": "a", "max_length": 4},
    {"ends_with": "c", "max_length": 4, "top_k": 3, "min_p": 0.1},
]


@pytest.mark.parametrize("given_", CASES, ids=str)
@pytest.mark.parametrize("way", ["free", "rejection", "particles"])
def test_frequencies_are_the_conditional_probabilities(model, given_, way, monkeypatch):
    draw_by(way, monkeypatch)
    config = SampleConfig(**{"temp": 1.0, **given_})
    exact, num = probabilities(model, config), 400 if way == "particles" else 2000
    drawn = [
        s.text for s in model.samples(repeat=True, seed=SEED, num=num, **{"temp": 1.0, **given_})
    ]
    assert set(drawn) <= set(exact)
    observed = {text: drawn.count(text) for text in exact}
    frequent = [text for text, p in exact.items() if p * num >= 5]
    rare = set(exact) - set(frequent)
    cells = [(observed[text], exact[text] * num) for text in frequent]
    if sum(exact[text] for text in rare) * num >= 5:
        cells.append((sum(observed[t] for t in rare), sum(exact[t] for t in rare) * num))
    chi = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    free = len(cells) - 1
    assert chi <= free + 4 * (2 * free) ** 0.5, (chi, free)


def test_particles_draw_long_lines_as_probable_as_they_should_be(model, monkeypatch):
    draw_by("particles", monkeypatch)
    given_ = {"min_length": 6, "max_length": 7, "temp": 1.0}
    exact = probabilities(model, SampleConfig(**given_))
    drawn = [s.text for s in model.samples(repeat=True, seed=SEED, num=150, **given_)]
    cost = {text: -np.log2(p) for text, p in exact.items()}
    mean = sum(p * cost[text] for text, p in exact.items())
    spread = np.std([cost[text] for text in drawn]) / np.sqrt(len(drawn))
    assert abs(np.mean([cost[text] for text in drawn]) - mean) < 4 * spread


@st.composite
def constraints(draw):
    word = st.text("abc", min_size=1, max_size=2)
    maybe = st.none() | word
    low = draw(st.integers(0, 4))
    return {
        "starts_with": draw(maybe),
        "ends_with": draw(maybe),
        "contains": draw(maybe),
        "ban": tuple(draw(st.lists(word, max_size=2))),
        "min_length": low,
        "max_length": draw(st.integers(max(low, 1), 7)),
        "match": draw(st.none() | st.sampled_from(["[ab]*c?", "(a|bc)+", "..+", "(?:[^c]{2})*c?"])),
        "ignore_case": draw(st.booleans()),
        "temp": draw(st.sampled_from([0, 0.5, 1.0, 2.0])),
        "top_k": draw(st.sampled_from([0, 0, 1, 2])),
        "min_p": draw(st.sampled_from([0.0, 0.0, 0.3])),
    }


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(constraints())
def test_every_text_fits_and_contradictions_are_refused(model, values):
    config = SampleConfig(**values)
    possible = any(
        fits("".join(letters), config)
        for n in range(1, config.max_length + 1)
        for letters in itertools.product("abc", repeat=n)
    )
    if not possible:
        with pytest.raises(OptionError, match="No text"):
            model.samples(**values)
        return
    drawn = list(model.samples(repeat=True, seed=SEED, num=20, **values))
    assert len(drawn) == 20
    assert all(fits(sample.text, config) for sample in drawn)


def test_a_seed_gives_the_same_text_alone_and_among_others(model):
    values = {"ends_with": "a", "max_length": 5}
    several = list(model.samples(repeat=True, seed=SEED, num=6, **values))
    alone = [next(model.samples(seed=sample.seed, **values)) for sample in several]
    assert several == alone


def test_neighbouring_seeds_do_not_find_the_same_rare_text(model):
    values = {"min_length": 6, "max_length": 9, "temp": 1.0}
    drawn = [next(model.samples(seed=seed, **values)) for seed in range(20)]
    assert len({sample.seed for sample in drawn}) == 20


def test_a_text_that_was_drawn_freely_has_its_seed_without_the_constraint(model):
    for sample in model.samples(repeat=True, seed=SEED, num=5, ends_with="a", max_length=5):
        assert next(model.samples(seed=sample.seed)) == sample


def test_the_prompt_belongs_to_a_line(model):
    drawn = list(model.samples("ab", repeat=True, seed=SEED, num=10, match="abc.*", max_length=5))
    assert all(s.whole.startswith("abc") and len(s.whole) <= 5 for s in drawn)
    with pytest.raises(OptionError, match="begins with the prompt 'ab'"):
        model.samples("ab", starts_with="b")


def test_a_text_has_its_length_and_no_banned_word(text_model):
    model = TrainedModel(text_model)
    (sample,) = model.samples(seed=SEED, length=80, ban=["a", "T"], ignore_case=True)
    assert len(sample.text) == 80
    assert not set(sample.text) & set("aAtT")
    assert "".join(model.stream(seed=SEED, length=80, ban="a")).count("a") == 0
    with pytest.raises(OptionError, match="only one character"):
        model.samples(stop="the", ban="a")


def test_best_of_keeps_the_likeliest(model):
    by_seed = {
        s.seed: s for s in model.samples(repeat=True, seed=SEED, num=20)
    }  # without empty ones
    best = list(model.samples(repeat=True, seed=SEED, num=3, best_of=4))
    for group, sample in enumerate(best):
        seeds = range(SEED + 4 * group, SEED + 4 * group + 4)
        several = [by_seed[seed] for seed in seeds if seed in by_seed]
        cheapest = min(several, key=lambda s: s.bits_per_character)
        assert (sample.text, sample.seed) == (cheapest.text, cheapest.seed)


def test_min_p_keeps_characters_as_likely_as_a_share_of_the_likeliest():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    kept = conditional.probabilities(logits, SampleConfig(temp=1.0, min_p=0.31))
    assert kept == pytest.approx([0.625, 0.375, 0, 0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"match": r"(a)\1"}, "a back-reference"),
        ({"match": "a(?=b)"}, "a look-around"),
        ({"match": "^a"}, "an anchor"),
        ({"match": "(a"}, "is not a regular expression"),
        ({"match": "(a|b)*a(a|b){20}"}, "more than 20,000 states"),
        ({"match": "((a{99}){99}){99}"}, "more than 5,000 parts"),
        ({"match": "(a?){1600}"}, "more than 5,000,000 steps to compile"),
        ({"match": "a{4000}", "length": 4000}, "4,002 states for each of 4,000 characters"),
        ({"starts_with": "x"}, "starts_with is 'x', but the model's vocabulary has no 'x'"),
        ({"min_length": 5, "max_length": 4}, "min_length 5 is more than max_length 4"),
        ({"match": "ab", "min_length": 3}, "No text of at most 1000 characters fits"),
        ({"ban_file": "missing.txt"}, "ban_file missing.txt cannot be read"),
        ({"ban": 5}, "ban is 5; it takes texts"),
        ({"length": 20_000, "ban": "a"}, "too long for constraints"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_is_drawn(model, values, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        model.samples(**values)


def test_banned_words_come_from_a_file(model, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a\n\nbb\n")
    drawn = list(model.samples(repeat=True, seed=SEED, num=20, ban_file=str(path), max_length=6))
    assert not any("a" in s.text or "bb" in s.text for s in drawn)


@pytest.mark.parametrize(
    "expression",
    ["a*", "(a|bc)*c", "[^a]{2,3}", "a?b+?", r"\w\d?", "(?i:a)b", "a{0}b", "(?:a|)(b|c){1,}", "."],
)
def test_patterns_match_what_the_standard_library_matches(expression):
    if "(?i" in expression:
        with pytest.raises(OptionError, match="changes a flag"):
            Pattern(expression)
        return
    pattern = Pattern(expression)
    for n in range(5):
        for letters in itertools.product("abc1", repeat=n):
            state = pattern.start
            for letter in letters:
                state = pattern.step(state, letter) if state is not None else None
            accepted = state is not None and pattern.accepts(state)
            assert accepted == bool(re.fullmatch(expression, "".join(letters))), letters


@given(st.text("ab", max_size=8), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1))
def test_words_are_found_wherever_they_are(text, words):
    machine = Words(words, "ban")
    state = machine.start
    for letter in text:
        state = machine.step(state, letter) if state is not None else None
    assert (state is None) == any(word in text for word in words)


def test_an_empty_group_is_not_repeated_a_billion_times():
    pattern = Pattern("(?:){1000000000}a")
    assert pattern.accepts(pattern.step(pattern.start, "a"))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"match": "a{9}"}, 1),
        ({"match": "[ab]{3}|c"}, 9),
        ({"match": "[aA]b", "ignore_case": True}, 1),
        ({"starts_with": "a", "max_length": 3}, 13),
        ({"max_length": 400}, np.inf),
    ],
    ids=str,
)
def test_a_rule_counts_its_texts(values, count):
    letters = "\nAabc" if "ignore_case" in values else "\nabc"
    vocabulary = Vocabulary("char", tuple(map(ord, letters)))
    longest = values.get("max_length", 400)
    rule = compile_rule(vocabulary, SampleConfig(**values), longest, vocabulary.id_of(10))
    assert rule.count(0, 1) == count


def test_symbols_that_no_constraint_tells_apart_share_a_class():
    vocabulary = Vocabulary("char", tuple(map(ord, "\nabcdefghij")))
    rule = compile_rule(vocabulary, SampleConfig(ends_with="a"), 20, vocabulary.id_of(10))
    assert rule.automaton.moves.shape == (3, 3)  # nowhere, not yet, ended; never, "a", any other
    assert rule.longest == 20
