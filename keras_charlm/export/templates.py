"""Text files of an export, filled in from the templates in this folder by Jinja."""

from __future__ import annotations

from typing import Any


def render(name: str, /, *, escape: bool, **values: Any) -> str:
    """Fill in a template.

    Args:
        name: Its path in this folder.
        escape: It is HTML or JavaScript, so that values are escaped as HTML; `tojson` writes a
            value as JavaScript.
        **values: What it names, and nothing less.
    """
    import jinja2  # here, for it is needed by few exports

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=escape,
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name).render(**values)
