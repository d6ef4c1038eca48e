"""Facts of a model in words."""

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.saved import description

SHAPE = {"layers": 2, "units": 128, "dropout": 0.3}


def test_a_network_is_described():
    tied = ModelConfig(embedding=32, tied=True, noise=0.1, **SHAPE)
    assert description.describe_network(tied, 12345) == (
        "2 x 128 lstm, embedding 32, tied, dropout 0.3, noise 0.1: 12,345 parameters"
    )
    plain = ModelConfig(cell="gru", embedding=0, tied=False, **SHAPE)
    assert description.describe_network(plain, 1) == (
        "2 x 128 gru, one-hot, dropout 0.3: 1 parameter"
    )


def test_a_corpus_is_described():
    assert description.describe_text("byte", 12345, 12345, 27) == ("12,345 bytes, 27 distinct")
    assert description.describe_reading(CorpusConfig()) == "utf-8, NFC"
    assert description.describe_reading(CorpusConfig(unit="byte")) == "bytes"
    assert description.describe_reading(CorpusConfig(normalize="none", lines=True)) == (
        "utf-8, not normalized, one document a line"
    )


def test_a_split_is_described():
    split = {
        "train": {"characters": 6400, "lines": 1600},
        "validation": {"characters": 40, "lines": 10},
        "test": {"characters": 0, "lines": 0},
    }
    assert description.describe_split(split, "character") == (
        "train 6,400 characters in 1,600 lines, validation 40 characters in 10 lines, no test part"
    )
    assert description.describe_split(split, "byte", "document").startswith(
        "train 6,400 bytes in 1,600 documents, "
    )


def test_a_separator_is_described_as_it_was_given():
    reading = description.describe_reading(CorpusConfig(separator=r"\n--\n"))
    assert reading.endswith(r"documents separated by '\n--\n'")


def test_a_training_is_described():
    fit = FitConfig(learning_rate=0.004)
    assert description.describe_optimizer(fit) == "adam 0.004, cosine"
    assert description.describe_batch(fit, "character") == "32 x 64 characters"
