import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import check_image, check_images, images_below, readable
from data.records import Problem
from utils.images import read_rgb

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
        "sixteen.png": (Image.fromarray(RAMP.astype(np.uint16) * 257), grey),
        "sixteen.tif": (Image.fromarray(RAMP.astype(np.uint16) * 257), grey),
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
    assert "decompression bomb" in found.what


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, mode: str) -> None:
    found = check_image(saved(tmp_path / "a.tif", Image.fromarray(RAMP).convert(mode)))
    assert isinstance(found, Problem)
    assert f"pixels of mode {mode}" in found.what


def test_damaged_files_are_told_apart(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.jpg", Image.fromarray(COLOURS))
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-60])
    (tmp_path / "text.jpg").write_text("no image")
    paths = [whole, tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "none.jpg"]
    size, *problems = check_images(paths)
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
