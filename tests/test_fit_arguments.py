"""What `fit` takes in Python: Keras's own callbacks, optimizers and schedules, texts in memory."""

import contextlib
import copy
import io
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, babble

import keras_charlm
from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig
from keras_charlm.errors import BundleError, CorpusError, OptionError
from keras_charlm.text.given import given_text
from keras_charlm.text.vocabulary import Vocabulary
from keras_charlm.training import compiled
from keras_charlm.training.own import Own, restored, separate
from keras_charlm.training.progress import Progress
from keras_charlm.training.schedule import Schedule
from keras_charlm.training.workers import Workers

TEXT = babble(600)
SHORT = {**TINY, "epochs": 2, "text": TEXT, "init_from": None}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@keras.saving.register_keras_serializable("tests")
class Rising(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.001 * (keras.ops.cast(step, "float32") + 1)

    def get_config(self):
        return {}


class Kept(keras.optimizers.SGD):
    """An optimizer that Keras does not know."""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model of strings in memory, with configurations, callbacks that Keras has, and NumPy's
    numbers."""
    names = ["".join(letters) for letters in itertools.product("abc", repeat=5)][-100:]
    config = FitConfig(epochs=9, batch_size=np.int64(4), max_time="10m", seq_length=np.array(8))
    history = keras.callbacks.History()
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=100.0, factor=0.5)
    shape = ModelConfig(layers=1, units=8, embedding=4)
    with (
        contextlib.chdir(tmp_path_factory.mktemp("fitted")),
        ThreadPoolExecutor() as pool,  # so that one training runs outside of the main thread
    ):
        model = pool.submit(
            keras_charlm.fit,
            text=names,
            config=[config, shape],
            epochs=3,
            learning_rate=0.02,
            callbacks=[plateau, history],
            verbose=0,
        ).result()
        yield model, history


def test_callbacks_that_set_the_rate_are_obeyed(fitted):
    model, _ = fitted
    assert model.card.fit.schedule == "none"
    assert model.history["learning_rate"] == pytest.approx([0.02, 0.02, 0.01])


def test_the_history_is_that_of_keras(fitted):
    model, history = fitted
    assert model.history.keys() == {"loss", "val_loss", "learning_rate"}
    assert history.history["val_loss"] == pytest.approx(model.history["val_loss"], abs=1e-5)
    assert history.history["loss"] == pytest.approx(model.history["loss"], abs=1e-5)
    assert keras_charlm.load(model.device_file).history == {}


def test_a_list_of_strings_is_a_list_of_documents(fitted):
    model, _ = fitted
    assert model.card.lines and model.path.as_posix() == "saved_models/text"
    assert sum(part["lines"] for part in model.card.split.values()) == 100


def test_configurations_are_taken_and_names_win(fitted):
    card = fitted[0].card
    assert (card.fit.epochs, card.fit.max_time, card.fit.seq_length) == (3, 600.0, 8)
    assert (card.fit.batch_size, card.model.units) == (4, 8)
    with pytest.raises(OptionError, match="it takes a FitConfig, ModelConfig or CorpusConfig"):
        keras_charlm.fit(config={"epochs": 3}, text=TEXT)


def test_a_copy_and_a_pickle_are_the_same_model_anywhere(fitted, tmp_path):
    model, _ = fitted
    drawn = model.generate(seed=1)  # opens LiteRT, which no pickle could hold
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with contextlib.chdir(tmp_path):
            assert again.generate(seed=1) == drawn
            assert again.history == model.history
    device = pickle.loads(pickle.dumps(keras_charlm.load(model.device_file)))
    assert device.on_device and device.generate(seed=1) == drawn


def test_a_schedule_and_a_callback_that_set_the_rate_are_refused(home):
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    with pytest.raises(OptionError, match="'constant', and LearningRateScheduler sets"):
        keras_charlm.fit(callbacks=rates, schedule="constant", **SHORT)

    class Silent(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.5

    with pytest.raises(keras_charlm.CharLMError, match="train with schedule='none'"):
        keras_charlm.fit(callbacks=Silent(), **SHORT)
    assert not list(home.iterdir())


def test_an_optimizer_of_the_user_s_trains_and_resumes(home):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    with pytest.raises(keras_charlm.Interrupted):
        keras_charlm.fit(output="cut", optimizer=Kept(0.1), callbacks=[rates, Stop()], **SHORT)
    with pytest.raises(keras_charlm.CharLMError, match="optimizer cannot be made from its check"):
        keras_charlm.resume("cut", verbose=0)
    model = keras_charlm.resume("cut", optimizer=Kept(0.1), callbacks=rates, verbose=0)
    assert (model.card.fit.optimizer, model.card.fit.schedule) == ("own Kept", "none")
    assert model.history["learning_rate"] == [0.5, 0.25]
    assert "own Kept" in (model.path / "report.html").read_text()
    with pytest.raises(OptionError, match="learning_rate was given, and an optimizer"):
        keras_charlm.fit(optimizer=Kept(0.1), learning_rate=0.1, **SHORT)
    with pytest.raises(OptionError, match="an object that a model was trained with"):
        keras_charlm.fit(config=model.card.fit, text=TEXT)


def test_objects_of_keras_are_made_again_from_a_checkpoint():
    falling = keras.optimizers.schedules.ExponentialDecay(0.5, 5, 0.5)
    own = Own(keras.optimizers.SGD(falling, momentum=0.5))
    again = restored(own.serialized(), Own())
    assert again.optimizer.get_config() == own.optimizer.get_config()
    fit = own.described(FitConfig())
    assert (fit.optimizer, fit.schedule, fit.learning_rate) == (
        "own SGD",
        "own ExponentialDecay",
        0.5,
    )
    with pytest.raises(OptionError, match="began with one of fit's"):
        restored("", own)
    with pytest.raises(BundleError, match="optimizer cannot be made from its checkpoint"):
        restored('{"optimizer": {"module": "os", "class_name": "os", "config": {}}}', Own())


@pytest.mark.parametrize("name", ["learning_rate", "schedule"])
def test_a_schedule_of_the_user_s_sets_the_rate(name):
    _, own = separate({name: Rising()})
    fit = own.described(FitConfig())
    assert fit.schedule == "own Rising" and not Schedule(fit, 1, Progress()).sets_rate
    network = compiled.build(
        ModelConfig(layers=1, units=2, embedding=2, dropout=0.0),
        fit, "float32", Vocabulary("char", (97, 98)), Workers(tf.distribute.get_strategy()), own,
    )  # fmt: skip
    network.optimizer.iterations.assign(4)
    assert float(network.optimizer.learning_rate) == pytest.approx(0.005)
    with pytest.raises(OptionError, match="warmup was given, and a Rising"):
        separate({name: Rising(), "warmup": 0.1})


def test_times_are_numbers_or_texts():
    assert FitConfig(max_time="1.5h", checkpoint_every="30").max_time == 5400.0
    assert CorpusConfig(lines=np.bool_(True)).lines is True
    with pytest.raises(OptionError, match="'soon'; it takes a number of seconds, or a time"):
        FitConfig(max_time="soon")


def test_the_same_text_in_every_form_is_the_same_corpus(home):
    (home / "text.txt").write_text("tête-à-tête\nzwei\n", encoding="utf-8")
    text = (home / "text.txt").read_text(encoding="utf-8")
    with (
        (home / "text.txt").open("rb") as binary,
        (home / "text.txt").open(encoding="utf-8") as file,
    ):
        forms = [text, text.encode(), io.StringIO(text), binary, file]
        read = [given_text(form, {}) for form in forms]
        contents = [b"".join(iter(lambda s=each.stream: s.read(4), b"")) for each in read]
    assert contents == [text.encode()] * 5
    assert [each.name for each in read] == ["text"] * 5
    several = given_text(["tête-à-tête", "", "zwei"], {})
    assert (several.stream.read(), several.settings["lines"]) == (text.encode()[:-1], True)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", CorpusError, "The text is empty"),
        ([], CorpusError, "The text is empty"),
        (3, OptionError, "text is 3; it takes a string, several in a list"),
        (["a", 3], OptionError, "text is 3; it takes a string"),
        (["a\nb"], OptionError, "has several lines"),
        ("a\ud800", CorpusError, "half of a surrogate pair at 1"),
        ("a\0b" * 200, CorpusError, "The text 'text' looks binary"),
        (b"\xff\xfe" * 200, CorpusError, "The text 'text' is utf-16"),
    ],
    ids=["empty", "none", "number", "numbers", "lines", "surrogate", "nul", "bytes"],
)
def test_texts_that_cannot_be_read_are_refused(home, text, error, message):
    with pytest.raises(error, match=message):
        keras_charlm.fit(text=text, verbose=0)
    assert not list(home.iterdir())


def test_a_text_and_a_corpus_or_an_encoding_are_refused(home):
    with pytest.raises(OptionError, match="Both a corpus and a text"):
        keras_charlm.fit("corpus.txt", text=TEXT)
    with pytest.raises(OptionError, match="labels names columns of a table, and a list"):
        keras_charlm.fit(text=["Emma", "Noah"], labels=["girl", "boy"])
    with pytest.raises(OptionError, match="'latin-1', and the text is decoded"):
        keras_charlm.fit(text=TEXT, encoding="latin-1")
