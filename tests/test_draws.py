"""The short form of `python tests/draws.py`: lines under random constraints fit."""

import pytest
from draws import run

from keras_charlm.errors import OptionError
from keras_charlm.saved.trained import TrainedModel


def test_lines_of_random_combinations_fit(list_model):
    results = [result for _, result in run(TrainedModel(list_model), 20, 10)]
    assert len(results) == 20
    assert sum(result != "contradiction" for result in results) > 5


def test_a_rare_end_does_not_make_endless_lines(list_model):
    model = TrainedModel(list_model)
    rare = {"match": "(ab|ac|bc)*ba", "temp": 0.5}
    lengths = [len(s.text) for s in model.samples(num=6, seed=0, repeat=True, **rare)]
    assert max(lengths) <= 25, "five times the mean line"
    # Where only longer lines fit, they are drawn.
    assert len(next(model.samples(min_length=40, seed=0)).text) >= 40
    assert "ab" * 15 in next(model.samples(contains="ab" * 15, seed=0)).text
    with pytest.raises(OptionError, match="No text of at most 1000"):
        model.samples(match="a", min_length=2)
