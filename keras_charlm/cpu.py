"""What the processor has, and how TensorFlow is told to use it."""

from __future__ import annotations

import os
from pathlib import Path

# Rows of a batch that are worth a core of their own: the height of a tile of the matrix units.
_LEAST_ROWS = 16


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


def tune() -> None:
    """Have XLA use the widest vectors; it takes half of them by default, which was right for older
    processors. A setting made by the user stays."""
    given = os.environ.get("XLA_FLAGS", "")
    if "amx_tile" in flags() and "xla_cpu_prefer_vector_width" not in given:
        os.environ["XLA_FLAGS"] = f"{given} --xla_cpu_prefer_vector_width=512".strip()


def parts(batch: int, replicas: int = 1) -> int:
    """Into how many parts the rows of a batch are split, each for a core of its own."""
    return max(1, min(cores() // replicas, batch // _LEAST_ROWS))
