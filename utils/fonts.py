"""Fonts that have the signs of class names, for pictures and plots."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from utils.console import console

INSTALL = "install a font that has them, such as Noto Sans CJK, Thai or Arabic, to see their names"
told: set[str] = set()  # names that were said to have no font


def legible(names: Sequence[str]) -> list[str]:
    """The names, or the number of each for which no font is installed; says once which these are.

    Plots made later take the fonts that the names need.
    """
    if all(name.isascii() for name in names):
        return list(names)
    fonts = [covering(frozenset(name)) for name in names]
    use_in_plots([font for font in fonts if font])
    if strange := [name for name, font in zip(names, fonts, strict=True) if not font and name not in told]:
        told.update(strange)
        what = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
        console.print(f"no font here has {what}: these classes stand as numbers in pictures; {INSTALL}", markup=False)
    return [name if font else str(index) for index, (name, font) in enumerate(zip(names, fonts, strict=True))]


@lru_cache(maxsize=1024)
def covering(signs: frozenset[str]) -> str | None:
    """File of an installed font that has all these signs, matplotlib's own before others; None where there is none."""
    codes = {ord(sign) for sign in signs if not sign.isspace()}
    return next((path for path in installed() if codes <= charmap(path)), None)


@lru_cache(maxsize=1)
def installed() -> tuple[str, ...]:
    """Files of upright fonts of usual weight, DejaVu Sans first."""
    from matplotlib.font_manager import findfont, fontManager

    own = findfont("DejaVu Sans")
    usual = {font.fname for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")}
    placeholders = {path for path in usual if "LastResort" in Path(path).name}
    return (own, *sorted(usual - placeholders - {own}))


@lru_cache(maxsize=256)
def charmap(path: str) -> frozenset[int]:
    """Code points that a font has signs for; none where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def use_in_plots(paths: Sequence[str]) -> None:
    """Let matplotlib look for signs in these fonts too."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    families = [FontProperties(fname=path).get_name() for path in dict.fromkeys(paths)]
    own = list(matplotlib.rcParams["font.family"])
    matplotlib.rcParams["font.family"] = [*own, *(family for family in families if family not in own)]


def drawing_font(text: str, size: int) -> Any:
    """A font of Pillow for a text, as ultralytics' annotator wants it: with `getsize`, width and height in pixels."""
    from PIL import ImageFont

    font: Any = ImageFont.truetype(covering(frozenset(text)) or installed()[0], size)
    font.getsize = lambda own: font.getbbox(own)[2:4]
    return font
