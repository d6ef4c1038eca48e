"""Text files rendered with Jinja from templates that stand in a package of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def render(
    package: str | None,
    name: str,
    /,
    *,
    escape: bool,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Render a template.

    Args:
        package: The package that the template is in, `__package__` of the caller.
        name: Its path in the package's folder.
        escape: Whether to escape values as HTML; in JavaScript, the filter `tojson` writes them.
        filters: Filters of the template beside Jinja's own.
        **values: The template's variables; each of them must be given.
    """
    import jinja2  # here, because few commands need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(str(package), "."),
        autoescape=escape,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= filters or {}
    return environment.get_template(name).render(**values)
