"""Runs on-device files outside Python: in LiteRT.js in Chromium, and with LiteRT's C library."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).parent.parent / "docs" / "native" / "generate.c"
FLAGS = (  # of Chromium
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
# What a page needs; Python's server takes types from the system's list, which may lack them.
TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
PAGE = """<!doctype html><title>files</title><script type="importmap">
{"imports": {"@litertjs/core": "/@litertjs/core/dist/index.js",
             "@litertjs/wasm-utils": "/@litertjs/wasm-utils/dist/index.js"}}</script>"""
# Answers the calls of a file, as runtime_call.py does; arrays are flat. LiteRT.js runs signatures
# alone, so `generate` stands for subgraph 0.
ANSWER = """async ([path, calls]) => {
  const litert = await import("@litertjs/core");
  await (self.started ??= litert.loadLiteRt("/@litertjs/core/wasm/"));
  const model = await litert.loadAndCompile(path, { accelerator: "wasm" });
  const results = [];
  for (const [signature, given] of calls) {
    const details = Object.values(model.signatures[signature ?? "generate"].getInputDetails());
    const tensors = Object.fromEntries(details.map(({ name, shape, dtype }) => {
      const values = given[name].flat(Infinity);
      const array = dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values);
      return [name, new litert.Tensor(array, Array.from(shape))];
    }));
    const outputs = await model.run(signature ?? "generate", tensors);
    const arrays = {};
    for (const [name, tensor] of Object.entries(outputs))
      arrays[name] = Array.from(await tensor.data());
    for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
    results.push(arrays);
  }
  model.delete();
  return results;
}"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """Serve a folder at an address of its own; yields the address and the server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", server
        finally:
            server.shutdown()
            thread.join()


def fetch_litertjs(version: str, folder: Path) -> Path:
    """Fetch LiteRT.js from npm into a folder, unless it is there."""
    for name in "core", "wasm-utils":
        home = folder / "@litertjs" / name
        if not home.exists():
            with contextlib.chdir(folder):
                subprocess.run(
                    ["npm", "pack", "--silent", f"@litertjs/{name}@{version}"], check=True
                )
            with tarfile.open(folder / f"litertjs-{name}-{version}.tgz") as archive:
                archive.extractall(folder / "unpacked", filter="data")
            home.parent.mkdir(exist_ok=True)
            shutil.move(folder / "unpacked" / "package", home)
    return folder


def run_litertjs(folder: Path, calls: dict[str, Any]) -> dict[str, Any]:
    """Run files in LiteRT.js in Chromium.

    Args:
        folder: What `fetch_litertjs` filled.
        calls: The calls of each file, as `runtime_call` takes them.

    Returns:
        For each file its outputs, flat, or the message of the error.
    """
    from playwright.sync_api import Error, sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))))
    results: dict[str, Any] = {}
    (folder / "files.html").write_text(PAGE, encoding="utf-8")
    with served(folder) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{address}files.html")
        for number, (path, own) in enumerate(calls.items()):
            shutil.copy(path, folder / f"{number}.tflite")
            try:
                results[path] = page.evaluate(ANSWER, [f"/{number}.tflite", own])
            except Error as error:
                results[path] = error.message.splitlines()[0][:200]
        browser.close()
    return results


def shaped(
    results: list[dict[str, Any]], calls: Any, expected: tuple[dict[str, Any], ...]
) -> list[Any]:
    """Flat outputs in the shapes of those that are right; those of subgraph 0 by their number."""
    made = []
    for own, (signature, _), right in zip(results, calls, expected, strict=True):
        named = {name: np.reshape(own[name], np.shape(right[name])).tolist() for name in own}
        numbered = {str(i): named[name] for i, name in enumerate(sorted(named))}
        made.append(named if signature else numbered)
    return made


def build(library: Path, program: Path) -> None:
    """Build docs/native/generate.c with the libLiteRt.so in the folder `library`."""
    compiler = os.environ.get("CC", "gcc")
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
    link = ["-L", library, "-l:libLiteRt.so", f"-Wl,-rpath,{library}"]
    subprocess.run([compiler, *warnings, SOURCE, "-o", program, *link], check=True)


def run_c(program: Path, file: str, prompt: str, seed: int) -> tuple[str, str]:
    """Run the program of `build`; returns its text, and the message of an error."""
    done = subprocess.run([program, file, prompt, str(seed)], capture_output=True, timeout=300)
    message = done.stderr.decode("utf-8", "replace").strip().splitlines()
    failed = message[-1] if message else f"exit status {done.returncode}"
    return done.stdout.decode("utf-8", "replace"), failed if done.returncode else ""
