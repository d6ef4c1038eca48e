"""Kotlin in the tests: the real compiler, and the compiled program."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import apps
import pytest

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


class Program(apps.Program):
    """stubs/android/main.kt, with the model and its files in a folder."""

    def __init__(self, class_path, folder):
        command = ["java", *JAVA, "-Dfile.encoding=UTF-8", "-cp", class_path, "MainKt", folder]
        super().__init__(command, folder / "model.tflite")
