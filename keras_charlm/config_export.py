"""The settings of `export`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from keras_charlm.config_base import Settings, setting
from keras_charlm.errors import OptionError, brief

_UNSET = (None, "none", "own", "2.13", False)  # values that any kind of export may have
APP_ID = r"[A-Za-z]\w*(\.[A-Za-z]\w*)+"  # what Android takes


@dataclass(frozen=True)
class ExportConfig(Settings):
    """How a trained model is written for use elsewhere."""

    to: str = setting(
        "tflite",
        "tflite: the on-device file; savedmodel: a folder for TensorFlow Serving; web: a page for "
        "the browser that contains the on-device file; android: an app, as a project for Android "
        "Studio; keras: a .keras file of Keras's own layers; onnx: a file for ONNX Runtime; rule: "
        "constraints, for an app that has the on-device file.",
        choices=("tflite", "savedmodel", "web", "android", "keras", "onnx", "rule"),
    )
    quantize: str | None = setting(
        None,
        "Format of the weights: none is float32; float16 takes half the space, int8 a quarter; by "
        "default int8 for a page or an app, and none for a file.",
        choices=("none", "float16", "int8"),
    )
    budget: int | None = setting(
        None,
        "Largest size of the file, e.g. 300KB; chooses the most precise --quantize that fits.",
        low=1,
        high=10**12,
        size=True,
    )
    min_runtime: str = setting(
        "2.13",
        "Oldest TensorFlow Lite that has to run the on-device file. A file for 2.12, which "
        "Flutter's package has on iOS, draws the same texts, somewhat slower.",
        choices=("2.13", "2.12"),
    )
    license: str | None = setting(None, "Licence of the training text, stored in the file's card.")
    engine: str = setting(
        "own",
        "Program that runs the model in the page: own is 23 KB; litert is LiteRT.js, 9.7 MB.",
        choices=("own", "litert"),
    )
    single_file: bool = setting(
        False, "Write the page as one HTML file, which also works when opened from a disk."
    )
    runtime: str | None = setting(
        None,
        "Folder of the npm package @litertjs/core, to include it in the page; by default a page "
        "with --engine litert loads a fixed version from the network.",
    )
    app_id: str | None = setting(
        None,
        "Identity of the Android app, e.g. org.me.names; by default one to be replaced later.",
    )
    apk: bool = setting(
        False,
        "With --to android: instead of a project, an installable package around the web page.",
    )
    keystore: str | None = setting(
        None,
        "File with the key that signs the package, made if it does not exist; by default "
        "beside the package. Its password is KCHARLM_KEYSTORE_PASSWORD in the environment.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kinds in (
            ("quantize", ("tflite", "web", "android")),
            ("budget", ("tflite", "web", "android")),
            ("min_runtime", ("tflite",)),
            ("license", ("tflite", "web", "android", "onnx")),
            ("runtime", ("web",)),
            ("engine", ("web",)),
            ("single_file", ("web",)),
            ("app_id", ("android",)),
            ("apk", ("android",)),
            ("keystore", ("android",)),
        ):
            if self.to not in kinds and getattr(self, name) not in _UNSET:
                raise OptionError(
                    f"--{name.replace('_', '-')} is for --to {_either(kinds)}; leave it out with "
                    f"--to {self.to}."
                )
        if self.runtime is not None and self.engine == "own":
            raise OptionError("--runtime is for --engine litert; give both, or neither.")
        if self.keystore is not None and not self.apk:
            raise OptionError("--keystore is for --apk; give both, or neither.")
        if self.single_file and self.engine == "litert":
            raise OptionError(
                "--single-file is for the page's own engine; leave out --engine litert."
            )
        if self.budget is not None and self.quantize not in (None, "none"):
            raise OptionError(
                "Both --budget and --quantize were given; the budget chooses how "
                "the weights are stored, so give one."
            )
        if self.quantize is None:
            small = self.to in ("web", "android")
            object.__setattr__(self, "quantize", "int8" if small else "none")
        if self.app_id is not None and not re.fullmatch(APP_ID, self.app_id, re.ASCII):
            raise OptionError(
                f"--app-id is {brief(self.app_id)}; it takes words of the letters a to z, digits "
                "and _, divided by dots, e.g. org.me.names."
            )


def _either(kinds: Sequence[str]) -> str:
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else last
