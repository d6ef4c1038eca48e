"""Laws of sampling from a file, with small real files."""

import dataclasses
import subprocess
import sys

import pytest
from test_tflite import built, opened

from keras_charlm.config import SampleConfig
from keras_charlm.errors import BundleError, PromptError
from keras_charlm.generation.litert import Runner, score_text
from keras_charlm.generation.samples import Counts, draw_samples, stream_text

SEED = 5


@pytest.fixture(params=["lstm", "gru", "rnn"], ids=["latin", "bytes", "wide"])
def model(request):
    return opened(request.param), built(request.param)[2]


@pytest.fixture
def latin():
    return opened("lstm"), built("lstm")[2]


def stream(model, prompt="", lines=False, **settings):
    config = SampleConfig(**{"seed": SEED, "temp": 1.0, "length": 200, **settings})
    return stream_text(*model, config, prompt, lines=lines, start=10)


def text(model, prompt="", **given):
    pieces = list(stream(model, prompt, **given))
    return model[1].from_codes([]).join(pieces)


def samples(model, prompt="", lines=False, known=None, limit=None, counts=None, **settings):
    config = SampleConfig(**{"seed": SEED, "temp": 1.0, **settings})
    return list(
        draw_samples(
            *model, config, prompt, lines=lines, start=10, known=known, limit=limit, counts=counts
        )
    )


def test_same_seed_same_text(model):
    assert text(model) == text(model)
    assert text(model) != text(model, seed=SEED + 1)
    assert len(text(model)) == 200
    assert isinstance(text(model), bytes if model[1].unit == "byte" else str)


def test_without_a_seed_every_text_is_another(latin):
    assert text(latin, seed=None) != text(latin, seed=None)


def test_the_first_piece_is_one_character_and_no_length_is_exceeded(latin):
    pieces = list(stream(latin))
    assert len(pieces[0]) == 1
    assert len(pieces) < 20, "later pieces are longer"
    for length in 0, 1, 63, 64, 65:
        assert text(latin, length=length) == text(latin)[:length]
    assert len(text(latin, length=None)) == 500


def test_a_sample_does_not_depend_on_how_it_is_drawn(model):
    expected = [text(model, seed=SEED + i, length=100) for i in range(20)]
    assert [s.text for s in samples(model, num=20, length=100)] == expected
    alone = [samples(model, seed=SEED + i, length=100)[0] for i in range(20)]
    assert [s.text for s in alone] == expected
    assert [s.seed for s in alone] == [SEED + i for i in range(20)]
    network = built("lstm")[1].runner()  # while training, before there is a file
    if model[0] is opened("lstm"):
        assert text((network, model[1]), length=100) == expected[0]


def test_a_huge_top_k_is_all_characters(latin):
    assert text(latin, top_k=10**12) == text(latin)


def test_seeds_wrap_around(latin):
    drawn = samples(latin, seed=2**31 - 1, num=3, length=5)
    assert [s.seed for s in drawn] == [2**31 - 1, 0, 1]


def test_long_prompts_are_read_whole(latin):
    prompt = text(latin, length=300)
    assert text(latin, length=330)[300:] != "", "the prompt is what the model wrote itself"
    # Both have read the start symbol and 300 characters, one in a prompt and one by drawing.
    whole = score_text(*latin, "\n" + prompt + "abc")
    part = score_text(*latin, "\n" + prompt)
    (drawn,) = samples(latin, prompt, length=3, temp=0)
    longer = score_text(*latin, "\n" + prompt + drawn.text)
    assert longer[1] - part[1] == pytest.approx(3 * drawn.bits_per_character, abs=1e-2)
    assert longer[2] - part[2] == 3, "at temperature 0 every character is the likeliest"
    assert whole[0] == 303


@pytest.mark.parametrize("prompt", ["", "ab"])
def test_the_start_symbol_is_read_before_a_prompt_and_ends_a_line(latin, prompt):
    first = text(latin, prompt, temp=0, length=1)
    scored = {code: score_text(*latin, "\n" + prompt + chr(code))[1] for code in latin[1].codes}
    assert ord(first) == min(scored, key=scored.get), "the likeliest after the start symbol"
    assert text(latin, prompt, lines=True) == text(latin, prompt, stop="\n")


def test_lines_end_with_the_newline_and_are_not_empty(latin):
    drawn = samples(latin, num=50, lines=True)
    assert len(drawn) == 50
    assert all(s.text and "\n" not in s.text for s in drawn)
    for s in drawn[:3]:
        alone = samples(latin, seed=s.seed, lines=True)[0]
        assert (alone.text, alone.seed) == (s.text, s.seed)
        assert alone.bits_per_character == pytest.approx(s.bits_per_character, rel=1e-5)
    with_prompt = samples(latin, "ab", num=5, lines=True)
    assert all(s.prompt == "ab" for s in with_prompt)
    assert max(len(s.text) for s in samples(latin, num=20, lines=True, length=4)) == 4


def test_stop_texts_end_a_sample_and_are_never_shown(model):
    free = text(model)
    # Pieces come as 1, 2, 4, 8, ... characters: these texts lie within and across them.
    for at, length in (0, 1), (0, 3), (6, 3), (30, 5), (62, 4), (120, 1), (127, 30), (195, 5):
        stop = free[at : at + length]
        if model[1].unit == "byte":
            try:
                stop = stop.decode("utf-8")
            except UnicodeDecodeError:
                continue
            end = free.find(stop.encode())
        else:
            end = free.find(stop)
        assert text(model, stop=stop) == free[:end]
        (sample, *_) = samples(model, num=2, length=200, stop=stop)
        assert sample.text == free[:end]
        assert all(piece for piece in stream(model, stop=stop))


def test_a_stop_text_that_only_begins_is_shown(latin):
    free = text(latin)
    assert text(latin, stop=free[-3:] + "a") == free
    assert text(latin, stop=free[10:14] + "\N{BLACK STAR}") == free


def test_bits_are_those_of_the_score(latin):
    for settings in {}, {"stop": "b"}, {"stop": text(latin)[70:73]}:
        for sample in samples(latin, num=2, length=120, temp=0.7, **settings):
            stop = settings.get("stop", "")
            drawn = sample.text + (stop if len(sample.text) < 120 else "")
            characters, bits, _ = score_text(*latin, "\n" + drawn)
            assert characters == len(drawn)
            assert sample.bits_per_character == pytest.approx(bits / characters, rel=1e-4)
    assert samples(latin, length=0)[0].bits_per_character is None


def test_score_of_a_long_text_is_the_sum_of_its_characters(latin):
    runner, vocabulary = latin
    long = text(latin, length=600)
    characters, bits, correct = score_text(runner, vocabulary, long)
    lengths = 1, 2, 255, 256, 257, 511, 600
    steps = [score_text(runner, vocabulary, long[:n]) for n in (1, 2, 255, 256, 257, 511, 600)]
    assert [s[0] for s in steps] == [n - 1 for n in lengths]
    assert [s[1] for s in steps] == sorted(s[1] for s in steps)
    assert steps[-1] == (characters, bits, correct)
    one_more = score_text(runner, vocabulary, long[:257])[1] - steps[3][1]
    assert 0 < one_more < 30
    assert score_text(runner, vocabulary, "") == (0, 0.0, 0)


def test_novel_lines_only(latin):
    lines = {"lines": True, "repeat": True, "length": 3}
    everything = samples(latin, num=200, **lines)
    whole = {s.text for s in everything if s.ended}
    known = set(sorted(whole)[::2])
    counts = Counts()
    drawn = samples(latin, num=5, **lines, novel=True, known=known.__contains__, counts=counts)
    novel = [s for s in everything if s.ended and s.text not in known]
    assert drawn[: len(novel)] == novel[:5]
    assert len(drawn) == counts.novel == counts.yielded == 5
    assert counts.drawn > 5
    # Without the option they are counted only.
    counts = Counts()
    samples(latin, num=200, **lines, known=known.__contains__, counts=counts)
    cut = sum(not s.ended for s in everything)
    assert counts == Counts(200, len(novel), cut, yielded=200)
    assert 0 < cut < 200


def test_a_line_is_drawn_once_unless_repeats_are_asked_for(latin):
    twice = samples(latin, num=60, lines=True, length=1, repeat=True)
    counts = Counts()
    once = samples(latin, num=12, lines=True, length=1, counts=counts)
    first = list({s.text: s for s in reversed(twice)}.values())
    assert len({s.text for s in once}) == 12
    assert once[:5] == sorted(first, key=lambda s: twice.index(s))[:5]
    assert counts.repeated == counts.drawn - 12 > 0
    lower = samples(latin, num=9, lines=True, length=1, ignore_case=True)
    assert len({s.text.lower() for s in lower}) == 9
    assert len(samples(latin, num=3, lines=True, temp=0)) == 1
    assert len(samples(latin, num=3, lines=True, temp=1e-40, repeat=True)) == 3


@pytest.mark.parametrize("num", [1, 5])
def test_drawing_ends_at_the_limit(latin, num):
    counts = Counts()
    drawn = samples(
        latin,
        "ab",
        num=num,
        lines=True,
        novel=True,
        known=lambda line: True,
        limit=30,
        counts=counts,
    )
    assert drawn == []
    assert (counts.drawn, counts.novel) == (30, 0)


def test_a_wrong_prompt_is_told_before_anything_is_drawn(latin):
    config = SampleConfig(seed=SEED)
    for function in stream_text, draw_samples:
        with pytest.raises(PromptError, match="'A'"):
            function(*latin, config, "abA", start=10)
    accepted = dataclasses.replace(config, unknown_ok=True, length=20)
    assert len("".join(stream_text(*latin, accepted, "abA", start=10))) == 20


def test_prompts_and_stop_texts_are_normalized(latin):
    (sample,) = samples(latin, "e\N{COMBINING ACUTE ACCENT}", length=10)
    assert sample.prompt == "é"
    assert sample.text == samples(latin, "é", length=10)[0].text
    assert text(latin, stop="e\N{COMBINING ACUTE ACCENT}") == text(latin, stop="é")


def test_bytes_may_be_a_prompt():
    model = opened("gru"), built("gru")[2]
    (sample,) = samples(model, b"ab\xff", length=10)
    assert (type(sample.text), sample.prompt) == (bytes, b"ab\xff")
    assert samples(model, "ab", length=10)[0].text == samples(model, b"ab", length=10)[0].text


@pytest.mark.parametrize("content", [b"", b"not a model", "half", "flipped", "other"])
def test_a_damaged_file_is_refused_in_one_sentence(content, tmp_path):
    whole = built("lstm")[3]
    content = {"half": whole[: len(whole) // 2], "flipped": whole[:1000] + b"\xff" * 500}.get(
        content, content
    )
    if content == "other":
        content = whole.replace(b"generate_batch", b"something_else")
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for file in content, path, str(path):
        with pytest.raises(BundleError) as error:
            Runner(file)
        assert "\n" not in str(error.value)
    with pytest.raises(BundleError, match="missing"):
        Runner(tmp_path / "missing.tflite")


def test_import_is_light():
    code = (
        "import sys, keras_charlm.generation\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
