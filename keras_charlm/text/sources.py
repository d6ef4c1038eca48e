"""The files that paths stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_charlm.config import CorpusConfig
from keras_charlm.config_base import expect
from keras_charlm.errors import CorpusError, brief
from keras_charlm.files import is_kind
from keras_charlm.text.decoding import open_blocks
from keras_charlm.text.filetype import shown_name

Paths = str | Path | Sequence[str | Path]  # one path, or several


def path_list(paths: Paths) -> list[str | Path]:
    """The paths as a list.

    Raises:
        OptionError: They are no paths.
    """
    expect("corpus", paths, (str, Path, Sequence), "a path, or several in a list")
    several: list[Any] = [paths] if isinstance(paths, (str, Path)) else list(paths)
    for path in several:
        expect("corpus", path, (str, Path), "a path, or several in a list")
    return several


def sources(paths: Iterable[str], config: CorpusConfig) -> list[str]:
    """The files behind the paths: those of folders in sorted order.

    Raises:
        CorpusError: A path does not exist, or is a folder without matching files.
    """
    files = []
    for path in paths:
        if path != "-" and is_kind(path, Path.is_dir):
            files += _files_of(path, config.glob)
            continue
        if not (path == "-" or config.skip_unreadable or is_kind(path, Path.exists)):
            next(open_blocks(path, None), None)  # raises the error that says why not
        files.append(path)
    return files


def _files_of(folder: str, glob: str | None) -> list[str]:
    """The files in a folder and its subfolders whose names match `glob`, sorted."""
    if glob is None:
        raise CorpusError(
            f"{brief(folder)} is a folder; say which of its files to read, e.g. --glob '*.txt'."
        )
    try:
        hidden = glob.rpartition("/")[2].startswith(".")  # asked for
        files = sorted(
            str(path)
            for path in Path(folder).rglob(glob)
            if path.is_file() and (hidden or not _is_hidden(path.relative_to(folder)))
        )
    except (ValueError, NotImplementedError) as error:
        raise CorpusError(
            f"--glob {brief(repr(glob))} cannot match a file inside a folder ({error}); write e.g. "
            "'*.c'."
        ) from error
    if not files:
        raise CorpusError(
            f"The folder {brief(folder)} has no file named like {brief(repr(glob))}; change --glob "
            "or the folder."
        )
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def file_names(paths: Sequence[str]) -> str:
    """Some paths as an error names them."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(map(shown_name, paths[:3])) + more


def can_be_read_again(source: str) -> bool:
    """Whether a source can be read twice; stdin and pipes cannot."""
    return source != "-" and (is_kind(source, Path.is_file) or not is_kind(source, Path.exists))
