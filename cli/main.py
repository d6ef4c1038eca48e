"""The command kcharlm: each verb's module is loaded when it is used; errors become messages."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click

from keras_charlm import __version__
from keras_charlm.display import printable
from keras_charlm.errors import CharLMError

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


# What other programs call these verbs.
_OTHER_NAMES = {"train": "fit", "sample": "generate"}


class _Verbs(click.Group):
    """Loads a verb from the module of the same name; listing the verbs loads none of them."""

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        return getattr(import_module(f".{name}", __package__), name) if name in VERBS else None

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
    try:
        kcharlm.main(prog_name="kcharlm", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.message = printable(error.message)
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
            f"{error.filename or 'The output'} cannot be read or written "
            f"({error.strerror or error}); make room, or correct its path or permissions.",
            1,
        )


def fail(message: object, code: int) -> NoReturn:
    """Print an error and exit."""
    click.echo(f"kcharlm: {printable(str(message))}", err=True)
    sys.exit(code)
