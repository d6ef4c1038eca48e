"""What joins a network that was trained by other means than `fit` to the rest of the package."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import replace
from pathlib import Path

import keras

from keras_charlm.config import FitConfig, ModelConfig
from keras_charlm.errors import OptionError
from keras_charlm.export import packing, tflite
from keras_charlm.export.graph import OnDeviceGraph
from keras_charlm.files import check_output, write_file
from keras_charlm.saved.card import Card, versions
from keras_charlm.text.corpus import Corpus
from keras_charlm.text.split import Split
from keras_charlm.training.own import Own
from keras_charlm.training.summary import part_sizes


def export_network(
    network: keras.Model,
    shape: ModelConfig,
    text: Corpus,
    split: Split,
    output: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the on-device file of a network that `build` made and the user trained.

    Args:
        network: The network, compiled.
        shape: The configuration that it was built from.
        text: The text that it was trained on.
        split: The text's parts.
        output: The .tflite file to write; `load` opens it.
        overwrite: Replace an existing file.

    Returns:
        The file's path.

    Raises:
        OptionError: The network is not compiled, or the file exists or cannot be written.
        ExportError: The network could not be converted.

    Example:
        >>> keras_charlm.export_network(network, shape, text, split, "own.tflite")
    """
    path, vocabulary = Path(output), split.vocabulary
    if not isinstance(getattr(network, "optimizer", None), keras.optimizers.Optimizer):
        raise OptionError("The network has no optimizer; compile and train it before its export.")
    check_output(path, overwrite)
    fit = Own(network.optimizer).described(FitConfig(epochs=1, batch_size=network.input_shape[0]))
    card = Card(
        name=path.stem,
        run=uuid.uuid4().hex,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        model=replace(shape, tied=bool(shape.tied), dropout=shape.dropout or 0.0),
        fit=fit,
        corpus={
            "name": text.name,
            "files": list(text.files),
            "bytes": text.size,
            "characters": len(text.symbols),
            "sha256": text.sha256,
            "config": text.config.to_dict(),
        },
        split=part_sizes(text, split),
        start=split.start,
        parameters=network.count_params(),
    )
    graph = OnDeviceGraph(network, shape, vocabulary)
    content = tflite.convert(graph, "none")
    tflite.check(content, graph)
    write_file(path, packing.pack(content, card.on_device(vocabulary)))
    return path
