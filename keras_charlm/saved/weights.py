"""The weights of a network: their shapes, and their values in Keras's own file.

Keras lays out `model.weights.h5` as HDF5 groups, one for each layer, with the layer's name as an
attribute: `layers/GROUP/vars` has its attributes and its weights under '0', '1', ..., and
`layers/GROUP/cell/vars` the weights of a recurrent layer's cell. Reading needs no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_charlm.config import ModelConfig
from keras_charlm.errors import BundleError
from keras_charlm.network.equations import CELLS


def weight_shapes(model: ModelConfig, symbols: int, labels: int = 0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights, in the order of `network.model.named_weights`.

    Args:
        model: The network's shape, resolved.
        symbols: V, size of the vocabulary, the unknown symbol included.
        labels: L, number of labels.
    """
    embedding, units, layers = model.embedding or 0, model.units or 0, model.layers or 0
    cell = CELLS[model.cell]
    width, below = cell.blocks * units, embedding or symbols + labels
    shapes: dict[str, tuple[int, ...]] = {}
    if embedding:
        shapes["embedding/embeddings"] = (symbols + labels, embedding)
    for i in range(layers):
        layer = f"{model.cell}_{i}"
        shapes[f"{layer}/kernel"] = (below, width)
        shapes[f"{layer}/recurrent_kernel"] = (units, width)
        shapes[f"{layer}/bias"] = (cell.biases, width) if cell.biases > 1 else (width,)
        below = units
    shapes["logits/kernel"] = (below, embedding if model.tied else symbols)
    shapes["logits/bias"] = (symbols,)
    return shapes


def count_parameters(model: ModelConfig, symbols: int, labels: int = 0) -> int:
    """Number of parameters in the weights of `weight_shapes`."""
    return sum(math.prod(shape) for shape in weight_shapes(model, symbols, labels).values())


def read_weights(
    path: Path, model: ModelConfig, symbols: int, labels: int = 0
) -> dict[str, np.ndarray]:
    """Read the weights that Keras's `save_weights` wrote.

    Args:
        path: The file.
        model: The network's shape, resolved.
        symbols: V, size of the vocabulary.
        labels: L, number of labels.

    Returns:
        float32 arrays by name, with the shapes of `weight_shapes`.

    Raises:
        BundleError: The file is damaged, or has weights of another network.
    """
    import h5py

    try:
        # The file never changes, and not every file system has locks.
        with h5py.File(path, "r", locking=False) as file:
            groups = dict(_layers(file))
            weights = {}
            for name, shape in weight_shapes(model, symbols, labels).items():
                layer, _, weight = name.partition("/")
                if layer not in groups:
                    raise ValueError(f"it has no layer {layer}")
                weights[name] = _read(groups[layer], weight, shape)
            return weights
    except Exception as error:  # a damaged file can make HDF5 raise anything
        raise BundleError(
            f"{path} does not hold the weights of its model ({error}); copy the model again, or "
            "train it again."
        ) from error


def compress_weights(path: Path) -> None:
    """Compress the arrays of a file that Keras's `save_weights` wrote; Keras still reads it.

    Weights rounded to float16 take about half the space then: their last bits are zeros.
    """
    import h5py

    with h5py.File(path, "r") as file, h5py.File(path.with_suffix(".part"), "w") as small:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                options = {"chunks": item.shape, "shuffle": True, "compression": 9}
                made = small.create_dataset(name, data=item[()], **(options if item.ndim else {}))
            else:
                made = small.require_group(name)
            made.attrs.update(item.attrs)

        small.attrs.update(file.attrs)
        file.visititems(copy)
    path.with_suffix(".part").replace(path)


def _layers(file: Any) -> Iterator[tuple[str, Any]]:
    """The name and the group of each layer in an HDF5 file."""
    layers = _member(file, "layers")
    for key in layers:
        group = _member(layers, key)
        yield str(_member(group, "vars").attrs["name"]), group


def _read(layer: Any, weight: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight in a layer's group."""
    if "cell" in layer:
        layer, order = _member(layer, "cell"), ["kernel", "recurrent_kernel", "bias"]
    else:
        order = ["embeddings"] if weight == "embeddings" else ["kernel", "bias"]
    dataset = _member(_member(layer, "vars"), str(order.index(weight)))
    # External storage is in other files, and other filters are plugins.
    filters = dataset.compression in (None, "gzip") and not dataset.scaleoffset
    if dataset.external or dataset.is_virtual or not filters:
        raise ValueError(f"{dataset.name} is not stored as Keras stores it")
    if dataset.shape != shape or dataset.dtype != np.float32:
        raise ValueError(
            f"{dataset.name} is {dataset.dtype} {dataset.shape} and should be float32 {shape}"
        )
    return np.asarray(dataset[()], np.float32)


def _member(group: Any, name: str) -> Any:
    """A member of an HDF5 group; links, which may point outside the file, are refused."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is missing or a link")
    return group[name]
