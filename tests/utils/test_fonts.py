from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from utils import fonts
from utils.draw import draw_truth, save_page
from utils.fonts import covering, legible, shown

CAT = "\U00013360"  # a hieroglyph, which the fonts of few machines have


def write_font(path: Path) -> Path:
    """A font whose one sign, a black square, stands for CAT."""
    pen = TTGlyphPen(None)
    for step, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord(CAT): "cat"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (900, 0), "cat": (900, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "warned", [])
    for cached in (fonts.covering, fonts.installed, fonts.charmap):
        cached.cache_clear()


def test_names_that_a_font_has_stay(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cat", "кошка", "قطة"]
    assert legible(names) == names
    assert capsys.readouterr().out == ""


def test_other_names_become_numbers_and_that_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    if covering(frozenset(CAT)):
        pytest.skip("a font here has hieroglyphs")
    assert legible(["cat", CAT, CAT * 2]) == ["cat", "1", "2"]
    said = capsys.readouterr().out
    assert said.count("no font here has") == 1
    assert "shown as numbers in pictures, this one as 1; install a font" in said


def test_a_font_that_has_them_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(write_font(tmp_path / "squares.ttf"))
    assert covering(frozenset(CAT)) == str(tmp_path / "squares.ttf")
    assert shown(CAT, 3) == CAT
    blank = np.full((200, 200, 3), 255, np.uint8)
    box = np.array([[20.0, 100, 180, 190]])
    drawn = draw_truth(blank, box, np.array([0]), [CAT])
    numbered = draw_truth(blank, box, np.array([0]), ["0"])
    assert (drawn[:95] != 255).any()
    assert (drawn[:95] != numbered[:95]).any()


def test_a_very_long_picture_is_small_on_its_page(tmp_path: Path) -> None:
    pictures = [np.zeros((3000, 30, 3), np.uint8), np.zeros((30, 3000, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)]
    save_page(pictures, tmp_path / "page.jpg")
    with Image.open(tmp_path / "page.jpg") as page:
        assert max(page.size) < 1500
