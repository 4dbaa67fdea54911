import argparse
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data.images import check_image, images_below, readable
from data.records import Problem
from utils.images import is_deep, read_occurring, read_rgb, read_values, upright_rgb
from utils.levels import Levels
from utils.limits import PICTURE, add_limit_flags

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)  # 20 wide, 12 high
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], 2)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, turn: int) -> None:
    # What a camera held so would have stored of COLOURS; the inverse of each turn of the EXIF table.
    stored = [
        COLOURS,
        COLOURS[:, ::-1],
        COLOURS[::-1, ::-1],
        COLOURS[::-1],
        COLOURS.transpose(1, 0, 2),
        np.rot90(COLOURS),
        COLOURS[::-1, ::-1].transpose(1, 0, 2),
        np.rot90(COLOURS, -1),
    ][turn - 1]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = turn
    path = saved(tmp_path / "a.png", image, exif=exif)
    assert (read_rgb(path) == COLOURS).all()
    assert check_image(path) == (12, 20)


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    grey = np.repeat(RAMP[..., None], 3, 2)
    alpha = np.dstack([COLOURS, 255 - RAMP])
    palette = Image.fromarray(RAMP).convert("P")
    cases = {
        "grey.png": (Image.fromarray(RAMP), grey),
        "alpha.png": (Image.fromarray(alpha), COLOURS),
        "grey_alpha.png": (Image.fromarray(np.dstack([RAMP, 255 - RAMP])), grey),
        "palette.png": (palette, np.asarray(palette.convert("RGB"))),
        "one_bit.png": (Image.fromarray(RAMP > 99), np.repeat(((RAMP > 99) * 255)[..., None], 3, 2)),
        "cmyk.tif": (Image.fromarray(COLOURS).convert("CMYK"), COLOURS),
    }
    for name, (image, wanted) in cases.items():
        path = saved(tmp_path / name, image)
        assert check_image(path) == (12, 20), name
        found = read_rgb(path)
        assert (found.dtype, found.shape) == (np.uint8, (12, 20, 3)), name
        assert (found == wanted).all(), name


def test_transparent_palette_is_read_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(RAMP).convert("P")
    path = saved(tmp_path / "a.png", palette, transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (read_rgb(path) == np.asarray(palette.convert("RGB"))).all()


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (20, 12), (0, 255, 255, 0)))
    assert (abs(read_rgb(path).astype(int) - [255, 0, 0]) < 10).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 3)])
def test_the_smallest_and_the_longest(tmp_path: Path, size: tuple[int, int]) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", size, (1, 2, 3)))
    assert check_image(path) == size[::-1]
    assert (read_rgb(path) == (1, 2, 3)).all()


def test_a_bomb_is_named_and_not_opened(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (20_000, 20_000)))
    found = check_image(path)
    assert isinstance(found, Problem)
    assert "400 megapixels, more than 100; read it with --max-megapixels 400" in found.what


def test_a_limit_is_raised_by_its_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_MAX_MEGAPIXELS", "0.0001")
    path = saved(tmp_path / "a.png", Image.new("RGB", (20, 12)))
    assert isinstance(check_image(path), Problem)
    parser = argparse.ArgumentParser()
    add_limit_flags(parser, PICTURE)
    parser.parse_args(["--max-megapixels", "1"])
    assert check_image(path) == (12, 20)
    for wrong in ("0", "nan", "-1", "inf", "much"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--max-megapixels", wrong])


DEEP = (RAMP.astype(np.uint16) * 16, RAMP.astype(np.int32) * 1000 - 70_000, RAMP.astype(np.float32) / 1e6 - 3)


@pytest.mark.parametrize("values", DEEP, ids=["12 bits", "32 bits", "float"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_than_8_bits_keep_what_one_can_see(tmp_path: Path, values: np.ndarray, suffix: str) -> None:
    if suffix == ".png" and values.dtype != np.uint16:
        pytest.skip("PNG has no such values")
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(values))
    assert check_image(path) == (12, 20)
    assert is_deep(path)
    assert (read_values(path) == values).all()
    grey = read_rgb(path)
    assert (grey == grey[..., :1]).all()
    assert (grey.min(), grey.max()) == (0, 255)
    assert len(np.unique(grey)) > 200
    levels = Levels(float(values.min()), float(values.max()))
    wanted = (values - float(values.min())) / float(np.ptp(values)) * 255
    assert np.abs(read_rgb(path, levels)[..., 0] - wanted).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("turn", range(1, 9))
def test_more_than_8_bits_are_turned_upright(tmp_path: Path, turn: int) -> None:
    values = RAMP.astype(np.uint16) * 16
    image = Image.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = turn
    path = saved(tmp_path / "a.png", image, exif=exif)
    with Image.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    assert (read_values(path) == upright).all()
    assert check_image(path) == upright.shape


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_16_bits(tmp_path: Path, suffix: str) -> None:
    values = COLOURS.astype(np.uint16) * 16
    cv2.imwrite(str(tmp_path / f"a{suffix}"), values[..., ::-1])
    assert (read_values(tmp_path / f"a{suffix}") == values).all()
    assert (read_rgb(tmp_path / f"a{suffix}", Levels(0, 255 * 16)) == COLOURS).all()


@pytest.mark.parametrize("values", [DEEP[0].astype(np.uint16), DEEP[2].astype(np.float32)], ids=["16 bits", "float"])
@pytest.mark.parametrize("turn", [1, 6])
def test_tiff_in_which_zero_is_white(tmp_path: Path, values: np.ndarray, turn: int) -> None:
    for name, zero in (("white", 0), ("black", 1)):
        image = Image.fromarray(values)
        image.save(tmp_path / f"{name}.tif", tiffinfo={262: zero, 274: turn})
    white, black = (read_rgb(tmp_path / f"{name}.tif").astype(int) for name in ("white", "black"))
    assert np.abs(255 - white - black).max() <= 1
    with open(tmp_path / "white.tif", "rb") as file, Image.open(file) as image:  # by name, Pillow reads it wrongly
        assert (upright_rgb(image) == white).all()


def test_values_of_no_data_count_for_no_levels(tmp_path: Path) -> None:
    values = np.full((40, 40), np.finfo(np.float32).min, np.float32)
    values[10:] = np.linspace(5, 6, 1200).reshape(30, 40)
    for name, tags in (("a", {42113: "-3.40282346638529e+38"}), ("b", {42113: "nan"})):
        Image.fromarray(values).save(tmp_path / f"{name}.tif", tiffinfo=tags)
    assert len(read_occurring(tmp_path / "a.tif")) == 1200
    assert len(np.unique(read_rgb(tmp_path / "a.tif"))) > 200
    assert len(np.unique(read_rgb(tmp_path / "b.tif"))) < 10


def test_what_is_no_number_is_black(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    found = read_rgb(saved(tmp_path / "a.tif", Image.fromarray(values)))
    assert found[0, 0, 0] == 0
    assert found[0, 1, 0] == 255
    assert len(np.unique(found)) > 200


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_pictures_that_move_are_named(kind: str, tmp_path: Path) -> None:
    still, other = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    assert not isinstance(check_image(saved(tmp_path / f"still.{kind}", still)), Problem)
    found = check_image(saved(tmp_path / f"a.{kind}", still, save_all=True, append_images=[other]))
    assert isinstance(found, Problem)
    assert "it moves; save each frame as a file of its own, or all of them as MP4" in found.what


def test_pages_are_named(tmp_path: Path) -> None:
    pages = [Image.fromarray(RAMP)] * 3
    found = check_image(saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:]))
    assert isinstance(found, Problem)
    assert "TIFF of 3 pages; save each page as a file of its own" in found.what


@pytest.mark.parametrize("suffix", [".tga", ".pnm", ".pbm", ".mpo", ".j2k", ".jpx"])
def test_kinds_that_are_seldom(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(COLOURS)
    saved(tmp_path / f"a{suffix}", picture.convert("1") if suffix == ".pbm" else picture)
    assert images_below(tmp_path) == [tmp_path / f"a{suffix}"]
    assert check_image(tmp_path / f"a{suffix}") == (12, 20)


def test_damaged_files_are_told_apart(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.jpg", Image.fromarray(COLOURS))
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-60])
    (tmp_path / "text.jpg").write_text("no image")
    paths = [whole, tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "none.jpg"]
    size, *problems = map(check_image, paths)
    assert size == (12, 20)
    assert [p.what.split(" (")[0] for p in problems if isinstance(p, Problem)] == [
        "damaged image",
        "not an image",
        "the image does not exist",
    ]


def test_many_missing_images_are_one_problem(tmp_path: Path) -> None:
    problems: list[Problem] = []
    assert readable([tmp_path / f"{n}.jpg" for n in range(11)], problems) == [None] * 11
    assert [problem.what for problem in problems] == ["11 images do not exist, the first is 0.jpg"]


def test_images_are_known_by_any_suffix(tmp_path: Path) -> None:
    for name in ("b/one.JPG", "a.webp", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in images_below(tmp_path)] == ["a.webp", "one.JPG"]


def test_a_truncated_png_is_no_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 9 :])
    with pytest.raises((OSError, ValueError, SyntaxError)):
        read_rgb(tmp_path / "cut.png")


def test_whole_pictures_that_are_not_read_are_not_called_damaged(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = check_image(tmp_path / "a.gif")
    assert isinstance(found, Problem)
    assert found.what == "is not read: it moves; save each frame as a file of its own, or all of them as MP4"
