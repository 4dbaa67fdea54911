"""Fonts that have the signs of class names, for pictures and plots."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from utils.console import console

INSTALL = "install a font that has them, such as Noto Sans CJK, Thai or Arabic, to see them"
warned: list[str] = []  # the name that was said to have no font


def legible(names: Sequence[str]) -> list[str]:
    """The names, or the number of each for which no font is installed: `shown` for all of them."""
    return [shown(name, number) for number, name in enumerate(names)]


def shown(name: str, number: int) -> str:
    """A class name as pictures and plots show it: its number where no font here has its signs, which is said once.

    Plots made later take the font that it needs.
    """
    if name.isascii():
        return name
    if font := covering(frozenset(name)):
        use_in_plots(font)
        return name
    if not warned:
        warned.append(name)
        what = f"no font here has {name}: such classes are shown as numbers in pictures, this one as {number}"
        console.print(f"{what}; {INSTALL}")
    return str(number)


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


def use_in_plots(path: str) -> None:
    """Let matplotlib look for signs in this font too."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    family, own = FontProperties(fname=path).get_name(), list(matplotlib.rcParams["font.family"])
    if family not in own:
        matplotlib.rcParams["font.family"] = [*own, family]


def drawing_font(text: str, size: int) -> Any:
    """A font of Pillow for a text, with `getsize` (width and height in pixels) as ultralytics' annotator asks."""
    from PIL import ImageFont

    font: Any = ImageFont.truetype(covering(frozenset(text)) or installed()[0], size)
    font.getsize = lambda own: font.getbbox(own)[2:4]
    return font
