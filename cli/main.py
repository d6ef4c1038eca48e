"""The command kcharlm: each verb's module is loaded when it is used; errors become messages."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from keras_charlm import __version__
from keras_charlm.display import printable
from keras_charlm.errors import CharLMError, OptionError, OptionNote, brief

VERBS = {
    "fit": "Train a model on a text.",
    "generate": "Generate text with a model.",
    "evaluate": "Measure how well a model predicts a text.",
    "score": "Rank lines by how likely a model finds them.",
    "inspect": "Show what a model's cells do as it reads a text.",
    "compress": "Compress a file with a model's predictions.",
    "decompress": "Restore the file that compress read.",
    "export": "Write a model for use elsewhere.",
    "serve": "Serve a model's page and a JSON interface.",
    "report": "Rewrite a model's report page.",
    "info": "Show a model's configuration and scores.",
}


_USAGE = 400  # characters of an error of usage, which may contain a long value

# What other programs call these verbs.
_OTHER_NAMES = {"train": "fit", "sample": "generate"}


# Arguments and options that name a file, a folder or a model.
_PATHS = (
    "model", "file", "corpus", "output", "resume", "init_from", "prompt_file", "ban_file", "npz",
    "tensorboard", "runtime",
)  # fmt: skip


def _check_path(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse an empty path, and say where a model's bare name may mean another one too."""
    if "" in (value if isinstance(value, tuple) else (value,)):
        name = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
        raise OptionError(f"{name} is empty; give a name, or leave it out.")
    if value and param.name in ("model", "init_from") and len(Path(value).parts) == 1:
        from keras_charlm.saved import bundle

        named = bundle.MODELS / value
        with contextlib.suppress(OSError, ValueError):  # names that no file can have
            if named.is_dir() and (newer := bundle.newer(named)):
                note = f"note: {brief(newer)} is newer than {brief(named)}."
                click.echo(printable(note), err=True)
    return value


class _Verbs(click.Group):
    """Loads a verb from the module of the same name; listing the verbs loads none of them."""

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        if name not in VERBS:
            return None
        command = getattr(import_module(f".{name}", __package__), name)
        for param in command.params:
            if param.name in _PATHS:
                param.callback = _check_path
        return command

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader has closed the pipe, as `| head` does. Python flushes stdout at exit, and
            # would report the error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None

    def resolve_command(self, ctx, args):
        if args and args[0] in _OTHER_NAMES:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{_OTHER_NAMES[args[0]]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kcharlm")
def kcharlm():
    """Character-level language models: train on your own text, sample, ship.

    \b
    kcharlm fit corpus.txt           train a model on a text
    kcharlm fit                      train a name generator on the embedded list
    kcharlm generate --temp 0.8      generate text with the newest model
    """


def main() -> None:
    """Run the command line; every error a user can cause ends in one sentence on stderr."""
    _encode_all(sys.stdout, sys.stderr)
    # As Python ends, TensorFlow's thread pools may find their pipes closed already.
    atexit.register(setattr, sys, "unraisablehook", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("always", OptionNote)
        warnings.showwarning = _show_note
        _run()


def _encode_all(*streams: Any) -> None:
    """Let no character fail on its way out: pipes and files get UTF-8, and a terminal without a
    character gets a question mark or an escape sequence instead."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def _show_note(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show a note of the library as a line; other warnings are for programmers."""
    if issubclass(category, OptionNote):
        click.echo(f"note: {printable(str(message))}", err=True)


def _run() -> None:
    try:
        status = kcharlm.main(prog_name="kcharlm", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.message = brief(printable(error.message), _USAGE)
        error.show()
        sys.exit(error.exit_code)
    except CharLMError as error:
        fail(error, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("Stopped.", 130)
    except MemoryError:
        fail("There is not enough memory; lower --batch-size, --seq-length or --units.", 1)
    except OSError as error:
        fail(
            f"{brief(error.filename or 'The output')} cannot be read or written "
            f"({error.strerror or error}); make room, or correct its path or permissions.",
            1,
        )
    if isinstance(status, int):  # click returns what its `Exit` holds
        sys.exit(status)


def fail(message: object, code: int) -> NoReturn:
    """Print an error and exit."""
    click.echo(f"kcharlm: {printable(str(message))}", err=True)
    sys.exit(code)
