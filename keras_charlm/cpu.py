"""What the processor has, and how TensorFlow is set to use it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Fewest rows of a batch that are worth a core of their own. Fewer would be faster still, but
# TensorFlow traces and compiles each core's part separately, so the first step would take long. Two
# parts always pay.
_LEAST_ROWS = 8


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def flags() -> set[str]:
    """The words of /proc/cpuinfo, among them the instruction sets; none on other systems."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def tune(batch: int) -> None:
    """Limit the threads within an operation, as the layers give each core a part of the batch.

    On the CPU only, and only where TensorFlow has not run anything yet in this process, for then
    the size of its thread pools is fixed. Settings made by the user stay.

    Args:
        batch: Rows of a batch.
    """
    # With its concurrency-optimized scheduler, XLA runs all compiled programs in one shared thread
    # pool, which has a single thread here: the cores' parts would wait for each other.
    _set("xla_cpu_enable_concurrency_optimized_scheduler", "false")
    # By default XLA uses vectors of half the widest size, which suits older processors, whose clock
    # slowed down for the widest. Those with bfloat16 instructions do not slow down.
    if "avx512_bf16" in flags():
        _set("xla_cpu_prefer_vector_width", "512")
    import tensorflow as tf

    threads = tf.config.threading
    if tf.config.list_physical_devices("GPU") or threads.get_intra_op_parallelism_threads():
        return
    with contextlib.suppress(RuntimeError):  # TensorFlow has started
        threads.set_intra_op_parallelism_threads(max(1, cores() // parts(batch)))


def _set(flag: str, value: str) -> None:
    """Give XLA a flag, unless the user has."""
    given = os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{flag}={value}".strip()


def parts(batch: int, replicas: int = 1) -> int:
    """Number of parts into which the rows of a batch are split, each for a core of its own.

    Args:
        batch: Rows of the batch on one replica.
        replicas: Replicas that share the cores.
    """
    worth = max(batch // _LEAST_ROWS, min(batch // 2, 2))
    return max(1, min(cores() // replicas, worth))
