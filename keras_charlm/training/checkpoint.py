"""The complete state of a training in one file, so that resuming is exact to the last bit.

The file holds the weights, the optimizer, the metrics, the random generators of dropout, the
recurrent states of all rows, and the progress. It is replaced by an atomic rename: a crash leaves
the previous one. Rows are in the order of the batch, independent of devices, so that any number of
devices and workers can resume from it; several workers write one file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_charlm.errors import BundleError
from keras_charlm.files import regular, replace_file
from keras_charlm.network.model import recurrent_layers
from keras_charlm.saved.bundle import CURVE, HISTORY
from keras_charlm.saved.history import write_history
from keras_charlm.training.progress import Progress
from keras_charlm.training.workers import Workers

STATE, BEST = "state.npz", "best.npz"


class Checkpoints:
    """Writes the checkpoints of a training; only the chief worker writes.

    Args:
        folder: Folder of the checkpoint.
        settings: The plan of the training; see `Plan.to_dict`.
        progress: The training's progress.
        steps: Batches of an epoch.
        workers: The workers that train together.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        progress: Progress,
        steps: int,
        workers: Workers,
    ):
        self.folder, self.settings, self.progress = folder, settings, progress
        self.steps, self.workers = steps, workers
        self._best: list[np.ndarray] | None = None  # until the next checkpoint writes them

    def keep_best(self, weights: list[np.ndarray]) -> None:
        """Keep the weights of the best epoch so far; the next checkpoint writes them."""
        if self.workers.chief:
            self._best = weights

    def best_weights(self) -> list[np.ndarray] | None:
        """The weights of the best epoch so far; None if there is none."""
        if self._best is not None:
            return self._best
        path = self.folder / BEST
        return read_best(path) if path.exists() else None

    def save(self, model: keras.Model) -> None:
        """Collect the state on all workers and write it.

        The best weights are written first: after a crash between the two writes, resuming from the
        older state computes the same ones again.

        Raises:
            OSError: A file cannot be written; the previous checkpoint is kept.
        """
        state = collect(model, self.workers)
        if not self.workers.chief:
            return
        if self._best is not None:
            write_best(self.folder / BEST, self._best)
            self._best = None
        save(self.folder / STATE, state, self.progress, self.settings)
        self.write_history(self.folder)

    def write_history(self, folder: Path) -> None:
        """Write history.csv and curve.csv into a folder."""
        write_history(folder, HISTORY, self.progress.history)
        write_history(folder, CURVE, self.progress.curve(self.steps))


def collect(model: keras.Model, workers: Workers) -> dict[str, np.ndarray]:
    """Collect the model's complete state, identical on every worker.

    Returns:
        Arrays by name: 'v0', ... the weights and the optimizer, which are equal on all devices;
        'm0', ... the metrics, (devices, ...); 'g0', ... the seeds of the generators; 's0', ... the
        recurrent states, (B, units).
    """
    arrays = {f"v{i}": value for i, value in enumerate(_shared(model))}
    arrays |= {f"m{i}": workers.rows(_copies(v)) for i, v in enumerate(_metrics(model))}
    arrays |= {f"g{i}": _copies(v)[0] for i, v in enumerate(_generators(model))}
    arrays |= {f"s{i}": workers.rows(value) for i, value in enumerate(states(model))}
    return arrays


def save(
    path: Path, arrays: dict[str, np.ndarray], progress: Progress, settings: dict[str, Any]
) -> None:
    """Write a checkpoint.

    Args:
        path: The file.
        arrays: The state, as `collect` returns it.
        progress: The training's progress.
        settings: Its plan; see `Plan.to_dict`.

    Raises:
        OSError: It cannot be written; the previous checkpoint is kept.
    """
    text = json.dumps({"progress": asdict(progress), "settings": settings})
    write_arrays(path, {**arrays, "json": np.frombuffer(text.encode(), np.uint8)})


def restore(
    arrays: dict[str, np.ndarray], model: keras.Model, workers: Workers, metrics: bool = True
) -> None:
    """Load a saved state into a model.

    Args:
        arrays: The state, as `collect` returned it.
        model: A model built and compiled in the same way, on any number of devices that divides
            the batch size.
        workers: The workers that train together.
        metrics: Whether to load the metrics too.

    Raises:
        BundleError: The state is of another model.
    """
    try:
        variables = [*model.weights, *model.optimizer.variables]
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"v{i}"])
        for i, variable in enumerate(_generators(model)):
            variable.assign(arrays[f"g{i}"])
        for i, variable in enumerate(_metrics(model) if metrics else ()):
            for copy, value in zip(
                _locals(variable), _parts(arrays[f"m{i}"], workers), strict=True
            ):
                copy.assign(value)
        set_states(
            model,
            [
                np.split(arrays[f"s{i}"], workers.count)[workers.index]
                for i in range(len(_state_variables(model)))
            ],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"The checkpoint does not fit its own settings ({error}); train the model again."
        ) from error


def _parts(saved: np.ndarray, workers: Workers) -> np.ndarray:
    """Divide a metric's sums among this worker's devices.

    Args:
        saved: (devices, ...), the sum of each device when the state was saved.
        workers: The workers now.

    Returns:
        (devices of this worker, ...): the sum that each had; if the number of devices has changed,
        equal parts of the total, because Keras shows the mean of the devices' own means.
    """
    if len(saved) != workers.replicas:
        saved = np.stack([saved.sum(axis=0) / workers.replicas] * workers.replicas)
    return saved[list(workers.parts)]


def read_json(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The `progress` (a Progress) and the `config_base` of a saved state.

    Raises:
        BundleError: They are damaged.
    """
    try:
        values = json.loads(arrays["json"].tobytes())
        return {"progress": Progress(**values["progress"]), "settings": values["settings"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"The checkpoint is damaged ({error}); train the model again.") from error


def write_best(path: Path, weights: list[np.ndarray]) -> None:
    """Write the weights of the best epoch so far, in the order of `Model.weights`."""
    write_arrays(path, {f"v{i}": value for i, value in enumerate(weights)})


def read_best(path: Path) -> list[np.ndarray]:
    """Read what `write_best` wrote.

    Raises:
        BundleError: The file is damaged.
    """
    arrays = read_arrays(path)
    try:
        return [arrays[f"v{i}"] for i in range(len(arrays))]
    except KeyError as error:
        raise BundleError(f"{path} is damaged (no {error}); train the model again.") from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays to one file atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    replace_file(path, write)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; raises BundleError if it is damaged."""
    return parse(read(path), path)


def read(path: Path) -> bytes:
    """The content of a file of `write_arrays`; raises BundleError if it cannot be read."""
    try:
        return regular(path, largest=1 << 62).read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}); train the model again.") from error


def parse(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays in the content that `read` returned; raises BundleError if it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            # `write_arrays` compresses nothing, so no member is larger than the file.
            if any(m.compress_type != zipfile.ZIP_STORED for m in file.infolist()):
                raise ValueError("it is compressed")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a damaged file can make its readers raise anything
        raise BundleError(
            f"{path} cannot be read ({error or type(error).__name__}); train the model again."
        ) from error


def states(model: keras.Model) -> list[np.ndarray]:
    """The recurrent states of this worker's rows of the batch, each (rows, units)."""
    return [np.concatenate([np.asarray(c) for c in _locals(v)]) for v in _state_variables(model)]


def set_states(model: keras.Model, values: list[np.ndarray] | None = None) -> None:
    """Set the recurrent states from (rows, units) arrays, divided among the replicas; None is
    zero."""
    for i, variable in enumerate(_state_variables(model)):
        copies = _locals(variable)
        parts = (
            [np.zeros(c.shape, np.float32) for c in copies]
            if values is None
            else np.split(values[i], len(copies))
        )
        for copy, part in zip(copies, parts, strict=True):
            copy.assign(part)


def _shared(model: keras.Model) -> list[np.ndarray]:
    """The values of weights and optimizer, which are equal on every replica."""
    return [np.asarray(_locals(v)[0]) for v in [*model.weights, *model.optimizer.variables]]


def _metrics(model: keras.Model) -> list[keras.Variable]:
    return [v for metric in model.metrics for v in metric.variables]


def _generators(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model.variables if "seed_generator" in v.path]


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    return keras.tree.flatten([layer.states for layer in recurrent_layers(model)])


def _locals(variable: keras.Variable) -> list[Any]:
    """The copies of a Keras variable, one for each replica."""
    value = variable.value
    values = getattr(value, "values", None)
    return list(values) if isinstance(values, tuple) else [value]


def _copies(variable: keras.Variable) -> np.ndarray:
    """The values of all replicas, (replicas, ...)."""
    return np.stack([np.asarray(copy) for copy in _locals(variable)])
