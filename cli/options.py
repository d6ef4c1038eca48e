"""Options generated from the configurations, so that every default and help text has one source."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import click

from keras_charlm import backend
from keras_charlm.config_base import Settings, seconds, value_types
from keras_charlm.errors import brief

_BYTE_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|kib|mib)?")
_BYTES = {None: 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1024, "mib": 1024**2}


class Duration(click.ParamType):
    """90, 90s, 10m, 2h: seconds as a float."""

    name = "time"

    def convert(self, value, param, ctx):
        if isinstance(value, (int, float)):
            return float(value)
        converted = seconds(value)
        if converted is None:
            self.fail(
                f"{brief(repr(value))} is not a duration; write e.g. 90s, 10m or 2h.", param, ctx
            )
        return converted


class ByteSize(click.ParamType):
    """300000, 300KB, 1.5MB, 300KiB: bytes as an int."""

    name = "size"

    def convert(self, value, param, ctx):
        if isinstance(value, int):
            return value
        match = _BYTE_SIZE.fullmatch(value.strip().lower())
        if not match:
            self.fail(f"{brief(repr(value))} is not a size; write e.g. 300KB or 1.5MB.", param, ctx)
        return int(Decimal(match[1]) * _BYTES[match[2]])


USUAL = "Usual options"  # the group that help shows first


class GroupedOption(click.Option):
    """An option that help lists under the heading `group`."""

    def __init__(self, *args: Any, group: str = "Options", **attributes: Any):
        super().__init__(*args, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists the options in groups, the usual ones first."""

    def groups(self) -> dict[str, list[click.Option]]:
        """The options of each group, in the order of the first option of each."""
        groups: dict[str, list[click.Option]] = {USUAL: []}
        for option in self.params:
            if isinstance(option, click.Option):
                groups.setdefault(getattr(option, "group", "Options"), []).append(option)
        return {name: options for name, options in groups.items() if options}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = self.groups()
        if help_option := self.get_help_option(ctx):
            groups[USUAL].append(help_option)
        for name, options in groups.items():
            with formatter.section(name):
                records = [option.get_help_record(ctx) for option in options]
                formatter.write_dl([record for record in records if record])


def settings(
    kind: type[Settings],
    group: str = "Options",
    only: tuple[str, ...] | None = None,
    **shown: str,
) -> Callable[[Callable], Callable]:
    """A decorator that gives a command an option for each field of a configuration.

    Args:
        kind: The configuration. An omitted option is None; `given` drops it, so that the
            configuration's default applies.
        group: Heading of the options in a GroupedCommand, except for those that are `usual`.
        only: The fields to give options for; by default all.
        **shown: Text that help shows as the default of fields whose None is filled in later.
    """
    types = value_types(kind)
    fields = [f for f in dataclasses.fields(kind) if only is None or f.name in only]

    def decorate(command: Callable) -> Callable:
        for field in reversed(fields):
            heading = USUAL if field.metadata.get("usual") else group
            command = _option(field, heading, *types[field.name], shown.get(field.name))(command)
        return command

    return decorate


def _option(field: dataclasses.Field, group: str, kind: type, optional: bool, shown: str | None):
    bounds, flag = field.metadata, field.metadata.get("flag", _flag(field.name))
    in_group: dict[str, Any] = {"cls": GroupedOption, "group": group}
    if kind is bool and not optional:
        return click.option(flag, is_flag=True, default=None, help=bounds["help"], **in_group)
    if kind is tuple:
        return click.option(flag, field.name, multiple=True, help=bounds["help"], **in_group)
    if kind is bool:
        flag, param = f"{flag}/--no-{flag[2:]}", None
    elif bounds.get("duration"):
        param = Duration()
    elif bounds.get("size"):
        param = ByteSize()
    elif "choices" in bounds:
        param = click.Choice(bounds["choices"])
    else:
        param = kind
    default = shown or (None if field.default is None else str(field.default))
    if bounds.get("duration") and field.default is not None:
        default = f"{field.default:g}s"
    text = bounds["help"] + (f"  [default: {default}]" if default else "")
    return click.option(flag, field.name, type=param, default=None, help=text, **in_group)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def output_option(
    default: str, what: str = "file", metavar: str = "PATH", replaced: str | None = None
) -> Callable:
    """Decorate a command with --output and --overwrite.

    Args:
        default: What help shows as the default of --output.
        what: What is written.
        metavar: What help calls the value of --output.
        replaced: Help text of --overwrite.
    """

    def decorate(command: Callable) -> Callable:
        text = replaced or "Replace an existing file."
        command = click.option("--overwrite", is_flag=True, help=text)(command)
        text = f"The {what} to write.  [default: {default}]"
        return click.option("-o", "--output", type=click.Path(), metavar=metavar, help=text)(
            command
        )

    return decorate


def encoding_option(command: Callable) -> Callable:
    """Decorate a command that reads a file with --encoding."""
    text = "Encoding of the file.  [default: that of the model's corpus]"
    return click.option("--encoding", metavar="NAME", help=text)(command)


def file_encoding(encoding: str | None, unit: str) -> str | None:
    """The encoding to read a file with; a notice says where --encoding has no effect.

    Args:
        encoding: As it was given.
        unit: The model's unit.
    """
    if encoding is not None and unit == "byte":
        click.echo("--encoding has no effect: this model reads bytes.", err=True)
        return None
    return encoding


def warn_of_unknown(unknown: int, characters: int, unit: str) -> None:
    """Warn if many characters of a file are unknown to the model."""
    from keras_charlm.saved.reading import unknown_notice

    if notice := unknown_notice(unknown, characters, unit):
        click.echo(notice, err=True)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, without those left out."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def text_values(text: str | bytes) -> dict[str, str]:
    """A text for JSON: bytes as readable text, and as base64 that loses nothing."""
    if isinstance(text, str):
        return {"text": text}
    readable = text.decode("utf-8", "backslashreplace")
    return {"text": readable, "base64": base64.b64encode(text).decode("ascii")}


def load_tensorflow(start: bool = True) -> None:
    """Import TensorFlow, and silence what its libraries log while they load.

    Args:
        start: Whether to initialize its devices too; after that the CPU cannot be divided into
            virtual devices.
    """
    backend.load(start)


@contextlib.contextmanager
def watching(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a long task on stderr.

    Args:
        label: Name of the task.

    Yields:
        A function to call with the characters done and their total.
    """
    from keras_charlm.display import Display

    display = Display()
    display.start()

    def watch(done: int, total: int) -> None:
        display.update(label, done / total, f"{done:,} of {total:,} characters")

    try:
        yield watch
    finally:
        display.stop()
