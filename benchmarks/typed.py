"""Write `keras_charlm/settings.py`, the types of the settings, from the configurations.

python -m benchmarks.typed
"""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

from keras_charlm import config
from keras_charlm.config_base import Settings, help_in_python, value_types

PATH = Path(__file__).parent.parent / "keras_charlm" / "settings.py"
HEAD = '''"""The settings of the functions as types, for editors and type checkers.

Written by `python -m benchmarks.typed` from the configurations in `config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from keras.optimizers import Optimizer
    from keras.optimizers.schedules import LearningRateSchedule
'''
# Name, configuration, and the classes before it whose settings it has as well.
CLASSES = (
    ("CorpusSettings", config.CorpusConfig, ()),
    ("ModelSettings", config.ModelConfig, ()),
    ("FitSettings", config.FitConfig, ("CorpusSettings", "ModelSettings")),
    ("ConstraintSettings", config.SampleConfig, ()),
    ("SampleSettings", config.SampleConfig, ("ConstraintSettings",)),
    ("EvaluateSettings", config.EvaluateConfig, ()),
    ("ExportSettings", config.ExportConfig, ("ConstraintSettings",)),
    ("InspectSettings", config.InspectConfig, ()),
)
ONLY = {"ConstraintSettings": config.CONSTRAINTS}  # the classes of a part of a configuration
# What a setting takes besides values of its type.
MORE = {
    "optimizer": "Optimizer",
    "learning_rate": "LearningRateSchedule",
    "schedule": "LearningRateSchedule",
    "devices": "int",
}


def source() -> str:
    """The content of the module."""
    return HEAD + "".join(_class(*row) for row in CLASSES)


def _class(name: str, kind: type[Settings], others: tuple[str, ...]) -> str:
    types = value_types(kind)
    lines = [f"\n\nclass {name}({', '.join((*others, 'TypedDict'))}, total=False):"]
    lines.append(f'    """Fields of {kind.__name__}."""\n')
    inherited = {n for other in others for n in ONLY.get(other, ())}
    for field in dataclasses.fields(kind):
        if field.name in inherited or field.name not in ONLY.get(name, types):
            continue
        lines.append(f"    {field.name}: {_type(field, *types[field.name])}")
        meaning = help_in_python(field, [kind]).replace(chr(92), chr(92) * 2)
        text = f'"""{meaning}"""'
        lines += textwrap.wrap(text, 96, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return "\n".join(lines) + "\n"


def _type(field: dataclasses.Field, kind: type, optional: bool) -> str:
    bounds = field.metadata
    names = {tuple: "str | Sequence[str]"}
    parts = [names.get(kind, kind.__name__)]
    if "choices" in bounds:
        parts = [f"Literal[{', '.join(f'{choice!r}' for choice in bounds['choices'])}]"]
        parts = [part.replace("'", '"') for part in parts]
    if bounds.get("duration"):
        parts.append("str")
    if field.name in MORE:
        parts.append(MORE[field.name])
    return " | ".join([*parts, "None"] if optional else parts)


def main() -> None:
    """Write the module."""
    PATH.write_text(source(), encoding="utf-8")


if __name__ == "__main__":
    main()
