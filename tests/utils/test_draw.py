"""Pictures that are written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.draw import LONGEST, save_image


def test_a_picture_that_is_too_long_for_jpeg_is_made_smaller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.full((2, LONGEST + 500, 3), 200, np.uint8)
    for name, size in (("long.jpg", (LONGEST, 2)), ("long.png", (LONGEST + 500, 2))):
        save_image(picture, tmp_path / name)
        with Image.open(tmp_path / name) as read:
            assert read.size == size
    said = capsys.readouterr().out
    assert "long.jpg is made smaller: no side of a JPEG is above 65,500 pixels" in " ".join(said.split())
    assert "long.png" not in said
