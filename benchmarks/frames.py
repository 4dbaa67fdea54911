"""Where cells of other people's networks look: measured frames against numerical receptive fields. Prints JSON lines.

`python -m benchmarks.frames`. The numbers come from the untouched network with random weights: from a row on, an image
is not a number; a cell that looks there is none either. Bisection gives the first and the last row of its field. What
is pooled from the whole image is kept finite. timm: see requirements-dev.txt.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.figures import show
from maps.frame import Frame
from maps.receptive import is_over_image
from maps.tapped import Tapped
from utils.errors import UserError, run_cli
from utils.files import write_text
from utils.parser import Parser

NARROW, LENGTHS = (32, 64), (1024, 2048, 4096)
STRIDE = 65  # a cell's field begins and ends less than so many pixels behind that of the cell before
HALF = 0.5  # pixel

# Name → layers, early and late. torchvision's names begin with tv/.
MODELS: dict[str, tuple[str, ...]] = {
    "tv/alexnet": ("features.4", "features.11"),
    "tv/vgg11": ("features.19",),
    "tv/resnet18": ("layer2", "layer4"),
    "tv/resnext50_32x4d": ("layer4",),
    "tv/googlenet": ("inception3b", "inception5b"),
    "tv/inception_v3": ("Mixed_7c",),
    "tv/mobilenet_v2": ("features.6", "features.18"),
    "tv/efficientnet_b0": ("features.3", "features.8"),
    "tv/convnext_tiny": ("features.5",),
    "tv/densenet121": ("features.denseblock3",),
    "tv/squeezenet1_1": ("features.4", "features.12"),
    "tv/shufflenet_v2_x0_5": ("stage2", "conv5"),
    "tv/mnasnet0_5": ("layers.8", "layers.16"),
    "tv/regnet_y_400mf": ("trunk_output.block1", "trunk_output.block3"),
    "resnet18": ("layer2", "layer4"),
    "resnet26d": ("layer2", "layer4"),
    "resnetv2_50": ("stages.3",),
    "res2net50_26w_4s": ("layer3",),
    "convnext_atto": ("stages.1", "stages.3"),
    "convnextv2_atto": ("stages.1", "stages.3"),
    "efficientnet_lite0": ("blocks.2", "blocks.6"),
    "tf_efficientnet_lite0": ("blocks.2", "blocks.6"),
    "mobilenetv3_small_050": ("blocks.1", "blocks.4"),
    "mobilenetv4_conv_small_035": ("blocks.1", "blocks.4"),
    "regnetx_002": ("s2", "s4"),
    "darknet17": ("stages.4",),
    "cspresnet50": ("stages.3",),
    "dla34": ("level5",),
    "repvgg_a0": ("stages.3",),
    "ghostnet_050": ("blocks.2", "blocks.6"),
    "selecsls42": ("features.4",),
    "ese_vovnet19b_dw": ("stages.1", "stages.3"),
    "poolformer_s12": ("stages.1", "stages.3"),
    "lcnet_050": ("blocks.2", "blocks.5"),
    "tinynet_e": ("blocks.2", "blocks.6"),
    "swin_tiny_patch4_window7_224": ("layers.0", "layers.3"),
    "vit_tiny_patch16_224": ("blocks.0", "blocks.11"),
}


class Finite(TorchFunctionMode):
    """Inside, what is pooled from the whole image is a number, and norms over it change nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("group_norm", "instance_norm"):
            return args[0]
        found = func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        pooled = name.startswith("adaptive") or (name in ("mean", "norm") and is_over_image(found, args[1:], kwargs))
        return torch.nan_to_num(found) if pooled else found


def make(name: str) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(0)
    if name.startswith("tv/"):
        extra = {"init_weights": False} if name in ("tv/googlenet", "tv/inception_v3") else {}
        found: nn.Module = torchvision.models.get_model(name[3:], weights=None, **extra)
        return found.eval()
    import timm

    return timm.create_model(name).eval()


def side_of(name: str) -> int:
    """Of the images that a network is made for."""
    return 299 if name == "tv/inception_v3" else 224


@dataclass(frozen=True)
class Blinded:
    """A layer, shown images of which some rows are no numbers.

    Args:
        maps: images → maps [B, C, h, w].
        size: of the images.
    """

    maps: Callable[[Tensor], Tensor]
    size: tuple[int, int]

    def sees(self, cell: int, rows: slice) -> bool:
        """Whether a cell of the middle column is no number where these rows are none."""
        image = torch.rand(1, 3, *self.size, generator=torch.Generator().manual_seed(0))
        image[:, :, rows] = torch.nan
        with torch.no_grad(), Finite():
            found = self.maps(image)
        return bool(found[0, :, cell, found.shape[3] // 2].isnan().any())

    def last(self, cell: int, low: int, high: int) -> int:
        """The last row that a cell depends on, from low on and before high."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.sees(cell, slice(middle, None)) else (low, middle)
        return low

    def first(self, cell: int, low: int, high: int) -> int:
        """The first one, behind low and up to high."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.sees(cell, slice(0, middle + 1)) else (middle, high)
        return high


def middles(layer: Blinded, cell: int) -> list[tuple[int, float]] | None:
    """A cell and the next, with the middles of their fields; None where the first one's reaches to the edge."""
    length = layer.size[0]
    first, last = layer.first(cell, -1, length - 1), layer.last(cell, 0, length)
    if first == 0 or last == length - 1:
        return None
    behind = cell + 1, min(length, last + STRIDE), min(length - 1, first + STRIDE)
    then = layer.first(behind[0], first - 1, behind[2]), layer.last(behind[0], last, behind[1])
    return [(cell, (first + last) / 2), (behind[0], sum(then) / 2)]


def numerical(network: Tapped, layer: int, side: int) -> list[tuple[int, float]] | str:
    """Two cells and the middles of their fields, or what they see."""

    def run(images: Tensor) -> Tensor:
        return network.activations(images)[layer]

    def takes(width: int) -> bool:
        try:
            with torch.no_grad():
                return run(torch.zeros(1, 3, LENGTHS[0], width)).numel() > 0
        except Exception:  # of the network
            return False

    error, across = "takes no other size", next(filter(takes, NARROW), side)
    for length in LENGTHS:
        size = side + 256 * -(-(length - side) // 256), across
        try:
            with torch.no_grad():
                cell = run(torch.zeros(1, 3, *size)).shape[2] // 2
            if found := middles(Blinded(run, size), cell):
                return found
            error = f"sees to the edge of {size[0]} px"
        except Exception as own:  # of the network
            error = f"takes no other size ({type(own).__name__})"
    return error


def judged(name: str) -> Iterator[dict[str, Any]]:
    """A row for each layer of a network: the measured frame, the numbers, and whether they agree."""
    network, side = Tapped(make(name), MODELS[name]), side_of(name)
    for layer, own in enumerate(MODELS[name]):
        began = time.process_time()
        try:
            frame: Frame | str = network.frame(layer, (side, side))
        except UserError as error:
            frame = re.sub(r" — .*", "", str(error))
        seconds = time.process_time() - began
        known = numerical(network, layer, side)
        row = {"model": name, "layer": own, "seconds": round(seconds, 3)}
        if isinstance(frame, Frame) and not isinstance(known, str):
            apart = max(abs(frame.stride * cell + frame.offset - middle) for cell, middle in known)
            yield row | {"frame": frame.about, "apart": apart, "holds": apart <= HALF}
        elif isinstance(frame, Frame):
            yield row | {"frame": frame.about, "numerical": known, "holds": False}
        else:
            yield row | {"refused": frame, "numerical": known, "holds": isinstance(known, str)}


def main() -> None:
    """Compare, print and write."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help="[all]")
    parser.add_argument("--json", type=Path, help="write rows and figures to this file")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in arguments.models:
        for row in judged(name):
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    framed = {row["model"] for row in rows if "frame" in row}
    share = sum(row["holds"] for row in rows) / len(rows)
    show(
        "frames equal to numerical ones to half a pixel, or refused", share, 1.0, "bisection with NaN", layers=len(rows)
    )
    show("models with a frame", len(framed), 30, "bisection with NaN", models=len(arguments.models))
    if arguments.json:
        write_text(arguments.json, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    run_cli(main)
