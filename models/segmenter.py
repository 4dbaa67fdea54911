"""What finds the class of every pixel: `load_segmenter("best.pt").predict("photo.jpg")`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.backbones import make_backbone
from models.detector import as_image, checked_sizes, place
from models.fcn import FCN, FCNS
from models.inference import for_inference
from models.segmented import Segmented
from utils import checkpoint
from utils.config import ROOT
from utils.device import check_device
from utils.letterbox import Letterbox, letterboxed
from utils.levels import Levels
from utils.pictures import Picture

KIND = "segmenter"  # of its checkpoints


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter, from a checkpoint. Threads may share one.

    Attributes:
        path: the file that it was read from.
        names: of its classes, without the background.
        imgsz: side of the input that it was trained on.
        data: the data yaml that it was trained on.
        levels: which values are black and white in pictures of more than 8 bits; None: each picture has its own.
        recipe, commit: of the run that trained it.
        head: as in --fcn.
        learnt: numbers of the pictures that it has learnt from (data/seen.py); None where the file does not say.
        lesson: figures of the last classifier on its backbone (evaluation/learnt.py); empty where the file has none.
    """

    path: Path
    names: list[str]
    imgsz: int
    data: Path
    device: torch.device | str
    model: FCN
    recipe: dict[str, Any]
    commit: str
    head: str
    levels: Levels | None = None
    learnt: frozenset[int] | None = field(default=None, repr=False)
    lesson: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def predict(self, picture: Picture) -> Segmented:
        """The class of every pixel of a picture: a file, a PIL image, an array or a tensor.

        Raises:
            UserError: it cannot be read.
        """
        return next(self.stream([picture]))

    def stream(
        self, pictures: Iterable[Picture], *, imgsz: int | None = None, batch_size: int = 16
    ) -> Iterator[Segmented]:
        """The class of every pixel of each of some pictures, a batch at a time.

        Args:
            imgsz: side of the square that a picture is scaled into, a multiple of 32, pixels [that of the training].
            batch_size: pictures that go through the network at once.

        Raises:
            UserError: one cannot be read; a number is out of its range, before the first picture is asked for.
        """
        return self._found(iter(pictures), *checked_sizes(self.imgsz if imgsz is None else imgsz, batch_size))

    @torch.inference_mode()
    def _found(self, pictures: Iterator[Picture], side: int, batch_size: int) -> Iterator[Segmented]:
        while some := list(islice(pictures, batch_size)):
            images = [as_image(picture, self.levels) for picture in some]
            batch = torch.stack([letterboxed(image, side) for image in images]).to(self.device).float() / 255
            scores = self.model(batch.contiguous(memory_format=torch.channels_last))
            for picture, image, own in zip(some, images, scores, strict=True):
                mask = winners(own, side, (image.shape[1], image.shape[2]))
                yield Segmented(mask, self.names, picture=picture, where=place(picture), levels=self.levels)


def winners(scores: Tensor, imgsz: int, size_hw: tuple[int, int]) -> np.ndarray:
    """[H, W] uint8: the best class of every pixel of an image, of scores [classes, S, S] in its letterbox.

    Scores are interpolated to the image's own pixels, one class after the other: all at once may not fit into memory.
    """
    box = Letterbox.fit(size_hw, imgsz)
    best = box.unboxed(scores[:1], size_hw)[0]
    found = torch.zeros(size_hw, dtype=torch.uint8, device=scores.device)
    for number in range(1, len(scores)):
        own = box.unboxed(scores[number : number + 1], size_hw)[0]
        found = torch.where(own > best, number, found)
        best = torch.maximum(best, own)
    return found.cpu().numpy()


def is_segmenter(path: Path) -> bool:
    """Whether a file is a checkpoint of a segmenter; what cannot be read is none, and whoever reads it reports that."""
    return checkpoint.kind_of(path) == KIND


def load_segmenter(path: str | Path, device: torch.device | str = "cpu", *, quick: bool = True) -> Segmenter:
    """Read a checkpoint, in evaluation mode.

    Args:
        quick: BatchNorm is folded into the convolutions.

    Raises:
        UserError: not a whole checkpoint of a segmenter; no such device.
    """
    path = Path(path)
    check_device(device)
    content = checkpoint.load(path, KIND)
    names, recipe = content["names"], content["recipe"]
    model = FCN(make_backbone(content["backbone"], content["width"]), len(names) + 1, FCNS.choose(content["fcn"]))
    checkpoint.load_state(model, content["model"], path)
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    own = Segmenter(
        path,
        names,
        content["imgsz"],
        ROOT / recipe["data"],
        device,
        model,
        recipe,
        content["commit"],
        content["fcn"],
        Levels.stored(content, path),
        checkpoint.learnt_by(content),
        content.get("lesson", {}),
    )
    return replace(own, model=for_inference(model)) if quick else own
