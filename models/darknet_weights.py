"""Weight files of darknet, such as darknet53.conv.74 and yolov3.weights: read, and written.

Layout as in github.com/pjreddie/darknet at f6afaab, src/parser.c: three int32 of the version, the number of images seen
as int64 from version 0.2 on and as int32 before; then all float32, for each convolution in the order of the cfg: bias,
scale, mean and variance of BatchNorm and the weights, or bias and weights where there is no BatchNorm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.darknet import DarkNet
from models.layers import ConvNormAct
from models.yolov3 import Head, YOLOv3
from utils.errors import UserError
from utils.files import as_noted, digest_file, sha256_of, write_text, written_whole

VERSION_BYTES = 12


@dataclass(frozen=True)
class Header:
    """Version, and how many images the network has seen."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def seen_type(self) -> type[np.signedinteger]:
        """int64 from version 0.2 on; numbers of a thousand and more mark a file of old, too."""
        recent = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return np.dtype("<i8").type if recent else np.dtype("<i4").type

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return VERSION_BYTES + np.dtype(self.seen_type).itemsize


def read_header(path: Path) -> Header:
    """The head of a weight file.

    Raises:
        UserError: missing, or too short to have one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(VERSION_BYTES + 8)
    except OSError as error:
        raise UserError("no such weight file", where=path, hint="check the path") from error
    if len(start) >= VERSION_BYTES:
        header = Header(*np.frombuffer(start, "<i4", 3).tolist())
        if len(start) >= header.nbytes:
            return Header(header.major, header.minor, header.revision, int(seen_of(start, header)))
    raise UserError(f"{len(start)} bytes are no darknet weight file", where=path, hint="fetch it again")


def seen_of(start: bytes, header: Header) -> np.signedinteger:
    """The number of images seen, after the version."""
    found: np.signedinteger = np.frombuffer(start, header.seen_type, 1, VERSION_BYTES)[0]
    return found


def tensors(model: Backbone | YOLOv3) -> Iterator[Tensor]:
    """Weights and statistics in the order of a file."""
    for conv, norm in convolutions(model):
        if norm is None:
            assert conv.bias is not None
            yield conv.bias
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            yield from (norm.bias, norm.weight, norm.running_mean, norm.running_var)
        yield conv.weight


def convolutions(model: Backbone | YOLOv3) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions, each with its BatchNorm, in the order of the cfg: coarse predictions come before fine ones."""
    for part in parts(model):
        for module in part.modules():
            if isinstance(module, ConvNormAct):
                yield module.conv, module.norm
        if isinstance(part, Head):
            yield part.predict, None


def parts(model: Backbone | YOLOv3) -> list[nn.Module]:
    """Parts of a detector in the order of the cfg; of a backbone, itself."""
    if not isinstance(model, YOLOv3):
        return [model]
    neck, (fine, middle, coarse) = model.neck, model.heads
    return [
        *(model.backbone, neck.top, coarse),
        *(neck.to_middle, neck.middle, middle),
        *(neck.to_bottom, neck.bottom, fine),
    ]


def floats(model: Backbone | YOLOv3) -> int:
    """How many numbers the file of a model holds."""
    return sum(tensor.numel() for tensor in tensors(model))


def is_darknet(path: Path) -> bool:
    """Whether a file is darknet's by its name: *.weights, or *.conv.<layers> for the beginning of a network."""
    return path.suffix == ".weights" or (path.suffix[1:].isdecimal() and Path(path.stem).suffix == ".conv")


def count_classes(path: Path) -> int:
    """Classes of the YOLOv3 on DarkNet-53 that a file of this size holds.

    Raises:
        UserError: none of any number of classes; says the size for 80.
    """
    with torch.device("meta"):
        one, two = (floats(YOLOv3(DarkNet(), classes)) for classes in (1, 2))
    header, there = read_header(path), path.stat().st_size
    classes, rest = divmod((there - header.nbytes) // 4 - one, two - one)
    if rest or classes < 0 or (there - header.nbytes) % 4:
        coco = header.nbytes + 4 * (one + 79 * (two - one))
        what = f"{there:,} bytes are no YOLOv3 of any number of classes; for COCO's 80 it would be {coco:,}"
        raise UserError(what, where=path, hint="fetch it again")
    return classes + 1


@torch.no_grad()
def read_darknet(path: Path, model: Backbone | YOLOv3) -> Header:
    """Load a file into a model of exactly its size.

    A file of another size leaves the model as it was. The format has no checksum; where FILE.sha256 is beside a
    file, as beside those that write_darknet writes, it is looked at.

    Raises:
        UserError: missing, too short or too long, which says both sizes; damaged.
    """
    header = read_header(path)
    there, wanted = path.stat().st_size, header.nbytes + 4 * floats(model)
    if there != wanted:
        what = f"{there:,} bytes instead of {wanted:,}: {'cut short' if there < wanted else 'of a larger network'}"
        raise UserError(what, where=path, hint="fetch it again, or give the file of this network")
    if not as_noted(path):
        what = f"damaged: its SHA-256 is not the one in {digest_file(path).name}"
        raise UserError(what, where=path, hint="copy or fetch it again; delete that note if the file is another one")
    values = torch.from_numpy(np.fromfile(path, "<f4", offset=header.nbytes))
    parts = values.split([tensor.numel() for tensor in tensors(model)])
    if not values.isfinite().all() or any(bool((parts[at] < 0).any()) for at in variances(model)):
        what = "damaged: holds numbers that are not finite, or variances below 0"
        raise UserError(what, where=path, hint="copy or fetch it again")
    for tensor, own in zip(tensors(model), parts, strict=True):
        tensor.copy_(own.view(tensor.shape))
    return header


def variances(model: Backbone | YOLOv3) -> list[int]:
    """Which of the tensors of a file are variances of BatchNorm."""
    own = {id(norm.running_var) for _, norm in convolutions(model) if norm is not None}
    return [at for at, tensor in enumerate(tensors(model)) if id(tensor) in own]


def write_darknet(path: Path, model: Backbone | YOLOv3, header: Header | None = None) -> None:
    """Write a model's weights, whole or not at all, and their SHA-256 beside them."""
    header = header or Header()
    digest_file(path).unlink(missing_ok=True)  # it would be of an older file, for a moment
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.array([header.major, header.minor, header.revision], "<i4").tofile(file)
        np.array([header.seen], header.seen_type).tofile(file)
        for tensor in tensors(model):
            tensor.detach().cpu().contiguous().numpy().astype("<f4").tofile(file)
    write_text(digest_file(path), f"{sha256_of(path)}  {path.name}\n")
