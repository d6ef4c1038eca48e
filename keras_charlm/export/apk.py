"""An installable Android package around the page, built with Debian's tools and without Gradle."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

from keras_charlm import templates
from keras_charlm.errors import ExportError, OptionError, brief
from keras_charlm.export import android, web
from keras_charlm.saved.trained import TrainedModel

TOOLS = ("aapt", "apksigner", "smali", "zipalign", "keytool")
APT = "apt-get install aapt apksigner smali zipalign default-jre-headless"
MANIFEST, PROGRAM, FRAMEWORK = "AndroidManifest.xml", "Page.smali", "framework"
PASSWORD = "KCHARLM_KEYSTORE_PASSWORD"  # an environment variable
USUAL_PASSWORD = "android"  # as of the keys that Android's own tools make for tests


def check(keystore: Path) -> None:
    """Raise an OptionError if a tool is missing, or the key's file cannot be there."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise OptionError(
            f"--apk needs {', '.join(missing)}, not found on the PATH; install with: {APT}"
        )
    if keystore.is_dir() or not keystore.parent.is_dir():
        raise OptionError(f"--keystore is {keystore}; name a file in a folder that exists.")


def write(
    opened: TrainedModel, file: Path, content: bytes, app_id: str | None, keystore: Path
) -> dict[str, Any]:
    """Build and sign the package of a model's page.

    Args:
        opened: The model.
        file: The file to write.
        content: The on-device file, whose weights the page reads.
        app_id: The app's identity for Android; by default one that ends with the model's name.
        keystore: The file with the key that signs the package; it is made if it does not exist.
            Its password is in the environment variable KCHARLM_KEYSTORE_PASSWORD, or "android".

    Returns:
        A report: that of the page, `app_id`, `keystore`, the name of its file, and
        `package_bytes`.

    Raises:
        OptionError: The key cannot be used.
        ExportError: A tool failed, or `content` has other weights.
        BundleError: The model's files, or `content`, are damaged.
        OSError: A file cannot be written.
    """
    identity = app_id or android.default_id(opened.card.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "assets").mkdir()
        report = web.write_single(opened, folder / "assets" / web.INDEX, content)
        aligned = _build(folder, opened.card.name, identity)
        key = keystore
        if not keystore.exists():
            key = _make_key(folder / "made.keystore", opened.card.name)
        _sign(aligned, file, key, keystore)
        if key != keystore:
            shutil.copyfile(key, keystore)
            keystore.chmod(0o600)
    return {
        **report,
        "app_id": identity,
        "keystore": keystore.name,
        "package_bytes": file.stat().st_size,
    }


def _build(folder: Path, name: str, app_id: str) -> Path:
    """Build the unsigned package of `folder`, which has the assets."""
    package = resources.files(str(__package__))
    files = {
        MANIFEST: templates.render(__package__, f"apk/{MANIFEST}", escape=False, app_id=app_id),
        "res/values/strings.xml": android.strings(name),
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    icon = folder / "res" / "drawable" / "icon.png"
    icon.parent.mkdir()
    icon.write_bytes((package / "page" / "icon-192.png").read_bytes())
    framework, whole = folder / "framework.apk", folder / "whole.apk"
    with resources.as_file(package / "apk") as source:
        # -x numbers the resources of the package "android" as the system's.
        _run("aapt", "package", "-f", "-x", "-M", source / FRAMEWORK / MANIFEST,
             "-S", source / FRAMEWORK / "res", "-F", framework)  # fmt: skip
        _run("aapt", "package", "-f", "-M", folder / MANIFEST, "-S", folder / "res",
             "-A", folder / "assets", "-I", framework, "-F", whole)  # fmt: skip
        _run("smali", "assemble", "--api", "24", "-o", folder / "classes.dex", source / PROGRAM)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "classes.dex", "classes.dex")
    aligned = folder / "aligned.apk"
    _run("zipalign", "-f", "4", whole, aligned)
    return aligned


def _make_key(path: Path, name: str) -> Path:
    words = "".join(c if c.isalnum() else " " for c in name).strip() or "model"
    _run("keytool", "-genkeypair", "-keystore", path, "-storepass:env", PASSWORD,
         "-alias", "key", "-dname", f"CN={words}", "-keyalg", "RSA", "-keysize", "2048",
         "-validity", "10000")  # fmt: skip
    return path


def _sign(package: Path, file: Path, key: Path, named: Path) -> None:
    try:
        _run("apksigner", "sign", "--v4-signing-enabled", "false", "--ks", key,
             "--ks-pass", f"env:{PASSWORD}", "--out", file, package)  # fmt: skip
    except ExportError as error:
        raise OptionError(
            f"The key in {named} cannot sign the package; name another --keystore, or put its "
            f"password into the environment variable {PASSWORD} ({error})."
        ) from None
    _run("apksigner", "verify", file)


def _run(tool: str, *args: str | Path) -> None:
    """Run a tool; an ExportError has the beginning of what it says if it fails."""
    environment = {PASSWORD: USUAL_PASSWORD, **os.environ}
    done = subprocess.run([tool, *map(str, args)], capture_output=True, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").splitlines()
        lines = [line for line in said if line and not line[0].isspace()]  # no traceback of Java
        raise ExportError(f"{tool} failed: {brief(': '.join(lines[:2]))}")
