from __future__ import annotations

import click


@click.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Where the page goes.  [default: report.html in the model's folder]",
)
@click.option(
    "--corpus",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Training text, where it is not where fit read it; once for each file.",
)
def report(model, output, corpus):
    """Write the report of MODEL anew: a page for the browser that needs nothing beside it.

    It shows how good the model is beside counting, the course of its training, samples from it,
    samples at several temperatures, and how it was made. fit leaves one in the model's folder.

    \b
    kcharlm report saved_models/shakespeare
    kcharlm report names -o names.html
    """
    from keras_charlm.display import quiet

    with quiet():  # Matplotlib talks where it finds its folders new or closed
        from keras_charlm.report import report

    click.echo(report.write(model, output, corpus=corpus, verbose=1))
