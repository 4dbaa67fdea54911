"""The classifier on the last block of a backbone file, for any pictures: `load_classifier("backbone_cl3.pt")`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from data.views import View
from evaluation.accuracy import BackboneFile, load_backbone_and_heads
from models.channels import RGB
from models.classified import Classified
from models.detector import as_image, place
from utils import checkpoint
from utils.levels import Levels
from utils.pictures import Picture

TOP = 15  # classes of a picture


@dataclass(frozen=True)
class Classifier:
    """A trained backbone with its last classifier.

    Attributes:
        path: the file that it was read from.
        names: of its classes.
        view: how it is shown a picture; whole, where it learnt from objects that were cut out.
        data: the data yaml that it was trained on.
        levels: which values are black and white in pictures of more than 8 bits; None: each picture has its own.
        in_channels: of the images that it takes: 3 for RGB, 1 for grey values.
    """

    path: Path
    names: list[str]
    view: View
    data: Path
    device: torch.device | str
    network: nn.Module
    single_label: bool
    levels: Levels | None = None
    in_channels: int = RGB

    def stream(self, pictures: Iterable[Picture], *, top: int = TOP, batch_size: int = 16) -> Iterator[Classified]:
        """The likeliest classes of each of some pictures, a batch at a time.

        Args:
            top: so many classes; all, where there are fewer.
            batch_size: pictures that go through the network at once.

        Raises:
            UserError: one cannot be read.
        """
        waiting = iter(pictures)
        while some := list(islice(waiting, batch_size)):
            images = [as_image(picture, self.levels, self.in_channels) for picture in some]
            for picture, image, logits in zip(some, images, self.logits(images), strict=True):
                size_hw = (image.shape[1], image.shape[2])
                yield self.best(logits, min(top, len(self.names)), picture, size_hw)

    @torch.inference_mode()
    def logits(self, images: list[Tensor]) -> Tensor:
        """[B, classes] of pictures [C, H, W] uint8, each of its own size."""
        show = self.view.transform()
        no_box = torch.zeros(0, 4)
        batch = torch.stack([shown_alone(show, image, no_box) for image in images]).to(self.device).float() / 255
        found: Tensor = self.network(batch.contiguous(memory_format=torch.channels_last)).float().cpu()
        return found

    def best(self, logits: Tensor, top: int, picture: Picture, size_hw: tuple[int, int]) -> Classified:
        """So many classes of a picture, by its logits [classes]."""
        scores = logits.softmax(0) if self.single_label else logits.sigmoid()
        values, labels = logits.topk(top)
        names = [self.names[label] for label in labels.tolist()]
        numbers = (labels.tolist(), names, values.tolist(), scores[labels].tolist())
        return Classified(*numbers, size_hw, picture=picture, where=place(picture), levels=self.levels)


def shown_alone(show: nn.Module, image: Tensor, no_box: Tensor) -> Tensor:
    """A picture [C, H, W] as a view shows it, without boxes."""
    boxes = tv_tensors.BoundingBoxes(no_box, format="XYXY", canvas_size=tuple(image.shape[1:]))  # type: ignore[call-overload]
    found: Tensor = show(tv_tensors.Image(image), boxes)[0].as_subclass(Tensor)
    return found


def load_classifier(path: Path | str, device: torch.device | str = "cpu") -> Classifier:
    """Read a backbone file, in evaluation mode.

    Raises:
        UserError: not a whole backbone file.
    """
    path = Path(path)
    file = BackboneFile.of(path, checkpoint.load(path, "backbone"))
    backbone, heads = load_backbone_and_heads(file)
    network = nn.Sequential(*backbone.blocks[: file.cuts[-1]], heads[-1]).eval()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    view = replace(file.view, source="pictures", fit="letterbox") if file.view.source == "objects" else file.view
    own = (file.single_label, file.levels, file.in_channels)
    return Classifier(path, file.names, view, file.data, device, network, *own)
