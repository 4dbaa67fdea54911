"""What finds boxes: `load_detector("best.pt").predict("photo.jpg")`."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch
from torch import Tensor

from models.channels import RGB
from models.decode import Thresholds, suppress
from models.found import Found
from utils.boxes import Detections
from utils.errors import UserError
from utils.flags import input_size
from utils.letterbox import Letterbox, letterboxed
from utils.levels import Levels
from utils.pictures import Picture, pixels_of
from utils.tables import near


class Options(TypedDict, total=False):
    """How boxes are found: the flags of detect.py, and how many pictures go through the network at once.

    Attributes:
        conf_thres: lowest score [0.25].
        iou_thres: IoU above which the weaker of two boxes is dropped [0.45].
        max_det: most detections in a picture [300].
        classes: names or indices of the classes to find [all].
        agnostic_nms: a box is dropped for stronger ones of any class [its own only].
        multi_label: a box may be reported for several classes [for its best one].
        imgsz: side of the square that a picture is scaled into, a multiple of 32, pixels [that of the training].
        batch_size: pictures that go through the network at once [16].
    """

    conf_thres: float
    iou_thres: float
    max_det: int
    classes: Sequence[str | int] | None
    agnostic_nms: bool
    multi_label: bool
    imgsz: int | None
    batch_size: int


@dataclass(frozen=True)
class Detector(ABC):
    """A trained detector, from a file of any kind. Threads may share one.

    Attributes:
        path: the file that it was read from.
        names: of its classes.
        imgsz: side of the input that it was trained on.
        data: the data yaml that it was trained on, None where the file does not say.
        levels: which values are black and white in pictures of more than 8 bits; None: each picture has its own.
        lesson: figures of the last classifier on its backbone (evaluation/learnt.py); empty where the file has none.
        learnt: numbers of the pictures that it has learnt from (data/seen.py); None where the file does not say.
    """

    path: Path
    names: list[str]
    imgsz: int
    data: Path | None
    device: torch.device | str
    levels: Levels | None = field(default=None, kw_only=True)
    lesson: Mapping[str, Any] = field(default_factory=dict, kw_only=True, repr=False)
    learnt: frozenset[int] | None = field(default=None, kw_only=True, repr=False)

    @property
    def in_channels(self) -> int:
        """Of the images that it takes: 3 for RGB, 1 for grey values."""
        return RGB

    @property
    def suppresses(self) -> bool:
        """Whether it leaves boxes out by thresholds of its own."""
        return False

    @abstractmethod
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, in_channels, H, W] in 0–1 → boxes [B, N, 4], centre and size in pixels, scores [B, N, classes]."""

    @overload  # a str is an iterable of str, and meant as one file
    def predict(self, source: Picture, **options: Unpack[Options]) -> Found: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, source: Iterable[Picture], **options: Unpack[Options]) -> list[Found]: ...

    def predict(self, source: Picture | Iterable[Picture], **options: Unpack[Options]) -> Found | list[Found]:
        """Boxes in a picture, or in each of several.

        Args:
            source: a file, a PIL image, an array or a tensor as in utils.pictures.pixels_of, or a list of any of these.
            options: conf_thres, iou_thres, max_det, classes, agnostic_nms, multi_label, imgsz, batch_size: see Options.

        Returns:
            What was found in the picture, in its own pixels; for a list a list of these, in its order.

        Raises:
            UserError: a picture cannot be read, a class does not exist, or an option is out of its range.
        """
        if isinstance(source, Picture) or not isinstance(source, Iterable):
            return next(self.stream([source], **options))
        return list(self.stream(source, **options))

    def stream(self, pictures: Iterable[Picture], **options: Unpack[Options]) -> Iterator[Found]:
        """What `predict` gives for a list, a batch at a time: for more pictures than fit into memory.

        Raises:
            UserError: as in predict; options are checked before the first picture is asked for.
        """
        known = list(inspect.signature(self._settled).parameters)
        if unknown := [name for name in options if name not in known]:
            hint = f"{near(unknown[0], known)}give some of {', '.join(known)}"
            raise UserError("there is no such keyword", where=unknown[0], hint=hint)
        thresholds, imgsz, batch_size = self._settled(**options)
        return self._found(iter(pictures), thresholds, imgsz, batch_size)

    def _settled(
        self,
        *,
        conf_thres: float = 0.25,
        iou_thres: float = 0.45,
        max_det: int = 300,
        classes: Sequence[str | int] | None = None,
        agnostic_nms: bool = False,
        multi_label: bool = False,
        imgsz: int | None = None,
        batch_size: int = 16,
    ) -> tuple[Thresholds, int, int]:
        """Thresholds, side of the input and pictures at once, checked."""
        sizes = checked_sizes(self.imgsz if imgsz is None else imgsz, batch_size)
        indices = None if classes is None else class_indices(classes, self.names)
        thresholds = Thresholds(conf_thres, iou_thres, max_det, multi_label, indices, agnostic_nms)
        return thresholds, *sizes

    @torch.inference_mode()
    def _found(
        self, pictures: Iterator[Picture], thresholds: Thresholds, imgsz: int, batch_size: int
    ) -> Iterator[Found]:
        while some := list(islice(pictures, batch_size)):
            images = [as_image(picture, self.levels, self.in_channels) for picture in some]
            batch = torch.stack([letterboxed(image, imgsz) for image in images]).to(self.device).float() / 255
            boxes, scores = self.outputs(batch.contiguous(memory_format=torch.channels_last))
            for picture, image, own_boxes, own_scores in zip(some, images, boxes, scores, strict=True):
                size_hw = (image.shape[1], image.shape[2])
                found = in_original(size_hw, imgsz, own_boxes, own_scores, thresholds)
                names = [self.names[label] for label in found.labels.tolist()]
                yield Found(
                    **vars(found),
                    names=names,
                    picture=picture,
                    size_hw=size_hw,
                    where=place(picture),
                    levels=self.levels,
                )


def checked_sizes(imgsz: int, batch_size: int) -> tuple[int, int]:
    """Side of the input and pictures at once.

    Raises:
        UserError: one is out of its range.
    """
    if batch_size < 1:
        raise UserError(f"{batch_size}", where="batch_size", hint="give 1 or more")
    return input_size(str(imgsz)), batch_size


def class_indices(wanted: Sequence[str | int] | str | int, names: Sequence[str]) -> tuple[int, ...]:
    """Indices of classes that are given by index, or as text by name or by index; a name goes before an index.

    Raises:
        UserError: there is no such class.
    """
    known: dict[str | int, int] = {str(index): index for index in range(len(names))}
    known |= {name: index for index, name in enumerate(names)} | {index: index for index in range(len(names))}
    wanted = [wanted] if isinstance(wanted, str | int) else wanted
    if not len(wanted):
        raise UserError("none given", where="--classes", hint=f"give some of {', '.join(names)}")
    if unknown := [own for own in wanted if own not in known]:
        raise UserError(f"no class `{unknown[0]}`", where="--classes", hint=f"give some of {', '.join(names)}")
    return tuple(known[own] for own in wanted)


def place(picture: Picture) -> str:
    """The file that a picture comes from; empty where it is none."""
    if isinstance(picture, str | Path):
        return str(picture)
    return str(getattr(picture, "filename", ""))  # of a PIL image that was opened


def as_image(picture: Picture, levels: Levels | None = None, channels: int = RGB) -> Tensor:
    """[channels, H, W] uint8 of a picture, in memory of its own: RGB, or for one channel the mean of these.

    Raises:
        UserError: as in pixels_of.
    """
    image = torch.from_numpy(np.array(pixels_of(picture, levels=levels), order="C")).permute(2, 0, 1).contiguous()
    return image if channels == RGB else image.float().mean(0, keepdim=True).round().to(torch.uint8)


def in_original(
    size_hw: tuple[int, int], imgsz: int, boxes: Tensor, scores: Tensor, thresholds: Thresholds
) -> Detections:
    """Suppress, and put the boxes back into the image that was letterboxed."""
    found = suppress(boxes, scores, thresholds)
    boxes_xyxy = Letterbox.fit(size_hw, imgsz).back(found.boxes_xyxy, size_hw)
    return Detections(boxes_xyxy.cpu(), found.scores.cpu(), found.labels.cpu())
