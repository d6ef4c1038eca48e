"""Convert one network of each shape, whichever test and process asks.

The files of others of its shape are this file with their weights in it; a training and an export
then compare what it computes with the network, whose weights these are.
"""

import contextlib
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np

FOLDER = "KERAS_CHARLM_CONVERSIONS"  # an environment variable: where the files are
_SKIPPED = ("weights", "functions", "_name_scope")


def shared(convert):
    """The conversion to a TensorFlow Lite file, made once; the real one where no folder is set."""

    def convert_once(network, quantize="none"):
        if FOLDER not in os.environ:
            return convert(network, quantize)
        weights = [w.numpy() for w in network.weights]
        fields = {k: list(v) if isinstance(v, list) else v for k, v in vars(network).items()}
        shape = {k: v for k, v in fields.items() if k not in _SKIPPED and "_self_" not in k}
        sizes = [w.shape for w in weights]
        name = hashlib.sha256(pickle.dumps((quantize, sizes, shape))).hexdigest()
        path = Path(os.environ[FOLDER]) / name
        content = with_weights(path.read_bytes(), weights) if path.exists() else None
        if content is None:
            content = convert(network, quantize)
            half = path.with_suffix(f".{os.getpid()}")
            with contextlib.suppress(OSError):  # tests fill the disk
                half.write_bytes(pickle.dumps((weights, content)))
                half.rename(path)
        return content

    return convert_once


def with_weights(saved, weights):
    """A converted file with other weights; None if its own are not all in it, just once.

    Args:
        saved: The weights, and the file that was converted with them, pickled.
        weights: Those to put in their place.
    """
    old, content = pickle.loads(saved)
    if all(map(np.array_equal, old, weights)):
        return content
    for before, after in zip(old, weights, strict=True):
        put = {before.tobytes(): after.tobytes(), before.T.tobytes(): after.T.tobytes()}
        if sum(map(content.count, put)) != 1:
            return None
        for at, bytes_ in put.items():
            content = content.replace(at, bytes_)
    return content
