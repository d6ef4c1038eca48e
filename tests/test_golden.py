"""Prompts, seeds and the code points that the shipped name generator draws for them.

`golden.json` is what every host of the on-device file is held to: this test and the page's. The
model's README is held to the model as well. `python tests/test_golden.py --write` rewrites both
after the model has changed.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_charlm
from keras_charlm.generation.litert import Runner
from keras_charlm.generation.samples import Counts

MODEL = Path(__file__).parent.parent / "saved_models" / "names" / "model.tflite"
GOLDEN = Path(__file__).parent / "golden.json"
CARD = MODEL.parent / "README.md"
COMMAND = "kcharlm fit -o saved_models/names --quantize float16 --overwrite"
# What a call of `generate` is given; the text is the start symbol, a newline, and the prompt.
CALLS = [
    dict(zip(("prompt", "seed", "temperature", "top_k", "top_p", "min_p"), values, strict=True))
    for values in (
        ("", 0, 0.8, 0, 1.0, 0.0),
        ("", 1, 0.8, 0, 1.0, 0.0),
        ("", 2**31 - 1, 1.5, 0, 1.0, 0.0),
        ("Mar", 0, 0.0, 0, 1.0, 0.0),
        ("Mar", 7, 1.0, 5, 1.0, 0.0),
        ("Jo", 7, 1.0, 0, 0.9, 0.0),
        ("Jo", 7, 1.5, 0, 1.0, 0.2),
        ("7", 3, 0.8, 0, 1.0, 0.0),  # a character that the model has never seen
    )
]

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="no model in saved_models/names")


def draw(runner, call):
    """The code points that `generate` draws up to the end of the name."""
    codes = [10, *map(ord, call["prompt"])]
    text = np.zeros((1, runner.read_width), np.int32)
    text[0, : len(codes)] = codes
    out = runner(
        "generate",
        text=text,
        text_length=np.int32([len(codes)]),
        seed=np.int32([call["seed"]]),
        position=np.int32([0]),
        length=np.int32([runner.draw_width]),
        stop=np.int32([10]),
        temperature=np.float32([call["temperature"]]),
        top_k=np.int32([call["top_k"]]),
        top_p=np.float32([call["top_p"]]),
        min_p=np.float32([call["min_p"]]),
        state=np.zeros((1, runner.state_size), np.float32),
    )
    return out["text"][0, : out["lengths"][0]].tolist()


def sha256():
    return hashlib.sha256(MODEL.read_bytes()).hexdigest()


def test_golden_file_is_of_this_model():
    assert json.loads(GOLDEN.read_text())["sha256"] == sha256(), (
        "the shipped model has changed: run python tests/test_golden.py --write"
    )


@pytest.mark.parametrize("at", range(len(CALLS)))
def test_the_shipped_model_draws_what_it_drew(at):
    call = json.loads(GOLDEN.read_text())["calls"][at]
    assert {k: call[k] for k in CALLS[at]} == CALLS[at]
    assert draw(Runner(MODEL), call) == call["codes"]
    assert "".join(map(chr, call["codes"])) == call["text"]


def card():
    """The shipped model's README."""
    model, counts = keras_charlm.load(MODEL.parent), Counts()
    samples = [s.text for s in model.samples(num=20, seed=0)]
    for _ in model.samples(num=1000, seed=0, novel=True, counts=counts):
        pass  # only the counts are wanted
    labels = ", ".join(f"{x.value} ({x.share:.0%} of the training part)" for x in model.card.labels)

    def drawn(label, **settings):
        return ", ".join(s.text for s in model.samples(num=8, seed=0, labels=label, **settings))

    scores, split = model.card.scores, model.card.split
    figures = ", ".join(
        f"{scores[part]['bits_per_character']:.3f} on {split[part]['lines']} {part} names"
        for part in ("validation", "test")
    )
    return f"""# The name generator

A {model.card.model.layers} x {model.card.model.units} LSTM that invents first names, made by
`{COMMAND}` (seed {model.card.fit.seed}). It was trained on
{split["train"]["lines"]:,} of the {sum(part["lines"] for part in split.values()):,} first
names of the 1990 census of the United States, which is in the public domain, with
their gender as a label; names of both genders count twice.

- Labels: {labels}.
- Bits per character: {figures}.
- Novelty at temperature 0.8: {counts.novel / counts.drawn:.0%} of {counts.drawn:,} names drawn are
  not among those it was trained on.
- Twenty samples, unedited, of `kcharlm generate names --num 20 --seed 0`:
  {", ".join(samples[:10])},
  {", ".join(samples[10:])}.
- Of `kcharlm generate names --label female --ends-with a --num 8 --seed 0`:
  {drawn("female", ends_with="a")}.
- Of `kcharlm generate names --label male --num 8 --seed 0`:
  {drawn("male")}.

`python tests/test_golden.py --write` writes this page from the model.
"""


def test_the_card_says_what_the_model_does():
    assert CARD.read_text(encoding="utf-8") == card()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_golden.py --write")
    runner = Runner(MODEL)
    calls = [
        {**call, "codes": codes, "text": "".join(map(chr, codes))}
        for call in CALLS
        for codes in [draw(runner, call)]
    ]
    rows = ",\n".join("  " + json.dumps(call, ensure_ascii=False) for call in calls)
    GOLDEN.write_text(
        f'{{\n "model": "saved_models/names/model.tflite",\n'
        f' "sha256": "{sha256()}",\n "calls": [\n{rows}\n ]\n}}\n',
        encoding="utf-8",
    )
    CARD.write_text(card(), encoding="utf-8")
