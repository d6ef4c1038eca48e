"""Shared by the benchmarks: description of the machine, interleaved repeats, medians, JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click

from keras_charlm import cpu

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("keras_charlm", "tensorflow", "keras", "ai-edge-litert", "numpy", "torch")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions, on which a figure depends."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": cpu.cores(),
        "matrix units": sorted({"amx_bf16", "avx512_bf16"} & cpu.flags()),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := version(name))},
        "load": round(os.getloadavg()[0], 2),  # above the cores in use: other programs were running
    }


def processor() -> str:
    """The processor's name, where the system gives one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Worker:
    """A peer in a process of its own, which runs some steps for each call of `run`.

    The process (see peers.py) prints a line of JSON when it is ready. For each number of steps that
    it reads, it prints another with the seconds of each step.
    """

    def __init__(self, name: str, **settings: Any):
        self.name = name
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", name, *arguments],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=Path(__file__).parents[1],
        )
        self.ready = self._read()  # seconds of the first step, memory
        self.seconds: list[float] = []
        self.last: dict[str, Any] = {}

    def run(self, steps: int) -> None:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.last = self._read()
        self.seconds += self.last["seconds"]

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} failed:\n{self.process.stderr.read()[-2000:]}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def interleave(rounds: int, actions: Iterable[Callable[[], Any]]) -> None:
    """Run each action once a round, so that a slow phase of the machine slows all of them."""
    actions = list(actions)
    for _ in range(rounds):
        for action in actions:
            action()


def kcharlm(*arguments: Any) -> str:
    """Run a command and return its output; its messages go to this process's stderr."""
    return subprocess.run(
        [sys.executable, "-m", "kcharlm", *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def made_text(size: int) -> str:
    """A text of `size` characters, 64 of them distinct, where only the length matters."""
    return "".join(chr(32 + i * i * 7919 % 64) for i in range(size))


def spread(values: list[float]) -> dict[str, float]:
    """Smallest, median and largest value."""
    return {"min": min(values), "median": median(values), "max": max(values)}


def save(name: str, rows: Any) -> None:
    """Write a benchmark's rows and the machine to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    click.echo(f"wrote {RESULTS / name}.json", err=True)


def saved(name: str) -> Any:
    """The rows that `save` wrote, or none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
