from __future__ import annotations

import sys

import click


@click.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="The page to write, or to replace.  [default: report.html in the model's folder]",
)
@click.option(
    "--corpus",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A file that the model was trained on, if it is no longer where fit read it; may be "
    "repeated.",
)
def report(model: str, output: str | None, corpus: tuple[str, ...]) -> None:
    """Rewrite the report of MODEL: one self-contained HTML page.

    It compares the model with n-grams, and shows the training curves, samples drawn during
    training and at several temperatures, and all settings. fit writes one into the model's folder.

    \b
    kcharlm report saved_models/shakespeare
    kcharlm report names -o names.html
    """
    from keras_charlm.display import printable, quiet

    with quiet():  # Matplotlib logs to stderr if its folders are new or cannot be written
        from keras_charlm.report import report

    page = str(report.write(model, output, corpus=corpus, verbose=1))
    click.echo(printable(page) if sys.stdout and sys.stdout.isatty() else page)
