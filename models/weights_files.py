"""Weights from elsewhere, of whatever format, as the content of a backbone file; nothing in a file is ever run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.anatomy import Dissected
from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.darknet import DarkNet
from models.darknet_weights import is_darknet, read_darknet
from models.torchvision_backbones import FILES, names_in_torchvision
from models.trained import load_darknet
from utils import checkpoint
from utils.contents import check_tensor, checked
from utils.errors import UserError
from utils.paths import is_file
from utils.tables import Entry, Table

Content = dict[str, Any]
# Below which key a training program puts the weights, and what it puts before their names.
NESTED = ("state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema")
PREFIXES = ("", "module.", "model.", "timm_model.", "backbone.", "module.model.", "model.backbone.", "_orig_mod.")
COUNTED = "num_batches_tracked"  # older files lack it, and it decides nothing


@dataclass(frozen=True)
class ReaderEntry(Entry):
    """A format of weight files.

    Attributes:
        fits: whether a file has it, by its name.
        read: path, backbone, width → what a backbone file would say, its weights under `model`; under `rest` those of
            a detector's neck and heads, if it holds some, with its names, anchors and imgsz.
    """

    fits: Callable[[Path], bool]
    read: Callable[[Path, str, float], Content]


@dataclass(frozen=True)
class Beginning:
    """Weights that a run begins with.

    Attributes:
        sha256: of the file.
    """

    path: Path
    sha256: str
    content: Content

    @property
    def identity(self) -> dict[str, str]:
        """What checkpoints say of it."""
        return {"file": self.path.name, "sha256": self.sha256}


def read_weights(path: Path, name: str, width: float = 1.0) -> Content:
    """Weights of a backbone from a file.

    Args:
        name, width: of the backbone.

    Raises:
        UserError: missing, damaged, a pickle, or of another network; says which weight is the first that does not fit.
    """
    if not is_file(path):
        raise UserError("no such weight file", where=path, hint="check the path")
    entry = BACKBONES.pick(name)
    if entry.lender and not is_own(path, name):
        return lent(path, entry.lender, entry.lent, name, width)
    reader = next(reader for reader in READERS.values() if reader.fits(path))
    content = reader.read(path, name, width)
    for key, wanted in (("backbone", name), ("width", width)):
        if content[key] != wanted:
            raise UserError(f"{key} is {content[key]}, not {wanted}", where=path, hint=f"give --{key} {content[key]}")
    return content


def is_own(path: Path, name: str) -> bool:
    """Whether a file is a checkpoint of this project of a backbone."""
    return path.suffix == ".pt" and checkpoint.load_tensors(path).get("backbone") == name


def lent(path: Path, lender: str, blocks: int, name: str, width: float) -> Content:
    """The first blocks of another network, for one that begins with them.

    Raises:
        UserError: the file is none of that network.
    """
    model = {key: own for key, own in read_weights(path, lender)["model"].items() if int(key.split(".")[1]) < blocks}
    return whole_backbone(name, "elsewhere", model, width)


def whole_backbone(name: str, method: str, model: Mapping[str, Tensor], width: float = 1.0) -> Content:
    """What a backbone file would say of one that was trained in one piece elsewhere."""
    blocks = 1 + max(int(key.split(".")[1]) for key in model)
    return {"backbone": name, "width": width, "method": method, "splits": [[0, blocks]], "model": dict(model)}


def of_darknet(path: Path, name: str, width: float) -> Content:
    """A file of darknet, of DarkNet-53 alone or of YOLOv3 on it.

    Raises:
        UserError: neither of the two, or not whole.
    """
    if path.suffix == ".weights":
        own = load_darknet(path)
        known = {"anchors": own.settings.anchors, "imgsz": own.imgsz}
        if own.names[0] != "0":  # else nobody knows them
            known["names"] = own.names
        return known | of_detector(own.model.state_dict(), "darknet53", 1.0, "darknet")
    backbone: Backbone = DarkNet()
    read_darknet(path, backbone)
    return whole_backbone("darknet53", "darknet", backbone.state_dict())


def of_detector(state: Mapping[str, Tensor], name: str, width: float, method: str) -> Content:
    """The backbone of a detector, and the rest of it."""
    own = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    return {**whole_backbone(name, method, own, width), "rest": rest}


def of_torch(path: Path, name: str, width: float) -> Content:
    """A checkpoint of this project, or a file of weights by name as torchvision and timm publish them.

    Raises:
        UserError: a pickle, damaged, of another kind or another network.
    """
    content = checkpoint.load_tensors(path)
    kind = content.get("kind")
    if kind is None:
        return of_names(content, path, name, width)
    if kind in ("detector", "segmenter", "backbone"):
        content = checked(content, kind, path)
    if kind in ("detector", "segmenter"):
        known = {key: content[key] for key in ("names", "anchors", "imgsz", "lesson") if key in content}
        return known | of_detector(content["model"], content["backbone"], content["width"], kind)
    if kind != "backbone":
        raise UserError(f"holds `{kind}`, not `backbone`", where=path, hint="give a backbone or detector checkpoint")
    return content


def of_safetensors(path: Path, name: str, width: float) -> Content:
    """A file of timm's, as it is on the Hugging Face hub.

    Raises:
        UserError: damaged, or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"is no whole safetensors file ({error})", where=path, hint="fetch it again") from error
    return of_names(state, path, name, width)


def of_names(content: Mapping[str, Any], path: Path, name: str, width: float) -> Content:
    """Weights under the names that the backbone's own library gives them.

    Raises:
        UserError: no other library has this backbone; a weight is missing, or has another shape.
    """
    names, own = names_elsewhere(name, width)
    state = weights_in(content, next(iter(names.values())))
    found = {}
    for mine, theirs in names.items():
        if theirs not in state and theirs.endswith(COUNTED):
            found[mine] = torch.zeros((), dtype=torch.long)
            continue
        if theirs not in state:
            raise UserError(f"has no `{theirs}`", where=path, hint=f"give a file of {name}, or another --backbone")
        if state[theirs].shape != own[mine].shape:
            shapes = f"`{theirs}` is {tuple(state[theirs].shape)}, not {tuple(own[mine].shape)}"
            raise UserError(shapes, where=path, hint=f"give a file of {name}, or another --backbone")
        check_tensor(theirs, state[theirs], path)
        found[mine] = state[theirs]
    return whole_backbone(name, "elsewhere", found, width)


def names_elsewhere(name: str, width: float) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What the library that a backbone comes from calls each of its weights, and the weights, without values.

    Raises:
        UserError: it comes from none.
    """
    with torch.device("meta"):
        backbone = make_backbone(name, width)
    if isinstance(backbone, Dissected):
        return backbone.names, backbone.state_dict()
    if name in FILES:
        return names_in_torchvision(name, backbone), backbone.state_dict()
    hint = f"give --backbone timm/MODEL, torchvision/MODEL, {', '.join(FILES)}"
    raise UserError(f"no other library has {name}", where="--backbone", hint=hint)


def weights_in(content: Mapping[str, Any], first: str) -> dict[str, Any]:
    """The weights in a file by their plain names, wherever it keeps them and whatever comes before the names.

    Args:
        first: a name that should be there.
    """
    places = [content, *(content[key] for key in NESTED if isinstance(content.get(key), dict))]
    for state in places:
        for prefix in PREFIXES:
            if prefix + first in state:
                cut = len(prefix)
                return {key[cut:]: own for key, own in state.items() if key.startswith(prefix)}
    return {key: own for key, own in places[-1].items() if isinstance(own, Tensor)}


READERS = Table(
    "format of weights",
    "--init",
    (
        ReaderEntry("darknet", "darknet: .weights, .conv.74", is_darknet, of_darknet),
        ReaderEntry(
            "safetensors",
            "timm and Hugging Face: .safetensors",
            lambda path: path.suffix == ".safetensors",
            of_safetensors,
        ),
        ReaderEntry("torch", "this project: .pt; torchvision and timm: .pth, .bin", lambda path: True, of_torch),
    ),
)
