"""A picture in any form that a Python program has it in: a file, a PIL image, an array, a tensor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.errors import UserError
from utils.images import read_rgb, upright_rgb
from utils.levels import Levels

Picture = str | Path | Image.Image | np.ndarray | Tensor
FORMS = "give a file, a PIL image, an array [H, W, 3] of uint8 or a tensor [3, H, W], RGB"


def pixels_of(picture: Picture, where: str | Path = "predict", levels: Levels | None = None) -> np.ndarray:
    """[H, W, 3] uint8 RGB of one picture; an array that is so already is given back, not copied.

    Files and PIL images are turned upright by their EXIF tag, grey becomes RGB, transparency is left out.

    Args:
        picture: a file, a PIL image, an array [H, W, 3], [H, W, 4], [H, W, 1] or [H, W] of uint8, or a tensor of the
            channels first, [3, H, W], [4, H, W], [1, H, W] or [H, W], of uint8, or of floats in 0–1.
        where: what a message points at.
        levels: of a file or PIL image of more than 8 bits [its own].

    Raises:
        UserError: it cannot be read, or is nothing of these.
    """
    if isinstance(picture, np.ndarray):
        return of_array(picture, where, f"an array of {picture.dtype} {list(picture.shape)}")
    if isinstance(picture, Tensor):
        return of_tensor(picture, where)
    if not isinstance(picture, str | Path | Image.Image):
        raise UserError(f"{type(picture).__name__} is no picture", where=where, hint=FORMS)
    try:
        return upright_rgb(picture, levels) if isinstance(picture, Image.Image) else read_rgb(Path(picture), levels)
    except Exception as error:  # a decoder that meets garbage raises whatever it stumbles over
        place = where if isinstance(picture, Image.Image) else picture
        raise UserError(f"cannot be read as an image ({error})", where=place, hint="give another file") from error


def of_array(pixels: np.ndarray, where: str | Path, about: str) -> np.ndarray:
    """[H, W, 3] of an array [H, W] or [H, W, 1, 3 or 4] of uint8."""
    deep = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or deep.ndim != 3 or deep.shape[2] not in (1, 3, 4) or not deep.size:
        raise UserError(about, where=where, hint=FORMS)
    return np.repeat(deep, 3, 2) if deep.shape[2] == 1 else deep[..., :3]


def of_tensor(pixels: Tensor, where: str | Path) -> np.ndarray:
    """[H, W, 3] uint8 of a tensor [H, W] or [1, 3 or 4, H, W], of uint8 or of floats in 0–1."""
    about = f"a tensor of {str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}"
    own = pixels.detach().cpu()
    if own.is_floating_point() and own.numel():
        if not (own.isfinite().all() and own.min() >= 0 and own.max() <= 1):
            about += f" from {own.min():g} to {own.max():g}"
            raise UserError(about, where=where, hint="give floats in 0–1, or uint8")
        own = (own.float() * 255).round().to(torch.uint8)
    return of_array((own.movedim(0, -1) if own.ndim == 3 else own).numpy(), where, about)
