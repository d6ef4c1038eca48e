"""Text files of an export, rendered with Jinja from the templates in this folder."""

from __future__ import annotations

from typing import Any


def render(name: str, /, *, escape: bool, **values: Any) -> str:
    """Render a template.

    Args:
        name: Its path in this folder.
        escape: Escape values as HTML, for HTML and JavaScript; `tojson` writes a value as
            JavaScript.
        **values: Values of all variables that the template uses.

    Returns:
        The text.
    """
    import jinja2  # here, because few exports need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=escape,
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name).render(**values)
