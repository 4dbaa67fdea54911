"""The same picture in any form gives the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.images import image_size, read_rgb
from utils.pictures import pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = PIXELS[..., 0]


def test_colours(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    opaque = np.dstack([PIXELS, np.full((6, 9, 1), 7, np.uint8)])
    forms: list[Any] = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(PIXELS), PIXELS, opaque, first]
    forms += [first / 255, (first / 255).double().requires_grad_(), torch.from_numpy(opaque).permute(2, 0, 1)]
    for form in forms:
        np.testing.assert_array_equal(pixels_of(form), PIXELS)
    assert np.shares_memory(pixels_of(PIXELS), PIXELS)


def test_grey_is_three_times_the_same() -> None:
    forms: list[Any] = [
        GREY,
        GREY[..., None],
        Image.fromarray(GREY),
        torch.from_numpy(GREY),
        torch.from_numpy(GREY)[None],
    ]
    for form in [*forms, torch.from_numpy(GREY) / 255]:
        np.testing.assert_array_equal(pixels_of(form), np.repeat(GREY[..., None], 3, 2))


def test_a_picture_that_was_held_sideways_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(pixels_of(opened), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("deep", [False, True])
def test_uncompressed_grey_tiffs_that_were_held_sideways(tmp_path: Path, deep: bool) -> None:
    """Pillow maps such a file into memory with width and height exchanged, if it is opened by its name."""
    pixels = GREY.astype(np.uint16) * 257 if deep else GREY
    for turned in range(1, 9):
        found = []
        for name, compression in (("plain.tif", None), ("lzw.tif", "tiff_lzw")):
            Image.fromarray(pixels).save(tmp_path / name, tiffinfo={0x0112: turned}, compression=compression)
            found.append(read_rgb(tmp_path / name))
        np.testing.assert_array_equal(*found)
        assert found[0].shape[:2] == image_size(tmp_path / "plain.tif")[:2]


@pytest.mark.parametrize(
    ("form", "what"),
    [
        (3, "int is no picture"),
        (PIXELS / 255, r"an array of float64 \[6, 9, 3\]"),
        (PIXELS.transpose(2, 0, 1), r"an array of uint8 \[3, 6, 9\]"),
        (PIXELS[:0], r"an array of uint8 \[0, 9, 3\]"),
        (torch.from_numpy(PIXELS), r"a tensor of uint8 \[6, 9, 3\]"),
        (torch.full((3, 4, 4), 1.5), "from 1.5 to 1.5 — give floats in 0–1"),
        (torch.full((3, 4, 4), torch.nan), "from nan to nan — give floats in 0–1"),
        (torch.zeros(0, 3, 4, 4), r"a tensor of float32 \[0, 3, 4, 4\]"),
        ("none.png", "none.png: cannot be read as an image"),
    ],
)
def test_what_is_no_picture(form: Any, what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        pixels_of(form)
    assert "\n" not in str(error.value)
