"""The processor's cores and instruction sets, and TensorFlow's thread settings for them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Minimum rows of a batch per core. Fewer rows per core would be faster still, but TensorFlow traces
# and compiles each core's part separately, so the first step would take long. Two parts always pay
# off.
_LEAST_ROWS = 8


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def flags() -> set[str]:
    """The words of /proc/cpuinfo, which include the vendor and the instruction sets; empty on other
    systems."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def tune(batch: int) -> None:
    """Limit TensorFlow's intra-op threads, because the layers give each core a part of the batch.

    Has an effect on the CPU only, and only before TensorFlow has run anything in this process: then
    the size of its thread pools is fixed. The user's own settings are kept.

    Args:
        batch: Rows of a batch.
    """
    # With its concurrency-optimized scheduler, XLA runs all compiled programs in one shared thread
    # pool, which has a single thread here: the parts would run one after another.
    _set("xla_cpu_enable_concurrency_optimized_scheduler", "false")
    # By default XLA uses half the widest vectors, because older processors lowered their clock
    # for the widest. Those with bfloat16 instructions do not.
    if "avx512_bf16" in flags():
        _set("xla_cpu_prefer_vector_width", "512")
    import tensorflow as tf

    threads = tf.config.threading
    if tf.config.list_physical_devices("GPU") or threads.get_intra_op_parallelism_threads():
        return
    with contextlib.suppress(RuntimeError):  # TensorFlow has started
        threads.set_intra_op_parallelism_threads(max(1, cores() // parts(batch)))


def _set(flag: str, value: str) -> None:
    """Set an XLA flag, unless the user has set it."""
    given = os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{flag}={value}".strip()


def parts(batch: int, replicas: int = 1) -> int:
    """Number of parts into which the rows of a batch are split, one for each core.

    Args:
        batch: Rows of the batch on one replica.
        replicas: Replicas that share the cores.
    """
    worth = max(batch // _LEAST_ROWS, min(batch // 2, 2))
    return max(1, min(cores() // replicas, worth))
