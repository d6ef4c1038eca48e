"""The processes that train one model together, and the decisions that they synchronize.

Each process, a worker, runs the same program on its own rows of every batch; TensorFlow sums the
gradients. Everything else that affects the training (time, signals, errors, settings) is agreed on
here: workers that decide differently would deadlock, or train different models unnoticed. Worker 0
is the chief: it alone writes the model and shows the training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from keras_charlm import cpu
from keras_charlm.config import FitConfig
from keras_charlm.errors import CharLMError, OptionError, TrainingError
from keras_charlm.training import devices

T = TypeVar("T")


_PIECE = 1 << 22  # int32 values exchanged at a time, 16 MB


# What TensorFlow raises in a worker when another is gone.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def addresses(value: str | None = None) -> list[str]:
    """The workers' addresses in TF_CONFIG, the chief's first; none if it is not set.

    Args:
        value: Content of TF_CONFIG; by default that of the environment variable.

    Raises:
        OptionError: It cannot be read, or has tasks other than a chief and workers.
    """
    value = os.environ.get("TF_CONFIG") if value is None else value
    if not value:
        return []
    try:
        config = json.loads(value)
        cluster, task = config["cluster"], config["task"]
        names = [str(a) for job in ("chief", "worker") for a in cluster.get(job, [])]
        if set(cluster) - {"chief", "worker"} or not names:
            raise ValueError(f"the cluster's jobs are {sorted(cluster)}")
        cluster[task["type"]][int(task["index"])]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise OptionError(
            f"TF_CONFIG cannot be used ({type(error).__name__}: {error}); it takes "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
        ) from None
    return names if len(names) > 1 else []


class Workers:
    """The workers of a training; by default one, which is its own chief.

    Args:
        strategy: A strategy of `join` or `devices.strategy`.
        addresses: The workers' addresses, in order.

    Attributes:
        index: This worker's number, 0 for the chief.
        count: Number of workers.
        replicas: Number of devices of all workers.
        parts: Which of the `replicas` equal parts of a batch's rows are this worker's.
    """

    def __init__(self, strategy: tf.distribute.Strategy, addresses: Sequence[str] = ()):
        self.strategy, self.addresses = strategy, addresses
        self.count = max(1, len(addresses))
        self.index = worker_index() if self.count > 1 else 0
        self.replicas = strategy.num_replicas_in_sync
        local = self.replicas // self.count
        self.parts = range(self.index * local, (self.index + 1) * local)
        # Compiled, because it is called in every batch; rare, large reductions are not.
        self._batch_sum = tf.function(self._reduce, autograph=False)

    @property
    def chief(self) -> bool:
        """Whether this worker writes the model."""
        return self.index == 0

    # Communication. Everything is sent as a sum to which most workers add zero; arrays are
    # reinterpreted as integers, so that their values stay exact.

    def sum(self, *values: float) -> list[float]:
        """The sum over the workers of each value."""
        if self.count == 1:
            return list(values)
        return self._batch_sum(tf.constant(np.array(values, np.float64))).numpy().tolist()

    def mean(self, *values: float) -> list[float]:
        """The mean over the workers of each value."""
        return [total / self.count for total in self.sum(*values)]

    def any(self, *values: bool) -> list[bool]:
        """For each value, whether it is true on any worker."""
        return [total > 0 for total in self.sum(*values)]

    def rows(self, value: np.ndarray) -> np.ndarray:
        """Concatenate the rows of all workers, in order; each has the same number.

        Args:
            value: This worker's rows, (N, ...), of a 4-byte dtype.

        Returns:
            All rows, (count * N, ...).
        """
        if self.count == 1:
            return value
        bits = np.ascontiguousarray(value).view(np.int32).reshape(len(value), -1)
        whole = np.zeros((self.count, *bits.shape), np.int32)
        whole[self.index] = bits
        whole = self._total(whole).view(value.dtype)
        return whole.reshape(self.count * len(value), *value.shape[1:])

    def gather(self, data: bytes) -> list[bytes]:
        """Collect a short byte string from each worker."""
        if self.count == 1:
            return [data]
        lengths = np.zeros(self.count, np.int32)
        lengths[self.index] = len(data)
        lengths = self._total(lengths)
        width = max(1, int(lengths.max()))  # an empty sum crashes TensorFlow's ring
        whole = np.zeros((self.count, width), np.int32)
        whole[self.index, : len(data)] = np.frombuffer(data, np.uint8)
        whole = self._total(whole).astype(np.uint8)
        return [bytes(row[:n]) for row, n in zip(whole, lengths, strict=True)]

    def from_chief(self, act: Callable[[], bytes]) -> bytes:
        """Run a function on the chief and send its result to all workers.

        Raises:
            TrainingError, CharLMError: As for `in_turn`.
        """
        data = self.in_turn(lambda: act() if self.chief else b"")
        if self.count == 1:
            return data
        (size,) = self._total(np.array([len(data)], np.int64))
        whole = np.zeros(-(-size // 4), np.int32)
        whole.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        for at in range(0, len(whole), _PIECE):
            whole[at : at + _PIECE] = self._total(whole[at : at + _PIECE])
        return whole.tobytes()[:size]

    def _total(self, value: np.ndarray) -> np.ndarray:
        return self._reduce(tf.constant(value)).numpy()

    def _reduce(self, value: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    # Agreement.

    def in_turn(self, act: Callable[[], T]) -> T:
        """Run a function on the chief, then on the others, which can use what the chief has written
        to a shared disk. An error on one worker is raised on all.

        Raises:
            TrainingError: It failed on another worker.
            CharLMError: It failed on this worker.
        """
        results: list[T] = []
        for turn in (True, False):
            error = None
            if self.chief is turn or self.count == 1:
                try:
                    results.append(act())
                except CharLMError as raised:
                    error = raised
            messages = self.gather(str(error or "").encode())
            if error:
                raise error
            for worker, message in enumerate(messages):
                if message:
                    raise TrainingError(f"{self.name(worker)} stopped: {message.decode()}")
            if self.count == 1:
                break
        return results[0]

    def compare(self, facts: dict[str, str]) -> None:
        """Check that all workers train the same model in the same way.

        Args:
            facts: Values that must be equal, under the names that users know.

        Raises:
            TrainingError: A value differs; raised on all workers.
        """
        digests = {
            name: hashlib.sha256(value.encode()).hexdigest()[:16] for name, value in facts.items()
        }
        mine = json.dumps({name: [digests[name], value[:60]] for name, value in facts.items()})
        chief, *others = (json.loads(data) for data in self.gather(mine.encode()))
        for worker, theirs in enumerate(others, 1):
            for name, (digest, value) in theirs.items():
                if digest != chief[name][0]:
                    raise TrainingError(
                        f"{self.name(worker)} has another {name} than {self.name(0)} ({value} "
                        f"and {chief[name][1]}), and all must train the same; start them again "
                        "with the same text, options and program."
                    )

    def name(self, worker: int) -> str:
        """A worker's name in messages."""
        return f"Worker {worker} ({self.addresses[worker]})"

    def lost(self, error: BaseException) -> str | None:
        """The name of the lost worker, if that is the cause of a TensorFlow error; else None."""
        if self.count == 1 or not isinstance(error, _GONE):
            return None
        text = re.sub(rf"/task:{self.index}\b", "", str(error))
        match = re.search(r"/task:(\d+)", text)
        return self.name(int(match[1])) if match else "Another worker"


def assemble(config: FitConfig) -> Workers:
    """The workers of this training: those that TF_CONFIG names, or this process alone.

    Args:
        config: This worker's devices, and how long to wait for the others.

    Raises:
        OptionError: TF_CONFIG or the devices cannot be used.
        TrainingError: Not all joined in time, or this worker cannot listen at its address.
    """
    known = addresses()
    if not known:
        cpu.tune(
            config.batch_size
        )  # not with several: a resuming worker does not know the batch size yet
        return Workers(devices.strategy(config.devices))
    index, timeout = worker_index(), config.join_timeout
    try:
        if missing := _meet(known, index, timeout):
            raise TrainingError(
                f"Waited {timeout:g} s at {known[index]} for the other workers "
                f"({', '.join(missing)}), and not all joined; start each with its TF_CONFIG, "
                "or wait longer with --join-timeout."
            )
        workers = Workers(devices.join(config.devices), known)
        workers.gather(b"")  # TensorFlow's strategy does not wait for all
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        raise TrainingError(
            f"Worker {index} cannot listen at {known[index]} ({str(error).splitlines()[0]}); "
            "check that the address is its own and the port is free, and start all again."
        ) from error
    return workers


def _meet(known: list[str], index: int, timeout: float) -> list[str]:
    """Wait until all workers have started.

    TensorFlow waits too, but cannot be interrupted, because it holds the GIL. Here each worker
    sends its number to the chief, and the chief answers them all.

    Args:
        known: Addresses of all workers.
        index: This worker's number.
        timeout: Longest wait in seconds.

    Returns:
        Addresses of the missing workers.
    """
    host, port = known[0].rsplit(":", 1)
    end = time.monotonic() + timeout
    if index == 0:
        with contextlib.ExitStack() as stack, socket.create_server(("", int(port))) as server:
            here: dict[int, socket.socket] = {}
            while len(here) < len(known) - 1 and (left := end - time.monotonic()) > 0:
                server.settimeout(left)
                with contextlib.suppress(OSError, ValueError):
                    other = stack.enter_context(server.accept()[0])
                    other.settimeout(1)
                    number = int(other.recv(16))
                    if 0 < number < len(known):
                        here[number] = other
            missing = [known[i] for i in range(1, len(known)) if i not in here]
            for other in () if missing else here.values():
                with contextlib.suppress(OSError):
                    other.sendall(b"!")
        return missing
    while (left := end - time.monotonic()) > 0:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port)), left) as chief,
        ):
            chief.sendall(str(index).encode())
            if chief.recv(1) == b"!":
                return []
        time.sleep(0.1)
    return known[:index] + known[index + 1 :]


def worker_index() -> int:
    """This worker's index into `addresses`; 0 if there are none."""
    if not addresses():
        return 0
    config = json.loads(os.environ["TF_CONFIG"])
    task = config["task"]
    return int(task["index"]) + (
        len(config["cluster"].get("chief", [])) if task["type"] == "worker" else 0
    )
