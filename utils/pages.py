"""HTML pages that need no other file: templates filled in, pictures as part of the page."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

CODE = re.compile(r"`([^`]+)`")
PLAIN = " :;,=/+"  # what of a drawing is itself in an address, and in an attribute that holds one


def data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds it, as `src` takes it; its kind is `png`, `jpeg` or `webp`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def svg_uri(text: str) -> str:
    """A drawing as an address that holds it. Escaped text is shorter than base64."""
    return f"data:image/svg+xml,{quote(text, safe=PLAIN)}"


def with_code(text: str) -> Markup:
    """Text with what is between backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def filled(template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """A Jinja template with its values, which are escaped; one that is missing is an error.

    Args:
        filters: besides Jinja's own and `text`, which shows what is between backticks as code.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"text": with_code, **(filters or {})}
    return environment.from_string(template.read_text()).render(content)
