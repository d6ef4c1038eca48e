"""Workers started by Ray Train, each running the same fit."""

from __future__ import annotations

import os
from importlib import util
from pathlib import Path
from typing import Any

from keras_charlm.errors import OptionError, TrainingError


def on_ray(count: int, arguments: dict[str, Any], *, resume: bool = False) -> None:
    """Run `fit` or `resume` on the workers of a Ray cluster, or on this machine.

    Ray Train sets TF_CONFIG on each worker. Relative paths are resolved in the current folder,
    which the workers must share.

    Args:
        count: Number of workers; each uses a GPU if the cluster has any.
        arguments: The function's arguments.
        resume: Run `resume` instead of `fit`.

    Raises:
        OptionError: Ray is not installed, or the text is read from stdin.
        TrainingError: A worker failed.
    """
    if not util.find_spec("ray"):
        raise OptionError(
            "--launcher ray needs Ray Train; install it with: pip install 'keras_charlm[ray]'"
        )
    if "-" in arguments.get("corpus", ()):
        raise OptionError("Ray's workers have no stdin; give the text as a file.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Ray imports TensorFlow
    import ray
    from ray.train import ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer
    from ray.util.queue import Queue

    passed = {name: value for name, value in os.environ.items() if name.startswith("KERAS_")}
    ray.init(
        runtime_env={"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "3", **passed}}, ignore_reinit_error=True
    )
    cpu = arguments.get("devices") == "cpu" or not ray.cluster_resources().get("GPU")
    errors = Queue(actor_options={"num_cpus": 0})  # Ray would log an error that a worker raises
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={
            "folder": str(Path.cwd()),
            "resume": resume,
            "arguments": arguments,
            "errors": errors,
        },
        scaling_config=ScalingConfig(num_workers=count, use_gpu=not cpu),
    )
    try:
        try:
            trainer.fit()
        finally:  # if a worker died, the others have put an error
            raised = sorted(errors.get_nowait_batch(errors.qsize()))
            if raised:
                raise TrainingError(raised[0][1])
    finally:
        ray.shutdown()


def _work(config: dict[str, Any]) -> None:
    """One worker, in the process and with the TF_CONFIG that Ray gives it."""
    from keras_charlm.errors import CharLMError
    from keras_charlm.training.workers import worker_index

    os.chdir(config["folder"])
    from keras_charlm.training import run  # loads TensorFlow

    try:
        if config["resume"]:
            run.resume(**config["arguments"])
        else:
            run.fit(**config["arguments"])
    except CharLMError as error:
        config["errors"].put((worker_index(), str(error)))
