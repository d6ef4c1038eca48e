"""The short form of `python tests/endurance.py`: memory, threads and open files stay flat."""

from pathlib import Path

import pytest
from conftest import TINY, train
from endurance import LIMIT, draw, growth, held

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads Linux's /proc")


def flat(seen):
    more = growth(seen)
    return more.memory <= LIMIT and more.threads <= 0 and more.files <= 0


def test_a_thousand_calls_leave_nothing_behind(text_model):
    seen = draw(str(text_model), characters=200_000, calls=1000)
    assert len(seen) > 10
    assert flat(seen), seen


def test_opening_models_again_and_again_leaves_nothing_behind(text_model):
    import keras_charlm

    seen = []
    for seed in range(60):
        keras_charlm.load(text_model).generate(length=3, seed=seed)
        seen.append(held())
    assert flat(seen), seen


def test_an_epoch_takes_nothing_that_the_one_before_did_not(text_file, tmp_path):
    import keras

    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(held())

    settings = {**TINY, "epochs": 30, "checkpoint_every": 0.05}
    train(text_file, tmp_path / "m", callbacks=[Look()], **settings)
    assert flat(seen), seen


def test_growth_is_seen():
    """The measure itself: what grows is told."""
    from endurance import Held

    assert not flat([Held(t, 100 + t, 5, 5) for t in range(100)])
    assert not flat([Held(t, 100, 5 + t // 50, 5) for t in range(100)])
    assert not flat([Held(t, 100, 5, 5 + t // 50) for t in range(100)])
    assert flat([Held(t, 100 + (t < 5) * 50, 5, 5) for t in range(100)])
