"""kcharlm: one verb a file, loaded when it is used; errors become one sentence here."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from keras_charlm import __version__
from keras_charlm.display import printable
from keras_charlm.errors import CharLMError

VERBS = {
    "fit": "Train a model on a text.",
    "generate": "Draw text from a model.",
    "evaluate": "Score how well a model predicts a text.",
    "inspect": "Look inside a model as it reads a text.",
    "compress": "Make a file as small as a model predicts it.",
    "decompress": "Give back what was compressed.",
    "export": "Write a model for another place.",
    "report": "Write the page about a model anew.",
    "info": "Show what a model is.",
}


class _Verbs(click.Group):
    """Finds a verb in the file of its name; the list of verbs needs none of them."""

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        return getattr(import_module(f".{name}", __package__), name) if name in VERBS else None

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kcharlm")
def kcharlm():
    """Character-level language models: train on your own text, sample, ship.

    \b
    kcharlm fit corpus.txt           train a model of a text
    kcharlm fit                      train the embedded name generator
    kcharlm generate --temp 0.8      draw from the newest model
    """


def main():
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
            f"({error.strerror or error}); make room, or mend its path or permissions.",
            1,
        )


def fail(message, code):
    click.echo(f"kcharlm: {printable(str(message))}", err=True)
    sys.exit(code)
