"""Workers started by Ray, each running the same fit.

Only Ray's core is used: Ray Train adds processes of its own, which load TensorFlow too, and shows
every line of every worker with lines of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from keras_charlm.display import Display, duration
from keras_charlm.errors import CharLMError, Interrupted, OptionError, TrainingError

_GRACE = 60.0  # seconds in which the other workers say what became of one that died


def on_ray(count: int, arguments: dict[str, Any], *, resume: bool = False) -> None:
    """Run `fit` or `resume` on the workers of a Ray cluster, or on this machine.

    Relative paths are resolved in the current folder, which the workers must share. What the chief
    shows is shown here.

    Args:
        count: Number of workers; each uses a CPU, and a GPU if the cluster has any.
        arguments: The function's arguments.
        resume: Run `resume` instead of `fit`.

    Raises:
        OptionError: Ray is not installed, or the text is read from stdin.
        TrainingError: A worker failed.
        Interrupted: By Ctrl-C.
    """
    if not util.find_spec("ray"):
        raise OptionError(
            "--launcher ray needs Ray; install it with: pip install 'keras_charlm[ray]'"
        )
    if "-" in arguments.get("corpus", ()):
        raise OptionError("Ray's workers have no stdin; give the text as a file.")
    began, display = time.perf_counter(), Display(arguments.get("verbose", 1))
    display.note("ray         starting Ray ...")
    import ray

    own = not ray.is_initialized()
    try:
        if own:
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        with _started(count, arguments, display) as workers:
            config = {
                "folder": str(Path.cwd()),
                "resume": resume,
                "arguments": arguments,
                "environment": {k: v for k, v in os.environ.items() if k.startswith("KERAS_")},
                "addresses": ray.get([worker.address.remote() for worker in workers]),
            }
            spent = duration(time.perf_counter() - began)
            display.note(f"ray         {count} workers after {spent}; they load TensorFlow ...")
            _follow(workers, [worker.train.remote(i, config) for i, worker in enumerate(workers)])
    except KeyboardInterrupt:
        raise Interrupted(
            "Stopped; only the work since the last checkpoint is lost, and kcharlm fit --resume "
            "goes on from there.",
            signal.SIGINT,
        ) from None
    finally:
        if own:
            ray.shutdown()


@contextlib.contextmanager
def _started(count: int, arguments: dict[str, Any], display: Display) -> Iterator[list[Any]]:
    """Start the workers, once the cluster has room for all, and end them."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    resources = ray.cluster_resources()
    gpus = int(arguments.get("devices") != "cpu" and resources.get("GPU", 0) > 0)
    group = placement_group([{"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}] * count)
    try:
        if not group.wait(5):
            display.note(
                f"ray         waiting for {count} {'GPUs' if gpus else 'CPUs'}: the cluster has "
                f"{resources.get('GPU' if gpus else 'CPU', 0):g} ..."
            )
            ray.get(group.ready())
        strategy = PlacementGroupSchedulingStrategy(group)
        options = {"num_cpus": 1, "num_gpus": gpus, "scheduling_strategy": strategy}
        # Two calls at a time: `train`, and `shown` beside it.
        worker = ray.remote(max_concurrency=2, **options)(Worker)
        yield [worker.remote() for _ in range(count)]
    finally:
        remove_placement_group(group)  # ends the workers in it


def _follow(workers: Sequence[Any], training: list[Any]) -> None:
    """Show what the chief shows, until all workers are done.

    Args:
        workers: The workers.
        training: Their calls of `train`.

    Raises:
        TrainingError: A worker failed or died.
    """
    import ray

    left, died = dict(zip(training, range(len(training)), strict=True)), ""
    shown = workers[0].shown.remote()
    while left or shown:
        waiting = [*left, *([shown] if shown else [])]
        done, _ = ray.wait(waiting, timeout=_GRACE if died else None)
        if not done:
            break
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayError as error:
            result, died = None, died or f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if done[0] is shown:
            shown = workers[0].shown.remote() if result else None
            sys.stderr.write(result or "")
            sys.stderr.flush()
        elif result:
            raise TrainingError(result)
        left.pop(done[0], None)
    if died:
        raise TrainingError(f"A worker of Ray died ({died}); continue with kcharlm fit --resume.")


class Worker:
    """One worker, a process of Ray's."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def address(self) -> str:
        """The host, and a port that is free there now."""
        import ray

        with socket.socket() as listener:
            listener.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{listener.getsockname()[1]}"

    def train(self, index: int, config: dict[str, Any]) -> str | None:
        """Run the fit as worker `index`; returns the message of an error."""
        os.environ.update(config["environment"])
        if len(config["addresses"]) > 1:
            cluster = {"worker": config["addresses"]}
            task = {"type": "worker", "index": index}
            os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        os.chdir(config["folder"])
        sys.stderr = sys.stdout = Shown(self._pieces)
        try:
            from keras_charlm import backend

            backend.load()
            from keras_charlm.training import run

            (run.resume if config["resume"] else run.fit)(**config["arguments"])
        except CharLMError as error:
            return str(error)
        finally:
            self._pieces.put(None)
        return None

    def shown(self) -> str | None:
        """The next piece of what is shown, once there is one; None after the last."""
        return self._pieces.get()


class Shown:
    """A text stream to a queue."""

    encoding = "utf-8"

    def __init__(self, pieces: queue.SimpleQueue[str | None]):
        self._pieces = pieces

    def write(self, text: str) -> int:
        if text:  # an empty piece would end it
            self._pieces.put(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False
