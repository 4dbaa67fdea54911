"""Image and boxes through the same geometry: torchvision's transforms.v2 and the letterbox."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from utils.config import Augment

FILL = 114  # grey of the letterbox border, as YOLO users know it
MIN_BOX_PIXELS = 2
MOST_ZOOM_OUT = 3.0  # sides of the canvas over those of the image


@dataclass(frozen=True)
class Letterbox:
    """Scale to fit, centre on a grey square; forth for pixels and boxes, back for detections.

    Attributes:
        scale: output pixels per input pixel.
        left, top: border in output pixels.
        size_hw: height and width of the scaled image without border.
    """

    scale: float
    left: int
    top: int
    size_hw: tuple[int, int]

    @classmethod
    def fit(cls, size_hw: tuple[int, int], imgsz: int) -> "Letterbox":
        """The letterbox of an image of size_hw in a square of imgsz."""
        height, width = size_hw
        scale = imgsz / max(height, width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        return cls(scale, (imgsz - inner[1]) // 2, (imgsz - inner[0]) // 2, inner)

    def back(self, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Boxes [n, 4] of the square → pixels of the original image, clipped to it."""
        height, width = size_hw
        shift = boxes_xyxy.new_tensor([self.left, self.top, self.left, self.top])
        inner = boxes_xyxy.new_tensor([self.size_hw[1], self.size_hw[0]] * 2)
        outer = boxes_xyxy.new_tensor([width, height] * 2)
        return torch.minimum(((boxes_xyxy - shift) / inner * outer).clamp(min=0), outer)


class ToSquare(nn.Module):
    """Letterbox as a transform of tv_tensors."""

    def __init__(self, imgsz: int) -> None:
        super().__init__()
        self.imgsz = imgsz

    def extra_repr(self) -> str:
        return str(self.imgsz)

    def forward(self, *inputs: Any) -> Any:
        height, width = F.get_size(inputs[0])
        box = Letterbox.fit((height, width), self.imgsz)
        right, bottom = self.imgsz - box.left - box.size_hw[1], self.imgsz - box.top - box.size_hw[0]
        resized = [F.resize(part, list(box.size_hw), antialias=True) for part in inputs]
        padded = [F.pad(part, [box.left, box.top, right, bottom], fill=FILL) for part in resized]
        return tuple(padded)


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
    """The whole image in a letterbox, or (`center`) its middle once the shorter side is imgsz · 256/224."""
    if view == "letterbox":
        return ToSquare(imgsz)
    return v2.Compose([v2.Resize(round(imgsz * 256 / 224), antialias=True), v2.CenterCrop(imgsz)])


def pretrain_transform(imgsz: int, augment: Augment, least_share: float) -> nn.Module:
    """Photometric, crop with its labels, mirror."""
    return v2.Compose(
        [
            v2.RandomApply([v2.RandomPhotometricDistort(p=1)], augment.photometric),
            LabelledCrop(imgsz, least_share) if least_share < 1 else ToSquare(imgsz),
            v2.RandomHorizontalFlip(augment.fliplr),
        ]
    )


def train_transform(imgsz: int, augment: Augment) -> nn.Module:
    """Photometric, zoom-out, crop and mirror with the recipe's probabilities, then the letterbox."""
    zoom_out = [v2.RandomZoomOut(FILL, (1, MOST_ZOOM_OUT), augment.zoom_out)] if augment.zoom_out else []
    return v2.Compose(
        [
            v2.RandomApply([v2.RandomPhotometricDistort(p=1)], augment.photometric),
            *zoom_out,
            v2.RandomApply([v2.RandomIoUCrop(min_scale=0.5)], augment.crop),
            v2.RandomHorizontalFlip(augment.fliplr),
            ToSquare(imgsz),
        ]
    )
