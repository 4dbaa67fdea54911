"""Image and boxes through the same geometry: torchvision's transforms.v2 and the letterbox."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from utils.boxes import box_iou
from utils.config import Augment
from utils.letterbox import FILL, IGNORED, letterboxed, scaled_to_fit

MIN_BOX_PIXELS = 2
MOST_ZOOM_OUT = 3.0  # sides of the canvas over those of the image


class ToSize(nn.Module):
    """What brings tv_tensors to a size in pixels, `letterboxed` or `scaled_to_fit`, as a transform."""

    def __init__(self, change: Callable[[Any, int], Any], imgsz: int) -> None:
        super().__init__()
        self.change, self.imgsz = change, imgsz

    def extra_repr(self) -> str:
        return f"{self.change.__name__}, {self.imgsz}"

    def forward(self, *inputs: Any) -> Any:
        return tuple(self.change(part, self.imgsz) for part in inputs)


class LabelledCrop(nn.Module):
    """A random crop of any share and aspect, resized to a square; boxes of which it shows less than half vanish.

    The random resized crop of the cascade-learning authors, but with labels that follow the crop.
    A vanished box is left with no size.
    """

    def __init__(self, imgsz: int, least_share: float) -> None:
        super().__init__()
        self.crop = v2.RandomResizedCrop((imgsz, imgsz), scale=(least_share, 1.0), antialias=True)

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        window = self.crop.make_params([image])
        shown = F.crop(boxes, **window)
        visible = area(shown) >= 0.5 * area(boxes)
        resized = F.resize(shown, list(self.crop.size), antialias=True)
        resized.as_subclass(Tensor)[~visible] = 0
        return F.resized_crop(image, **window, size=list(self.crop.size), antialias=True), resized


def area(boxes_xyxy: Tensor) -> Tensor:
    """[n] of [n, 4]."""
    plain = boxes_xyxy.as_subclass(Tensor)
    return (plain[:, 2:] - plain[:, :2]).clamp(min=0).prod(1)


def eval_transform(imgsz: int, view: str = "letterbox") -> nn.Module:
    """The whole image in a letterbox, or its middle once the shorter side is imgsz (`square`) or imgsz · 256/224."""
    if view == "letterbox":
        return ToSize(letterboxed, imgsz)
    shorter = imgsz if view == "square" else around(imgsz)
    return v2.Compose([v2.Resize(shorter, antialias=True), v2.CenterCrop(imgsz)])


def around(imgsz: int) -> int:
    """The shorter side of a picture that crops of a size are taken from (Krizhevsky et al., NeurIPS 2012, §4.1)."""
    return round(imgsz * 256 / 224)


def pretrain_transform(imgsz: int, augment: Augment, least_share: float) -> nn.Module:
    """A crop with its labels, or the whole image; mirror, photometric."""
    crop = LabelledCrop(imgsz, least_share) if least_share < 1 else ToSize(scaled_to_fit, imgsz)
    return v2.Compose([crop, v2.RandomHorizontalFlip(augment.fliplr), *last(imgsz, augment)])


def train_transform(imgsz: int, augment: Augment) -> nn.Module:
    """Zoom-out, crop, mirror and photometric with the recipe's probabilities, in a letterbox."""
    zoom_out = [v2.RandomZoomOut(FILL, (1, MOST_ZOOM_OUT), augment.zoom_out)] if augment.zoom_out else []
    return v2.Compose(
        [
            *zoom_out,
            v2.RandomApply([Crop(min_scale=0.5)], augment.crop),
            v2.RandomHorizontalFlip(augment.fliplr),
            ToSize(scaled_to_fit, imgsz),
            *last(imgsz, augment),
        ]
    )


class Crop(v2.RandomIoUCrop):
    """torchvision's, draw for draw, but not on tensors of four numbers: it tries dozens of windows for a picture.

    Pictures of one row or column stay whole: it divides by half of a pixel, which is none.
    """

    def forward(self, *inputs: Any) -> Any:
        return inputs if min(inputs[0].shape[-2:]) == 1 else super().forward(*inputs)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        boxes = next(own for own in flat_inputs if isinstance(own, tv_tensors.BoundingBoxes))
        corners = F.convert_bounding_box_format(boxes, new_format="XYXY").as_subclass(Tensor).numpy()
        middles = 0.5 * (corners[:, :2] + corners[:, 2:])
        while (least := self.options[int(torch.randint(len(self.options), (1,)))]) < 1:
            for _ in range(self.trials):
                window = self.window(width, height)
                if window is None:
                    continue
                inside = ((window[:2] < middles) & (middles < window[2:])).all(1)
                if inside.any() and box_iou(window, corners[inside]).max() >= least:
                    left, top, right, bottom = map(int, window)
                    size = {"height": bottom - top, "width": right - left}
                    return {"top": top, "left": left, **size, "is_within_crop_area": torch.from_numpy(inside)}
        return {}

    def window(self, width: int, height: int) -> np.ndarray | None:
        """A window in pixels, x1 y1 x2 y2; None: its shape is not allowed. Single precision, as torchvision's."""
        across, down = self.min_scale + (self.max_scale - self.min_scale) * torch.rand(2).numpy()
        wide, high = int(width * across), int(height * down)
        if not self.min_aspect_ratio <= wide / high <= self.max_aspect_ratio:
            return None
        right, below = torch.rand(2).numpy()
        left, top = int((width - wide) * right), int((height - high) * below)
        return np.array([left, top, left + wide, top + high], np.float32)


class PCAColour(nn.Module):
    """Adds one colour to a whole image: a normal share of each axis on which RGB values vary, as widely as they do.

    Krizhevsky et al. (NeurIPS 2012, §4.1), standard deviation 0.1 there. Axes and spread are those of ImageNet's
    training images as fb.resnet.torch has them, values in 0–1.
    """

    SPREAD = (0.2175, 0.0188, 0.0045)  # the eigenvalues of the covariance there
    AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))  # columns

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def extra_repr(self) -> str:
        return f"{self.std:g}"

    def forward(self, image: Tensor, *others: Any) -> Any:
        shift = torch.tensor(self.AXES) @ (torch.randn(3) * self.std * torch.tensor(self.SPREAD))
        changed = (image.as_subclass(Tensor) + 255 * shift[:, None, None]).round().clamp(0, 255).to(torch.uint8)
        return tv_tensors.Image(changed), *others


class Erasing(nn.Module):
    """torchvision's random erasing of the image; boxes and masks stay, since what is hidden is there all the same."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.erase = v2.RandomErasing(share)

    def forward(self, image: Tensor, *others: Any) -> Any:
        return self.erase(image), *others


def segment_transform(imgsz: int, augment: Augment) -> nn.Module:
    """Picture and mask: zoom-out, a crop of a third of the picture or more, mirror and photometric, in a letterbox."""
    fills: dict[Any, Any] = {tv_tensors.Image: FILL, tv_tensors.Mask: IGNORED}
    zoom_out = [v2.RandomZoomOut(fills, (1, MOST_ZOOM_OUT), augment.zoom_out)] if augment.zoom_out else []
    crop = v2.RandomResizedCrop((imgsz, imgsz), scale=(1 / 3, 1.0), antialias=True)
    return v2.Compose(
        [
            *zoom_out,
            v2.RandomApply([crop], augment.crop),
            v2.RandomHorizontalFlip(augment.fliplr),
            ToSize(scaled_to_fit, imgsz),
            *last(imgsz, augment),
        ]
    )


def last(imgsz: int, augment: Augment) -> list[nn.Module]:
    """Photometric on an image that has its size already, where it costs least; then the border, which it spares."""
    photometric = v2.RandomApply([v2.RandomPhotometricDistort(p=1)], augment.photometric)
    colour = [PCAColour(augment.pca)] if augment.pca else []
    noise = [v2.GaussianNoise(sigma=augment.noise)] if augment.noise else []
    erasing = [Erasing(augment.erasing)] if augment.erasing else []
    return [photometric, *colour, *noise, *erasing, ToSize(letterboxed, imgsz)]
