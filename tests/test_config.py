import json
import math

import numpy as np
import pytest

from keras_charlm.config import (
    CorpusConfig,
    ExportConfig,
    FitConfig,
    ModelConfig,
    SampleConfig,
)
from keras_charlm.defaults import NEAR, SIZES, resolve
from keras_charlm.errors import OptionError


@pytest.mark.parametrize(
    "kind, name, value, message",
    [
        (FitConfig, "batch_size", 0, "it takes at least 1 and at most 100000"),
        (FitConfig, "batch_size", "many", "it takes a whole number"),
        (FitConfig, "batch_size", 2.5, "it takes a whole number"),
        (FitConfig, "batch_size", True, "it takes a whole number"),
        (FitConfig, "batch_size", None, "it takes a whole number"),
        (FitConfig, "learning_rate", 0, "it takes more than 0"),
        (FitConfig, "learning_rate", math.nan, "it takes more than 0"),
        (FitConfig, "max_time", math.inf, "it takes more than 0"),
        (FitConfig, "optimizer", "sgd", "choose one of adam, rmsprop"),
        (ModelConfig, "dropout", 1.0, "at least 0 and less than 1"),
        (CorpusConfig, "val_frac", -0.1, "at least 0"),
        (SampleConfig, "top_p", 0.0, "more than 0 and at most 1"),
        (SampleConfig, "temp", -1, "at least 0"),
        (SampleConfig, "stop", 5, "it takes a text"),
        (SampleConfig, "novel", "yes", "it takes true or false"),
        (SampleConfig, "novel", 1, "it takes true or false"),
        (FitConfig, "batch_size", np.float32(2), "it takes a whole number"),
        (FitConfig, "batch_size", np.bool_(True), "it takes a whole number"),
        (FitConfig, "epochs", 10**20, "it takes at least 1 and at most 1000000"),
        (FitConfig, "max_time", 10**400, "more than 100 digits; it takes more than 0"),
        pytest.param(
            ExportConfig, "budget", 10**5000, "100 digits; it takes at least 1 and", id="huge"
        ),
    ],
)
def test_values_out_of_range_are_refused(kind, name, value, message):
    with pytest.raises(OptionError, match=message):
        kind(**{name: value})


def test_numbers_of_numpy_are_stored_as_plain_ones():
    fit = FitConfig(
        batch_size=np.int64(16),
        clip_norm=np.float32(0.5),
        max_time=np.float64(9),
        devices=np.int8(2),
    )
    assert (fit.batch_size, fit.clip_norm, fit.max_time, fit.devices) == (16, 0.5, 9.0, "2")
    assert [type(v) for v in (fit.batch_size, fit.clip_norm, fit.max_time)] == [int, float, float]
    assert FitConfig.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
    assert type(SampleConfig(temp=1).temp) is int  # as it was given


def test_a_split_must_leave_something_to_train_on():
    with pytest.raises(OptionError, match="leave less than 5%"):
        CorpusConfig(val_frac=0.5, test_frac=0.5)


def test_unknown_settings_are_named():
    with pytest.raises(OptionError, match="no setting 'unit'"):
        FitConfig.from_dict({"unit": "char"})


@pytest.mark.parametrize("kind", [CorpusConfig, ModelConfig, FitConfig, SampleConfig])
def test_configurations_survive_json(kind):
    assert kind.from_dict(kind().to_dict()) == kind()


def test_the_size_goes_by_the_text_and_explicit_options_win():
    for characters, name in ((30_000, "small"), (1_000_000, "medium"), (96_000_000, "large")):
        model, fit = resolve(ModelConfig(), FitConfig(), characters)
        assert fit.size == name
        assert (model.layers, model.units) == (SIZES[name].layers, SIZES[name].units)
    model, fit = resolve(
        ModelConfig(units=77, dropout=0.0), FitConfig(size="large", epochs=3), 1000
    )
    assert (model.units, model.dropout, model.layers, fit.epochs) == (77, 0.0, 2, 3)


def test_logits_are_tied_where_there_is_an_embedding_to_tie_them_to():
    def tied(**settings):
        return resolve(ModelConfig(**settings), FitConfig(size="small"), 1000)[0].tied

    assert SIZES["small"].tied
    assert (tied(), tied(embedding=5), tied(tied=False), tied(embedding=0)) == (
        True,
        True,
        False,
        False,
    )
    with pytest.raises(OptionError, match="tied is true and embedding is 0"):
        ModelConfig(tied=True, embedding=0)


def test_less_text_gets_more_dropout():
    rates = [
        resolve(ModelConfig(), FitConfig(size="large"), n)[0].dropout for n in (10**5, 10**7, 10**9)
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def test_short_texts_get_synthetic_text_unless_there_is_no_dropout():
    shares = [resolve(ModelConfig(), FitConfig(), n)[1].synthetic for n in (10**4, 10**5, 10**7)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0 == shares[-1]
    assert resolve(ModelConfig(), FitConfig(), 500)[1].synthetic == 0  # to be learned by heart
    assert resolve(ModelConfig(dropout=0.0), FitConfig(), 10**4)[1].synthetic == 0
    assert resolve(ModelConfig(dropout=0.0), FitConfig(synthetic=3), 10**4)[1].synthetic == 3


def test_a_longer_text_takes_more_epochs_from_a_near_model_until_they_read_much():
    sizes = (90_000, 270_000, 900_000, 2_700_000)
    assert [NEAR.length.epochs(size, 2048) for size in sizes] == [3, 4, 6, 4]


def test_a_tiny_text_gets_enough_steps_and_a_huge_one_few_epochs():
    assert resolve(ModelConfig(), FitConfig(batch_size=1, seq_length=4), 5)[1].epochs == 200
    epochs = [resolve(ModelConfig(), FitConfig(), n)[1].epochs for n in (3000, 30_000, 10**5)]
    assert epochs == [200, 50, 60]  # 3,000 characters are a batch, here
    short = FitConfig(batch_size=5)
    assert resolve(ModelConfig(), short, 3000)[1].epochs == 41
    assert resolve(ModelConfig(), FitConfig(), 500_000_000)[1].epochs == 2
