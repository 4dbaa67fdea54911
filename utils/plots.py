"""Figures by matplotlib, without a display and without pyplot's list of open figures; written whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.0, 5.0)  # inches


def canvas(
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = SIZE,
    *,
    layout: str | None = "constrained",
    **options: Any,
) -> tuple[Figure, Any]:
    """A figure and its axes, an array [rows, columns].

    Args:
        size: width and height in inches.
        options: of matplotlib's Figure.subplots.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)  # type: ignore[arg-type]
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def write_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a figure, whole or not at all, in the format of its suffix; the same figure gives the same bytes.

    Raises:
        UserError: no format has this suffix.
    """
    kind = path.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"no format of pictures ends in .{kind}", where=path, hint="give .png, .svg, .pdf or .jpg")
    own: dict[str, dict[str, Any]] = {"jpg": {"pil_kwargs": {"quality": 90}}, "png": {"metadata": {"Software": None}}}
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, **own.get(kind, {}))
