"""The Keras, ONNX and SavedModel exports in the installed libraries, without this package.

`tests/libraries.py` runs them in many more.
"""

import sys
from importlib import util

import pytest

from tests import libraries

NETWORKS = libraries.KINDS[:1] + libraries.KINDS[3:4]  # tied LSTM, and GRU without an embedding


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_runs_and_trains_a_file_in_a_process_of_keras_alone(backend, tmp_path):
    if not util.find_spec(backend):
        pytest.skip(f"{backend} is not installed; python -m tests.libraries installs and tries it")
    library = next(each for each in libraries.LIBRARIES if each.version == backend)
    examples = libraries.write("keras", tmp_path, NETWORKS, shipped=False)
    faults = libraries.run(library, sys.executable, examples)
    assert not any(faults.values()), faults
    assert "training" in faults


def test_a_fault_is_seen(tmp_path):
    first, second = libraries.write("keras", tmp_path, NETWORKS, shipped=False)
    right = [value.tolist() for value in first.expected]
    assert libraries.fault(first, right) is None
    assert "differs" in libraries.fault(first, [value.tolist() for value in second.expected])
    assert libraries.fault(first, "OSError: no file") == "OSError: no file"
