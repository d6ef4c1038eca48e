from __future__ import annotations

import os
import sys
from typing import Any

import click

from keras_charlm.config import CorpusConfig, FitConfig, ModelConfig, fit_configs
from keras_charlm.errors import OptionError

from .options import USUAL, GroupedCommand, GroupedOption, given, load_tensorflow, settings

_BY_SIZE = "by --size"
_START, _TRAINING = "Starting", "Training"


@click.command(cls=GroupedCommand)
@click.argument("corpus", nargs=-1)
@click.option(
    "-o",
    "--output",
    cls=GroupedOption,
    group=USUAL,
    type=click.Path(),
    metavar="FOLDER",
    help="Folder to write the model to.  [default: a new folder under saved_models/]",
)
@click.option(
    "--overwrite",
    is_flag=True,
    cls=GroupedOption,
    group=_START,
    help="Replace the model in --output once this one is ready.",
)
@click.option(
    "--resume",
    cls=GroupedOption,
    group=USUAL,
    metavar="MODEL",
    help="Continue a training that was stopped or killed.",
)
@click.option(
    "--init-from",
    cls=GroupedOption,
    group=USUAL,
    metavar="MODEL",
    help="Start from the weights of this model.  [default: auto, the bundled model that is nearest "
    "to a short text in its characters]",
)
@click.option(
    "--from-scratch",
    is_flag=True,
    cls=GroupedOption,
    group=_START,
    help="Start from no other model.",
)
@settings(CorpusConfig, "Reading the text")
@settings(
    ModelConfig,
    "The network",
    layers=_BY_SIZE,
    units=_BY_SIZE,
    embedding=_BY_SIZE,
    tied=_BY_SIZE,
    dropout=_BY_SIZE,
)
@settings(FitConfig, _TRAINING, learning_rate=_BY_SIZE)
@click.option(
    "--launcher",
    cls=GroupedOption,
    group=_TRAINING,
    type=click.Choice(["ray"]),
    help="Start the workers with Ray instead of by TF_CONFIG.",
)
@click.option(
    "--workers",
    cls=GroupedOption,
    group=_TRAINING,
    type=click.IntRange(1),
    help="How many workers to start with --launcher.  [default: 2]",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    cls=GroupedOption,
    group=USUAL,
    help="Show errors only.",
)
def fit(
    corpus: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    resume: str | None,
    init_from: str | None,
    from_scratch: bool,
    launcher: str | None,
    workers: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on a text: files, folders (with --glob), or - for stdin.

    Files compressed with gzip, bzip2, xz or zstd are unpacked.

    Without CORPUS, train a name generator on the bundled list of first names.

    \b
    kcharlm fit corpus.txt
    kcharlm fit titles.txt --lines --max-time 5m
    kcharlm fit linux/ --glob '*.c' --size large
    kcharlm fit --resume saved_models/corpus
    """
    options = given(options)
    if resume:
        more = {*options, *corpus} - {"devices", "-"}
        _refuse_more(output, init_from, from_scratch, *more)
    _check_pairs(init_from, from_scratch, workers, launcher)
    reading, *_ = fit_configs(options)  # a mistake is reported before TensorFlow has loaded
    options["verbose"] = 0 if quiet else 1
    if resume:
        options["path"] = resume
    else:
        options |= {
            "corpus": corpus,
            "output": output,
            "overwrite": overwrite,
            "init_from": None if from_scratch else init_from or "auto",
        }
    if launcher:
        from keras_charlm.training.ray import on_ray

        on_ray(workers or 2, options, resume=bool(resume))
        return
    # Report a file that cannot be read early too; several workers check later, and tell each other.
    if not resume and "TF_CONFIG" not in os.environ:
        from keras_charlm.text.corpus import check

        options["stdin"] = check(corpus, reading)
    load_tensorflow(start=False)
    from keras_charlm.training import run

    if not resume:
        run.fit(**options)
    elif corpus:  # the text is piped in again, as it may no longer be in the cache
        run.resume(**options, stdin=getattr(sys.stdin, "buffer", None))
    else:
        run.resume(**options)


def _check_pairs(
    init_from: str | None, from_scratch: bool, workers: int | None, launcher: str | None
) -> None:
    """Raise OptionError for options that exclude or need each other."""
    if init_from and from_scratch:
        raise OptionError(
            "Both --init-from and --from-scratch were given; a training starts from a model or "
            "from none, so give one."
        )
    if workers and not launcher:
        raise OptionError(
            "--workers needs --launcher; give one, or start each worker yourself with its "
            "TF_CONFIG."
        )


def _refuse_more(*given: object) -> None:
    """Raise OptionError if anything was given that --resume does not take."""
    if any(given):
        raise OptionError(
            "--resume continues with the corpus and the options that the training "
            "started with; give it only the model, and --devices to change the devices."
        )
