"""Export of a trained model: written, checked, reported, and moved into place atomically.

Each kind of export is a module that is loaded when it is needed: `tflite` creates the on-device
file, `rule` a file of constraints for it, `plain` a Keras file, `onnx` an ONNX file, `savedmodel`,
`web` and `android` fill a folder, `apk` builds a package; each returns its part of the report.
"""

from __future__ import annotations

import time
from importlib import util
from pathlib import Path
from typing import Any, Unpack

from keras_charlm import backend, files
from keras_charlm.config import CONSTRAINTS, ExportConfig, SampleConfig
from keras_charlm.config_base import expect
from keras_charlm.errors import BundleError, OptionError, brief
from keras_charlm.generation.constraints import as_options, is_constrained
from keras_charlm.generation.tables import compile_tables
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.settings import ExportSettings

REPORT = ".report.json"  # added to the export's name
FILES = ("tflite", "rule", "keras", "onnx")  # the exports that are one file; others are folders


def export(
    model: str | Path | TrainedModel,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    **settings: Unpack[ExportSettings],
) -> dict[str, Any]:
    """Export a trained model, and check the export.

    Args:
        model: A model, its folder, or its name under saved_models/.
        output: The file or folder to write; by default in the current folder, named after the
            model.
        overwrite: Replace an existing `output`, once the new export has passed its check.
        **settings: Fields of ExportConfig; and for an on-device file or a rule the constraints of
            SampleConfig.

    Returns:
        The report, which is also written to `<output>.report.json`.

    Raises:
        BundleError: The model cannot be read.
        OptionError: A setting is wrong, or `output` exists or cannot be written.
        ExportError: The model could not be converted, does not fit the budget, or failed its check;
            nothing is written.

    Example:
        >>> report = export("saved_models/names", "names.tflite", quantize="int8")
        >>> print(summary(report))
    """
    given: dict[str, Any] = {**settings}
    constraints = {name: given.pop(name) for name in CONSTRAINTS if name in given}
    config = ExportConfig.of("export", given)
    rule = _rule(config, constraints)
    if output is not None:
        expect("output", output, (str, Path), "a path")
    opened = TrainedModel.of(model)
    if opened.on_device:
        raise BundleError(
            f"{opened.path} is an export already; name the folder that kcharlm fit wrote."
        )
    suffix = f".{config.to}" if config.to in FILES else f"-{config.to}"
    suffix = ".html" if config.single_file else ".apk" if config.apk else suffix
    path = Path(output) if output else Path(f"{opened.card.name}{suffix}")
    files.check_name(path)
    with files.writing(path):
        _check_output(path, config, overwrite, opened.path)
        _check_tools(config, path)
        if _is_file(config):
            report: dict[str, Any] = {}
            files.replace_file(
                path, lambda new: report.update(_fill(opened, config, rule, new, path))
            )
            return report
        with files.replace_folder(path) as folder:
            return _fill(opened, config, rule, folder, path)


def _rule(config: ExportConfig, constraints: dict[str, Any]) -> SampleConfig | None:
    """The constraints of an export, if it has any."""
    values = SampleConfig.of("export", constraints)
    if is_constrained(values):
        if config.to in ("tflite", "rule"):
            return values
        raise OptionError(
            f"Constraints are for --to tflite or rule; leave out --{next(iter(constraints))} with "
            f"--to {config.to}.".replace("_", "-")
        )
    if config.to == "rule":
        raise OptionError("--to rule needs a constraint, for example --ends-with a.")
    return None


def _check_output(path: Path, config: ExportConfig, overwrite: bool, model: Path) -> None:
    """Check before any work that the export can be written, and clean up after a crash."""
    if path.name in ("", ".."):  # such as . and /, which nothing can replace
        raise OptionError(f"{path} is a folder; name a new file or folder in it with --output.")
    if model.resolve() in (path.resolve(), path.resolve().parent):
        raise OptionError(f"{path} is in the model's own folder; name another --output.")
    report = _report_path(path)
    # A crash between writing the report and moving the export leaves only the report: replace it.
    cut_short = files.unfinished(path).exists() or files.leftovers(path)[1].exists()
    files.recover_folder(path)
    if path.is_dir() and not _is_file(config) and not report.exists():
        raise OptionError(f"{path} is a folder that no export wrote; name another --output.")
    files.check_output(path, overwrite, folder=not _is_file(config))
    if not cut_short:
        files.check_output(report, overwrite)


def _check_tools(config: ExportConfig, path: Path) -> None:
    """Check before any work that the programs and packages an export needs are installed."""
    if config.to == "onnx" and not all(map(util.find_spec, ("onnx", "onnxruntime"))):
        raise OptionError(
            "--to onnx needs the packages onnx and onnxruntime; install them with: "
            "pip install 'keras_charlm[onnx]'"
        )
    if config.apk:
        from keras_charlm.export import apk

        apk.check(_keystore(config, path))


def _fill(
    opened: TrainedModel, config: ExportConfig, rule: SampleConfig | None, new: Path, path: Path
) -> dict[str, Any]:
    """Write the export to `new`, which will be renamed to `path`, and the report next to `path`."""
    report = {
        "file": path.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": opened.card.name,
        "run": opened.card.run,
        **_write(opened, config, rule, new, path),
    }
    # The report comes first: it tells the next export that the folder is an export.
    files.write_json(_report_path(path), report)
    return report


def _write(
    opened: TrainedModel, config: ExportConfig, rule: SampleConfig | None, new: Path, path: Path
) -> dict[str, Any]:
    """Write the export and return its part of the report."""
    if _is_file(config):
        new.touch()  # fail before any work if the folder cannot be written
    if rule and config.to == "rule":
        return _write_rule(opened, rule, new)
    backend.load(start=True)
    with backend.silent():
        return _convert(opened, config, rule, new, path)


def _convert(
    opened: TrainedModel, config: ExportConfig, rule: SampleConfig | None, new: Path, path: Path
) -> dict[str, Any]:
    if config.to == "savedmodel":
        from keras_charlm.export import savedmodel

        return savedmodel.write(opened, new)
    if config.to == "keras":
        from keras_charlm.export import plain

        return plain.write(opened, new)
    if config.to == "onnx":
        from keras_charlm.export import onnx

        return onnx.write(opened, new, config.license)
    from keras_charlm.export import tflite

    content, report = tflite.write(opened, config, rule)
    if config.to == "tflite":
        new.write_bytes(content)
        return report
    if config.apk:
        from keras_charlm.export import apk

        keystore = _keystore(config, path)
        return {**report, **apk.write(opened, new, content, config.app_id, keystore)}
    if config.to == "android":
        from keras_charlm.export import android

        return {**report, **android.write(opened, new, content, config.app_id)}
    from keras_charlm.export import web

    if config.single_file:
        return {**report, **web.write_single(opened, new, content)}
    return {**report, **web.write(opened, new, content, config.engine, config.runtime)}


def _is_file(config: ExportConfig) -> bool:
    return config.to in FILES or config.single_file or config.apk


def _keystore(config: ExportConfig, path: Path) -> Path:
    return Path(config.keystore) if config.keystore else path.with_suffix(".keystore")


def _write_rule(opened: TrainedModel, rule: SampleConfig, new: Path) -> dict[str, Any]:
    tables = compile_tables(opened.vocabulary, rule, opened.end, opened.card.normalize)
    content = tables.to_bytes(opened.vocabulary)
    new.write_bytes(content)
    states, classes = tables.moves.shape
    return {
        "constraints": as_options(rule),
        "states": states,
        "classes": classes,
        "bytes": len(content),
    }


def _report_path(path: Path) -> Path:
    return path.with_name(path.name + REPORT)


def summary(report: dict[str, Any]) -> str:
    """A report as a few lines of text, without the operators and the golden calls."""
    return "\n".join(
        f"{name.replace('_', ' '):<26}{_shown(value)}"
        for name, value in report.items()
        if value is not None and name not in ("operators", "golden")
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(v)}" for name, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(brief, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else brief(value)
