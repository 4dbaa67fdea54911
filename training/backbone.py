"""Taking pre-trained weights over into a detector's backbone."""

from pathlib import Path
from typing import Any

from models.backbone import Backbone
from models.backbones import make_backbone
from models.darknet import DarkNet
from models.darknet_weights import is_darknet, read_darknet
from models.torchvision_backbones import FILES, read_torchvision
from models.yolov3_detector import load_darknet
from utils import checkpoint
from utils.config import Recipe
from utils.errors import UserError


def load_backbone(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Read a backbone file, or a weight file of darknet or torchvision, that fits the recipe.

    Raises:
        UserError: no whole file, or one of another backbone or width.
    """
    if path.suffix == ".pth":
        content = torchvision_backbone(path, recipe.backbone)
    else:
        content = darknet_backbone(path) if is_darknet(path) else checkpoint.load(path, "backbone")
    for key, wanted in (("backbone", recipe.backbone), ("width", recipe.width)):
        if content[key] != wanted:
            raise UserError(f"{key} is {content[key]}, not {wanted}", where=path, mend=f"give --{key} {content[key]}")
    return content


def darknet_backbone(path: Path) -> dict[str, Any]:
    """A file of darknet, of DarkNet-53 alone or of YOLOv3 on it, as the content of a backbone file.

    Raises:
        UserError: neither of the two, or not whole.
    """
    if path.suffix == ".weights":
        backbone: Backbone = load_darknet(path).model.backbone
    else:
        backbone = DarkNet()
        read_darknet(path, backbone)
    return whole_backbone("darknet53", "darknet", backbone)


def torchvision_backbone(path: Path, name: str) -> dict[str, Any]:
    """A weight file of torchvision for a backbone of that name, as the content of a backbone file.

    Raises:
        UserError: not whole, or of another network; torchvision has no such backbone.
    """
    if name not in FILES:
        raise UserError(f"torchvision has no {name}", where=path, mend=f"give --backbone {', '.join(FILES)}")
    backbone = make_backbone(name)
    read_torchvision(backbone, name, checkpoint.load_tensors(path), path)
    return whole_backbone(name, "torchvision", backbone)


def whole_backbone(name: str, method: str, backbone: Backbone) -> dict[str, Any]:
    """What a backbone file would say of one that was trained in one piece elsewhere."""
    splits = [[0, len(backbone.blocks)]]
    return {"backbone": name, "width": 1.0, "method": method, "splits": splits, "model": backbone.state_dict()}


def reuse_backbone(backbone: Backbone, path: Path, recipe: Recipe) -> None:
    """Load the blocks up to recipe.reuse_upto from a backbone file, and fix them if the recipe says so.

    Raises:
        UserError: there is no such block, or a cascade was not cut there: what its sub-modules hold inside was never
            trained to stand alone.
    """
    content, whole = load_backbone(path, recipe), len(backbone.blocks)
    count = whole if recipe.reuse_upto is None else int(recipe.reuse_upto.removeprefix("b"))
    cuts = [stop for _, stop in content["splits"]] if content["method"].startswith("cl") else list(range(1, whole + 1))
    if len(cuts) > 1 and count not in cuts:
        reached = ", ".join(f"b{cut}" for cut in cuts)
        what = f"no sub-module of {path.name} ends at b{count}"
        raise UserError(what, where="--reuse-upto", mend=f"give one of {reached}, or pre-train with other cuts")
    reused = {name: tensor for name, tensor in content["model"].items() if block_number(name) <= count}
    checkpoint.load_state(backbone, backbone.state_dict() | reused, path)
    if recipe.freeze:
        backbone.freeze(count)


def block_number(name: str) -> int:
    """1-based block of a parameter, whose name starts with `blocks.<index>`."""
    return int(name.split(".")[1]) + 1
