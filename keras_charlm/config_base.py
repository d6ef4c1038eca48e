"""The base of every configuration: fields with help texts and bounds, and their validation."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from keras_charlm.errors import OptionError, brief

Kind = TypeVar("Kind", bound="Settings")
Function = TypeVar("Function", bound=Callable[..., Any])

# Before the class of a user's own object, in a setting that otherwise takes one of its `choices`.
OWN = "own "

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_FLAG = re.compile(r"--[a-z][a-z-]*")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def lists_settings(*kinds: type[Settings]) -> Callable[[Function], Function]:
    """A decorator that adds the settings that a function takes to its docstring, for `help`."""

    def decorate(function: Function) -> Function:
        lines = [inspect.cleandoc(function.__doc__ or ""), "", "Settings:"]
        for field in (field for kind in kinds for field in fields(kind)):
            bounds = field.metadata
            chosen = f"One of {', '.join(bounds['choices'])}. " if "choices" in bounds else ""
            meaning = help_in_python(field, kinds)
            text = f"{field.name}: {meaning} {chosen}Default: {field.default!r}."
            lines += textwrap.wrap(text, 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
        function.__doc__ = "\n".join(lines)
        return function

    return decorate


def help_in_python(field: dataclasses.Field, kinds: Sequence[type[Settings]]) -> str:
    """A field's help text, with names of settings where the command line has flags.

    Args:
        field: The field.
        kinds: The configurations whose flags it may mention.
    """
    every = [field for kind in kinds for field in fields(kind)]
    names = {x.metadata["flag"]: x.name for x in every if "flag" in x.metadata}
    return _FLAG.sub(
        lambda match: names.get(match[0], match[0][2:].replace("-", "_")), field.metadata["help"]
    )


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field with its help text and bounds (`choices`, `low`, `high`, `open_high`).

    `usual` puts it among the options that help shows first. With `own`, the name of a class after
    OWN is accepted besides the choices. A `duration` may be a text such as 10m.
    """
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


@dataclass(frozen=True)
class Settings:
    """Base of the configurations: checks each field against its type and bounds.

    Numbers of other libraries, such as NumPy's, are converted to Python's, and times to seconds.
    """

    def __post_init__(self) -> None:
        kinds = value_types(type(self))
        for field in fields(self):
            kind, optional = kinds[field.name]
            value = plain_number(getattr(self, field.name))
            if field.metadata.get("duration") and isinstance(value, str):
                value = _duration(field.name, value)
            if value is not None or not optional:
                check(field, kind, value)
            object.__setattr__(self, field.name, value)  # the class is frozen

    @classmethod
    def from_dict(cls: type[Kind], values: dict[str, Any]) -> Kind:
        """Build from a JSON object.

        Args:
            values: Names and values; every name must be a field.

        Raises:
            OptionError: A name is unknown or a value is out of range.
        """
        return cls.of(cls.__name__, values)

    @classmethod
    def of(cls: type[Kind], verb: str, values: Mapping[str, Any], *others: str) -> Kind:
        """Build from the keyword arguments of a function.

        Args:
            verb: The function, as an error names it.
            values: Names and values of settings.
            *others: Names of the function's further arguments, for the error.

        Raises:
            OptionError: A name is not a setting, or a value is out of range.
        """
        refuse_unknown(verb, values, [field.name for field in fields(cls)], *others)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Names and values of all fields, for JSON."""
        return dataclasses.asdict(self)


def refuse_unknown(verb: str, values: Mapping[str, Any], names: list[str], *others: str) -> None:
    """Raise OptionError if a name in `values` is not one of a verb's settings.

    Args:
        verb: The function, as the error names it.
        values: Names and values of settings.
        names: The verb's settings.
        *others: Names of the function's further arguments, for the error.
    """
    if unknown := sorted(set(values) - set(names)):
        raise OptionError(
            f"{verb} has no setting {brief(repr(unknown[0]))}; it has "
            f"{', '.join(sorted({*names, *others}))}."
        )


def value_types(settings: type[Settings]) -> dict[str, tuple[type, bool]]:
    """The plain type of each field, and whether it may be None."""
    kinds = {}
    for name, hint in typing.get_type_hints(settings).items():
        optional = isinstance(hint, types.UnionType)
        if optional:
            hint = next(t for t in hint.__args__ if t is not types.NoneType)
        kinds[name] = (typing.get_origin(hint) or hint, optional)
    return kinds


def take_texts(settings: Settings, name: str) -> None:
    """Make a field of texts a tuple: a list is one too, and a text alone is a single one.

    Raises:
        OptionError: It is something else.
    """
    value = getattr(settings, name)
    texts = [value] if isinstance(value, str) else value
    if not (isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)):
        raise OptionError(f"{name} is {brief(repr(value))}; it takes texts.")
    object.__setattr__(settings, name, tuple(texts))  # the class is frozen


def plain_number(value: Any) -> Any:
    """A number or truth value as Python's own; any other value unchanged."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a scalar or an array of one number of NumPy's or another library's
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return float(value)
    return value


def check(field: dataclasses.Field[Any], kind: type, value: Any) -> None:
    """Raise OptionError unless `value` fits the type and the bounds of `field`."""
    bounds = field.metadata
    accepted: Any = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise OptionError(f"{field.name} is {shown(value)}; it takes {_article(kind)}.")
    named = bounds.get("own") and str(value).startswith(OWN)
    if "choices" in bounds and value not in bounds["choices"] and not named:
        raise OptionError(
            f"{field.name} is {brief(repr(value))}; choose one of {', '.join(bounds['choices'])}."
        )
    low, high = bounds.get("low"), bounds.get("high")
    if low is None:
        return
    # Comparisons that NaN fails; the last also refuses infinity and integers too large for a float.
    above = low < value if bounds.get("open_low") else low <= value
    below = high is None or (value < high if bounds.get("open_high") else value <= high)
    if not (above and below and value <= sys.float_info.max):
        raise OptionError(f"{field.name} is {shown(value)}; it takes {_range(bounds)}.")


def seconds(text: str) -> float | None:
    """The seconds of a time such as 90, 90s, 10m or 2h; None if it is not one."""
    match = _DURATION.fullmatch(text.strip().lower())
    return float(match[1]) * _SECONDS[match[2]] if match else None


def _duration(name: str, text: str) -> float:
    value = seconds(text)
    if value is None:
        raise OptionError(
            f"{name} is {brief(repr(text))}; it takes a number of seconds, or a time "
            "such as 90s, 10m or 2h."
        )
    return value


def expect(name: str, value: Any, kinds: type | tuple[type, ...], what: str) -> None:
    """Raise OptionError unless an argument is of one of these types; `what` names them."""
    if not isinstance(value, kinds):
        raise OptionError(f"{name} is {brief(repr(value))}; it takes {what}.")


def shown(value: Any) -> str:
    """A value as an error shows it; Python refuses to print integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a number of more than 100 digits"
    return brief(repr(value))


def _article(kind: type) -> str:
    return {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        tuple: "texts",
    }[kind]


def _range(bounds: Any) -> str:
    low, high = bounds.get("low"), bounds.get("high")
    above = f"more than {low}" if bounds.get("open_low") else f"at least {low}"
    if high is None:
        return above
    return f"{above} and {'less than' if bounds.get('open_high') else 'at most'} {high}"
