"""What finds boxes: `load_detector("best.pt").predict(["photo.jpg"])`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.decode import Thresholds, suppress
from utils.boxes import Detections
from utils.errors import UserError
from utils.images import read_rgb
from utils.letterbox import Letterbox, letterboxed
from utils.levels import Levels

Picture = str | Path | np.ndarray
SURE = Thresholds(0.25, 0.45, multi_label=False)  # of detections that somebody looks at


@dataclass(frozen=True)
class Found(Detections):
    """What was found in one image, best first.

    boxes_xyxy [n, 4] in pixels of the image, scores [n] in 0–1, labels [n], and the names [n] of the labels.
    """

    names: list[str]


@dataclass(frozen=True)
class Detector(ABC):
    """A trained detector, from a file of any kind. Threads may share one.

    Attributes:
        path: the file that it was read from.
        names: of its classes.
        imgsz: side of the input that it was trained on.
        data: the data yaml that it was trained on, None where the file does not tell.
        levels: which values are black and white in pictures of more than 8 bits; None: each picture has its own.
    """

    path: Path
    names: list[str]
    imgsz: int
    data: Path | None
    device: torch.device | str
    levels: Levels | None = field(default=None, kw_only=True)

    @abstractmethod
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in 0–1 → boxes [B, N, 4], centre and size in input pixels, and scores [B, N, classes]."""

    def predict(
        self,
        pictures: Sequence[Picture],
        thresholds: Thresholds = SURE,
        *,
        imgsz: int | None = None,
        batch_size: int = 16,
    ) -> list[Found]:
        """Boxes in each picture.

        Args:
            pictures: paths, or arrays [H, W, 3] uint8 RGB, of any sizes.
            imgsz: side of the square that a picture is scaled into, a multiple of 32 [that of the training].
            batch_size: pictures that go through the network at once.

        Returns:
            For each picture, in their order, what was found, in its own pixels.

        Raises:
            UserError: a picture cannot be read, or is no such array.
        """
        if isinstance(pictures, str | Path | np.ndarray):
            raise TypeError("give a list of pictures, such as [picture]")
        return list(self._predicted(iter(pictures), thresholds, imgsz or self.imgsz, batch_size))

    @torch.inference_mode()
    def _predicted(
        self, pictures: Iterator[Picture], thresholds: Thresholds, imgsz: int, batch_size: int
    ) -> Iterator[Found]:
        while some := list(islice(pictures, batch_size)):
            images = [as_image(picture, self.levels) for picture in some]
            batch = torch.stack([letterboxed(image, imgsz) for image in images]).to(self.device).float() / 255
            boxes, scores = self.outputs(batch.contiguous(memory_format=torch.channels_last))
            for image, own_boxes, own_scores in zip(images, boxes, scores, strict=True):
                height, width = image.shape[1:]
                found = in_original((height, width), imgsz, own_boxes, own_scores, thresholds)
                yield Found(**vars(found), names=[self.names[label] for label in found.labels.tolist()])


def as_image(picture: Picture, levels: Levels | None = None) -> Tensor:
    """[3, H, W] uint8 RGB of a path or an array.

    Raises:
        UserError: it cannot be read, or is no array [H, W, 3] of uint8.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            what = f"an array of {picture.dtype} {list(picture.shape)}"
            raise UserError(what, where="predict", mend="give [H, W, 3] of uint8, RGB")
        pixels = picture.copy()
    else:
        try:
            pixels = read_rgb(Path(picture), levels)
        except Exception as error:  # a decoder that meets garbage raises whatever it stumbles over
            raise UserError(f"cannot be read as an image ({error})", where=picture, mend="give another file") from error
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()


def in_original(
    size_hw: tuple[int, int], imgsz: int, boxes: Tensor, scores: Tensor, thresholds: Thresholds
) -> Detections:
    """Suppress, and put the boxes back into the image that was letterboxed."""
    found = suppress(boxes, scores, thresholds)
    boxes_xyxy = Letterbox.fit(size_hw, imgsz).back(found.boxes_xyxy, size_hw)
    return Detections(boxes_xyxy.cpu(), found.scores.cpu(), found.labels.cpu())
