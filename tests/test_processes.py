"""Other threads, processes and backends of Keras than the usual ones."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import keras_charlm

FORK = """
import multiprocessing
import sys
import tensorflow as tf
print(int(tf.constant(1) + 1))  # TensorFlow is in use before the package is
import keras_charlm
model = keras_charlm.load(sys.argv[1])
text, scores = model.generate(seed=1, length=20), model.evaluate("the cat")

def work(model):
    try:
        model.evaluate("the cat")
    except keras_charlm.CharLMError as error:
        return model.generate(seed=1, length=20), str(error)

with multiprocessing.get_context("fork").Pool(1) as pool:
    drawn, error = pool.apply_async(work, [model]).get(60)
assert drawn == text
print(error)
"""
BACKEND = """
import sys
import keras_charlm
model = keras_charlm.load(sys.argv[1])
assert len(model.generate(seed=1, length=20)) == 20
fit = lambda: keras_charlm.fit(text="a b")
for use in (fit, lambda: model.evaluate("the cat"), lambda: model.model):
    try:
        use()
    except keras_charlm.CharLMError as error:
        print(error)
assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def run(code, *args, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_child_of_a_fork_generates_and_says_that_it_would_hang(text_model):
    two, error = run(FORK, text_model)
    assert two == "2"
    assert error.startswith("This process was forked from one in which TensorFlow had started, and")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_of_keras_are_refused_and_generate(text_model, backend):
    lines = run(BACKEND, text_model, KERAS_BACKEND=backend)
    assert len(lines) == 3
    assert set(lines) == {
        f"The backend of Keras is {backend}, and this package needs the TensorFlow backend; set "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    }


def test_threads_share_a_model(text_model):
    model = keras_charlm.load(text_model)
    alone = [model.generate(seed=seed, length=200) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: model.generate(seed=seed, length=200), range(8)))
    assert together == alone
