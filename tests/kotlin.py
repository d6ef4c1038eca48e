"""Kotlin in the tests: the real compiler, and the compiled program, whose LiteRT is Python's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

STUBS = Path(__file__).parent / "stubs" / "android"
# The compiler ends before the Java machine's optimizing compiler would pay.
JAVA = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx768m"]


def find_compiler():
    """The folder of the npm package kotlin-compiler, or of another kotlinc."""
    named = os.environ.get("KCHARLM_KOTLIN")
    on_path = shutil.which("kotlinc")
    folders = [p / "node_modules" / "kotlin-compiler" for p in Path(__file__).resolve().parents]
    if on_path:
        folders.insert(0, Path(on_path).resolve().parent.parent)
    if named:
        folders = [Path(named)]
    if not shutil.which("java"):
        pytest.skip("no java on the PATH: apt-get install default-jre-headless")
    for folder in folders:
        if (folder / "lib" / "kotlin-compiler.jar").is_file():
            return folder
    return pytest.skip(
        "no Kotlin compiler: npm install kotlin-compiler, or name its folder in KCHARLM_KOTLIN"
    )


def divide(folder):
    """Write each class of android.java to a file of its own, as the compiler wants it."""
    text = (STUBS / "android.java").read_text(encoding="utf-8")
    for package, content in re.findall(
        r"^package ([\w.]+);\n(.*?)(?=^package |\Z)", text, re.S | re.M
    ):
        name = re.search(r"^public .*?(?:class|interface) (\w+)", content, re.M)[1]
        path = folder / package.replace(".", "/") / f"{name}.java"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"package {package};\n{content}", encoding="utf-8")


def compile_all(sources, folder):
    """Compile Kotlin against the declarations in stubs/; returns the class path of the result."""
    home = find_compiler()
    divide(folder / "java")
    command = [
        "java", *JAVA, "-cp", home / "lib" / "kotlin-compiler.jar",
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", home, "-no-reflect",
        "-Werror", "-d", folder / "classes", folder / "java", *sources, *STUBS.glob("*.kt"),
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return f"{folder / 'classes'}{os.pathsep}{home / 'lib' / 'kotlin-stdlib.jar'}"


class Program:
    """stubs/android/main.kt, with the model in a folder. A call is a line of words to it."""

    def __init__(self, class_path, folder):
        self._interpreter = Interpreter(str(folder / "model.tflite"))
        command = ["java", *JAVA, "-Dfile.encoding=UTF-8", "-cp", class_path, "MainKt", str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert self._answer() == "ready"

    def __call__(self, *words):
        self._send("\t".join(map(str, words)))
        return self._answer()

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0

    def _send(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self):
        """The program's answer; until then, answer what it asks LiteRT."""
        while (line := self._process.stdout.readline()).startswith("LiteRT "):
            _, call, *rest = line.split()
            self._send(getattr(self, f"_{call}")(*rest))
        return line.rstrip("\n")

    def _open(self, name):
        return name

    def _input(self, signature, name):
        runner = self._interpreter.get_signature_runner(signature)
        return ",".join(map(str, runner.get_input_details()[name]["shape"]))

    def _output(self, signature, name):
        runner = self._interpreter.get_signature_runner(signature)
        return ",".join(map(str, runner.get_output_details()[name]["shape"]))

    def _run(self, signature, *given):
        runner = self._interpreter.get_signature_runner(signature)
        details, arrays = runner.get_input_details(), {}
        for name, values in (part.split("=") for part in given):
            array = np.array([float(value) for value in values.split(",")])
            arrays[name] = array.astype(details[name]["dtype"]).reshape(details[name]["shape"])
        outputs = runner(**arrays)
        return " ".join(
            f"{name}={','.join(map(str, array.ravel().tolist()))}"
            for name, array in outputs.items()
        )
