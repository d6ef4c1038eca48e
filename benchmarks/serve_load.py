"""Load `kcharlm serve` with many clients at once, and check that none fails and memory is flat.

    python -m benchmarks.serve_load names --clients 100 --seconds 60

Every client asks without a pause: for names, a stream and scores in turn. The process's memory is
read from /proc after a tenth of the time and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

KINDS = (
    ("/generate", {"prompt": "", "num": 5}),
    ("/generate", {"prompt": "", "stream": True}),
    ("/score", {"texts": ["Maria", "Anton"]}),
)


@dataclass
class Load:
    """What a load did.

    Attributes:
        seconds: Time that each request that was answered took.
        failures: What went wrong with the others.
        memory: Megabytes of the server early and at the end.
    """

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def start(model: str | Path) -> tuple[subprocess.Popen[str], str]:
    """Start a server on a free port; returns the process and its address."""
    command = [sys.executable, "-m", "kcharlm", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    match = re.search(r"http://\S+:\d+", line)
    if match is None:
        process.terminate()
        raise RuntimeError(f"the server did not start: {line}")
    return process, match[0]


def resident(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


async def load(address: str, pid: int, clients: int, seconds: float) -> Load:
    """Load a server; see the module."""
    result = Load()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        end = time.perf_counter() + seconds

        async def ask(number: int) -> None:
            while time.perf_counter() < end:
                path, values = KINDS[number % len(KINDS)]
                number += 1
                began = time.perf_counter()
                try:
                    answer = await client.post(path, json=values)
                    answer.raise_for_status()
                    if values.get("stream") and "event: done" not in answer.text:
                        raise RuntimeError("a stream was cut off")
                    result.seconds.append(time.perf_counter() - began)
                except Exception as error:
                    result.failures.append(f"{type(error).__name__}: {error}")

        async def watch() -> None:
            await asyncio.sleep(seconds / 10)
            result.memory.append(resident(pid))

        await asyncio.gather(watch(), *(ask(number) for number in range(clients)))
        result.memory.append(resident(pid))
    return result


def main() -> None:
    """Run the load and print what it did; exit status 1 if a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="names")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    process, address = start(options.model)
    try:
        result = asyncio.run(load(address, process.pid, options.clients, options.seconds))
    finally:
        process.terminate()
        process.wait()
    times = sorted(result.seconds)
    print(f"{len(times):,} requests answered, {len(times) / options.seconds:,.0f} a second")
    print(f"{len(result.failures):,} failed {' '.join(sorted(set(result.failures)))}".rstrip())
    if times:
        print(f"median {times[len(times) // 2]:.3f} s, longest {times[-1]:.3f} s")
    print(f"memory {result.memory[0]:.0f} MB early, {result.memory[1]:.0f} MB at the end")
    sys.exit(bool(result.failures))


if __name__ == "__main__":
    main()
