"""Trained models for other places: written, checked against what was trained, and reported.

Each kind of export is a module of its own, loaded when it is asked for: `tflite` makes the
on-device file, `savedmodel` and `web` fill a folder; each returns what the report should say.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from keras_charlm.config import ExportConfig
from keras_charlm.errors import BundleError, OptionError
from keras_charlm.files import write_json
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.settings import expect

REPORT = ".report.json"  # added to the export's name


def export(
    model: str | Path | TrainedModel,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Write a trained model for another place, and check it there.

    Args:
        model: A model, its folder, or its name under saved_models/.
        output: The file or folder to write; by default named for the model, in the current folder.
        overwrite: Replace what is in `output`, once the new export has passed its check.
        **settings: Fields of ExportConfig.

    Returns:
        The report, which also stands beside the export in `<output>.report.json`.

    Raises:
        BundleError: The model cannot be read.
        OptionError: A setting is wrong, or `output` exists or cannot be written.
        ExportError: The model could not be converted, does not fit the budget, or failed its check;
            nothing is left of it.

    Example:
        >>> report = export("saved_models/names", "names.tflite", quantize="int8")
        >>> print(summary(report))
    """
    config = ExportConfig.of("export", settings)
    if output is not None:
        expect("output", output, (str, Path), "a path")
    opened = TrainedModel.of(model)
    if opened.on_device:
        raise BundleError(
            f"{opened.path} is an export already; name the folder that kcharlm fit wrote."
        )
    suffix = ".tflite" if config.to == "tflite" else f"-{config.to}"
    path = Path(output) if output else Path(f"{opened.card.name}{suffix}")
    report_path = path.with_name(path.name + REPORT)
    temporary = path.with_name(f".{path.name}.new")
    _recover(path)
    _check_place(path, report_path, temporary, overwrite, opened.path)
    try:
        report = _write(opened, config, temporary)
        report = {
            "file": path.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "model": opened.card.name,
            "run": opened.card.run,
            **report,
        }
        # The report goes first: by it the next export knows a folder for one of its own.
        write_json(report_path, report)
        _put(temporary, path)
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written ({error.strerror or error}); make room, or "
            "name another with --output."
        ) from error
    finally:
        _remove(temporary)
    return report


def _write(opened: TrainedModel, config: ExportConfig, path: Path) -> dict[str, Any]:
    """Write the export at `path` and return its report."""
    if config.to == "savedmodel":
        from keras_charlm.export import savedmodel

        return savedmodel.write(opened, path)
    from keras_charlm.export import tflite

    content, report = tflite.write(opened, config)
    if config.to == "tflite":
        path.write_bytes(content)
        return report
    from keras_charlm.export import web

    page = web.write(opened, path, content, config.runtime)
    return {**report, **{name: page[name] for name in page if name != "folder"}}


def _check_place(path: Path, report: Path, temporary: Path, overwrite: bool, model: Path) -> None:
    """Find out before any work whether the export can be put there."""
    cut_short = temporary.exists()  # by a crash, perhaps between the report and its export
    for taken in (path,) if cut_short else (path, report):
        if (taken.exists() or taken.is_symlink()) and not overwrite:
            raise OptionError(
                f"{taken} exists; name another --output, or replace it with --overwrite."
            )
    if path.resolve() == model.resolve() or path.resolve().parent == model.resolve():
        raise OptionError(f"{path} is in the model's own folder; name another --output.")
    if path.is_dir() and not report.exists():
        raise OptionError(f"{path} is a folder that no export wrote; name another --output.")
    _remove(temporary)  # what a crash left
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written ({error.strerror or error}); name another with --output."
        ) from error


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _recover(path: Path) -> None:
    """Bring back the export that a killed `_put` had moved aside."""
    if _old(path).exists() and not path.exists():
        _old(path).rename(path)
    _remove(_old(path))


def _put(new: Path, path: Path) -> None:
    """Move an export to its place; what was there stays until the new one can take it."""
    if not path.is_dir():
        new.replace(path)
        return
    old = _old(path)
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def summary(report: dict[str, Any]) -> str:
    """A report as a few lines for people."""
    return "\n".join(
        f"{name.replace('_', ' '):<26}{_shown(value)}"
        for name, value in report.items()
        if value is not None
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(v)}" for name, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
