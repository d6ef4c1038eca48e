"""Preparing a corpus, compared with a dictionary loop: `python -m benchmarks.corpus`."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from itertools import cycle
from pathlib import Path

import click
import numpy as np

from benchmarks.common import interleave, save, spread

# Each prints its seconds and its peak of memory in MB. `getrusage` would count the memory of the
# parent process as well.
_MEMORY = """
def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
"""
_OURS = (
    _MEMORY
    + """
import json, sys, time
from keras_charlm.config import CorpusConfig
from keras_charlm.text.corpus import prepare
began = time.perf_counter()
text = prepare([sys.argv[1]], CorpusConfig())
took = time.perf_counter() - began
print(json.dumps([took, memory()]))
"""
)
_LOOP = (
    _MEMORY
    + """
import json, sys, time
import numpy as np
began = time.perf_counter()
with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
ids = {c: i for i, c in enumerate(sorted(set(text)))}
np.array([ids[c] for c in text], np.uint16).tofile(sys.argv[1] + ".bin")
took = time.perf_counter() - began
print(json.dumps([took, memory()]))
"""
)
# Letters of alphabets with one, two, three and four bytes in UTF-8.
_ALPHABETS = [(0x20, 0x7E), (0x410, 0x44F), (0x4E00, 0x9FA5), (0x1F300, 0x1F5FF)]


@click.command()
@click.option("--megabytes", default=500, help="Size of each text.")
@click.option("--rounds", default=3, help="Interleaved repeats.")
@click.option("--save-as", default="corpus", help="Name of the JSON file in benchmarks/results/.")
def main(megabytes, rounds, save_as):
    """Megabytes a second and memory, for ASCII and for mixed Unicode."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in {"ASCII": ascii_text, "mixed Unicode": mixed_text}.items():
            path = Path(folder) / "text.txt"
            write(path, megabytes * 10**6)
            # The loop keeps a Python object for each character, so it gets a tenth of the text.
            part = Path(folder) / "part.txt"
            with path.open(encoding="utf-8") as file:
                part.write_text(file.read(megabytes * 10**5), encoding="utf-8")
            measured = {"keras_charlm": [], "dictionary loop": []}
            interleave(
                rounds,
                [
                    lambda p=path, m=measured: m["keras_charlm"].append(run(_OURS, p, folder)),
                    lambda p=part, m=measured: m["dictionary loop"].append(run(_LOOP, p, folder)),
                ],
            )
            rows.append(
                {
                    "text": name,
                    "bytes": path.stat().st_size,
                    "peers": {
                        peer: {
                            "megabytes_per_second": spread([m[0] for m in values]),
                            "memory_mb": max(m[1] for m in values),
                        }
                        for peer, values in measured.items()
                    },
                }
            )
            click.echo(rows[-1], err=True)
    save(save_as, rows)


def run(code: str, path: Path, folder: str) -> tuple[float, float]:
    """Megabytes a second and megabytes of memory, in a new process with an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=True,
            text=True,
            capture_output=True,
            env={"KERAS_CHARLM_CACHE": cache, "PATH": ""},
        )
    took, memory = json.loads(done.stdout)
    return path.stat().st_size / 1e6 / took, memory


def ascii_text(path: Path, size: int) -> None:
    """Write the standard library's sources, repeated up to `size` bytes."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    with path.open("wb") as file:
        for source in cycle(sources):
            file.write(source.read_bytes().decode("ascii", "ignore").encode())
            if file.tell() >= size:
                return


def mixed_text(path: Path, size: int) -> None:
    """Write random words of four alphabets, up to `size` bytes."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        while file.tell() < size:
            words = [random.integers(*_ALPHABETS[i], 6) for i in random.integers(0, 4, 100_000)]
            file.write(" ".join("".join(map(chr, w)) for w in words).encode() + b"\n")


if __name__ == "__main__":
    main()
