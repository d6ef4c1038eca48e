"""What the processor has, and how TensorFlow is told to use it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Rows of a batch that are worth a core of their own. Fewer would be faster still, but TensorFlow
# unfolds and prepares each core's part by itself, so that many make the first step wait. Two parts
# always pay.
_LEAST_ROWS = 8


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def flags() -> set[str]:
    """The processor's instruction sets as Linux names them; elsewhere none."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def tune(batch: int) -> None:
    """Have TensorFlow leave it to the layers to share the work out, each core a part of the batch.

    On the CPU only, and only in a process where TensorFlow has not run anything yet: its threads
    are counted once. Settings made by the user stay.

    Args:
        batch: Rows of a batch.
    """
    # Ordered for several threads, a program goes over to the one thread that all programs have.
    _set("xla_cpu_enable_concurrency_optimized_scheduler", "false")
    # XLA takes half of the widest vectors by default, right for processors before those that have
    # bfloat16, which lowered their clock for the widest.
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
    """Into how many parts the rows of a batch are split, each for a core of its own."""
    worth = max(batch // _LEAST_ROWS, min(batch // 2, 2))
    return max(1, min(cores() // replicas, worth))
