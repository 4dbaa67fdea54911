"""The letterbox: a whole image, scaled to fit, in the middle of a grey square."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

FILL = 114  # grey of the border, as YOLO users know it
IGNORED = 255  # of a mask, what does not count: the border too
T = TypeVar("T", bound=Tensor)


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

    def unboxed(self, scores: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Scores [C, S, S] of the square's pixels → [C, H, W] of those of the original image."""
        height, width = self.size_hw
        inner = scores[None, :, self.top : self.top + height, self.left : self.left + width].float()
        return torch.nn.functional.interpolate(inner, size_hw, mode="bilinear", align_corners=False)[0]

    def back(self, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Boxes [n, 4] of the square → pixels of the original image, clipped to it."""
        height, width = size_hw
        shift = boxes_xyxy.new_tensor([self.left, self.top, self.left, self.top])
        inner = boxes_xyxy.new_tensor([self.size_hw[1], self.size_hw[0]] * 2)
        outer = boxes_xyxy.new_tensor([width, height] * 2)
        return torch.minimum(((boxes_xyxy - shift) / inner * outer).clamp(min=0), outer)


def scaled_to_fit(part: T, imgsz: int) -> T:
    """An image [3, H, W], or the tv_tensor of its boxes or mask, with its longer side at imgsz."""
    height, width = F.get_size(part)
    resized: T = F.resize(part, list(Letterbox.fit((height, width), imgsz).size_hw), antialias=True)
    return resized


def letterboxed(part: T, imgsz: int) -> T:
    """An image [3, H, W], or the tv_tensor of its boxes or mask, in a square of imgsz."""
    if F.get_size(part) == [imgsz, imgsz] and not isinstance(part, tv_tensors.BoundingBoxes):  # padding clips these
        return part
    inner = scaled_to_fit(part, imgsz)
    height, width = F.get_size(inner)
    box = Letterbox.fit((height, width), imgsz)
    right, bottom = imgsz - box.left - width, imgsz - box.top - height
    fill = IGNORED if isinstance(part, tv_tensors.Mask) else FILL
    padded: T = F.pad(inner, [box.left, box.top, right, bottom], fill=fill)
    return padded
