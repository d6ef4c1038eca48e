"""The long run: an hour of training and ten million characters; memory, threads, files stay flat.

    python tests/endurance.py CORPUS --fit-minutes 60 --characters 10000000

Prints what the two processes held over time; exits with 1 where something grew. The tests run a
short form (test_endurance.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT = 16.0  # MB of growth from the second tenth of a run to its last that are taken for none


@dataclass(frozen=True)
class Held:
    """What a process holds: seconds since the watch began, resident MB, threads, open files."""

    seconds: float
    memory: float
    threads: int
    files: int


def held(pid: int | str = "self", began: float = 0.0) -> Held:
    """Read it from Linux's /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Held(
        time.monotonic() - began,
        int(values["VmRSS"].split()[0]) / 1024,
        int(values["Threads"]),
        files,
    )


def watch(command: list[str], interval: float) -> list[Held]:
    """Run a command to its end and note what its process holds."""
    began, seen = time.monotonic(), []
    process = subprocess.Popen(command)
    while process.poll() is None:
        try:
            seen.append(held(process.pid, began))
        except (OSError, KeyError):  # it has just ended
            break
        time.sleep(interval)
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seen


def growth(seen: list[Held]) -> Held:
    """What the last tenth held more than the second one: the first is the start."""
    tenth = max(1, len(seen) // 10)
    early, late = seen[tenth : 2 * tenth] or seen[-1:], seen[-tenth - 1 : -1] or seen[-1:]

    def more(name):
        early_values, late_values = ([getattr(h, name) for h in part] for part in (early, late))
        return sorted(late_values)[len(late) // 2] - sorted(early_values)[len(early) // 2]

    return Held(seen[-1].seconds, more("memory"), more("threads"), more("files"))


def report(title: str, seen: list[Held]) -> bool:
    """Show ten moments of a run; tells whether nothing grew."""
    print(f"{title}\n{'seconds':>9}{'MB':>9}{'threads':>9}{'files':>7}")
    for h in seen[:: max(1, len(seen) // 10)]:
        print(f"{h.seconds:9.0f}{h.memory:9.1f}{h.threads:9}{h.files:7}")
    more = growth(seen)
    print(
        f"grew by{more.memory:+11.1f}{more.threads:+9}{more.files:+7}"
        "  (last tenth to second tenth)\n",
        flush=True,
    )
    return more.memory <= LIMIT and more.threads <= 0 and more.files <= 0


def draw(model: str, characters: int, calls: int) -> list[Held]:
    """Draw in this process, then call `generate` many times; notes about a hundred moments."""
    from keras_charlm import load

    opened, seen, began = load(model), [], time.monotonic()
    drawn, noted = 0, 0
    while drawn < characters:
        for sample in opened.samples(num=64, length=1000, seed=drawn % 2**31):
            drawn += len(sample.text)
        if drawn >= noted:
            seen.append(held(began=began))
            noted += characters // 100
    for call in range(calls):
        opened.generate(length=20, seed=call)
        if call % max(1, calls // 10) == 0:
            seen.append(held(began=began))
    print(f"{drawn:,} characters in {time.monotonic() - began:.0f} s with {calls:,} calls more")
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", nargs="*", help="text to train on; by default the name list")
    parser.add_argument("--fit-minutes", type=float, default=60)
    parser.add_argument("--size", default="small", help="of the network, as in fit")
    parser.add_argument("--characters", type=int, default=10_000_000)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--draw", metavar="MODEL", help="draw in this process, and do no more")
    given = parser.parse_args()
    if given.draw:
        seen = draw(given.draw, given.characters, given.calls)
        return 0 if report("generate", seen) else 1
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        seen = watch(
            [
                sys.executable,
                "-m",
                "kcharlm",
                "fit",
                *given.corpus,
                "-o",
                model,
                "--quiet",
                "--size",
                given.size,
                "--max-time",
                f"{given.fit_minutes}m",
            ],
            interval=given.fit_minutes * 60 / 400,
        )
        flat = report("fit", seen)
        return (
            subprocess.call(
                [
                    sys.executable,
                    __file__,
                    "--draw",
                    model,
                    "--characters",
                    str(given.characters),
                    "--calls",
                    str(given.calls),
                ]
            )
            or not flat
        )


if __name__ == "__main__":
    sys.exit(main())
