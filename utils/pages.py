"""HTML pages that need no other file: templates filled in, pictures as part of the page."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds it, as `src` takes it; its kind is `png`, `jpeg`, `webp` or `svg+xml`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def filled(template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """A Jinja template with its values, which are escaped; one that is missing is an error.

    Args:
        filters: besides Jinja's own.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= filters or {}
    return environment.from_string(template.read_text()).render(content)
