"""Parameters of the standard networks and of residual blocks, beside what the lecture's slides say of them.

`python -m benchmarks.parameters --json results/parameters.json --markdown results/parameters.md` (nothing is computed
with: a few seconds). *Whole*: with its classifier, as torchvision has it or as the slides list its layers. *Here*: the
blocks that are split and pre-trained, without a classifier. *MACs*: multiply-accumulates on one picture, in thousand
millions, which He et al. call FLOPs.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision import models as peers
from torchvision.models import resnet

from models.backbones import make_backbone
from models.plan import head_macs
from utils.errors import run_cli
from utils.files import json_text, write_text
from utils.parser import Parser
from utils.text import as_markdown


@dataclass(frozen=True)
class Standard:
    """A network of the slides.

    Attributes:
        make: the whole of it.
        backbone: what it is called here.
        shape: channels, height, width of a picture.
        said: parameters, or multiply-accumulates in thousand millions, that slide or paper give.
    """

    name: str
    make: Callable[[], nn.Module]
    backbone: str
    said: str
    shape: tuple[int, int, int] = (3, 224, 224)


@dataclass(frozen=True)
class Network:
    """What was counted of a network."""

    network: str
    backbone: str
    whole: int
    here: int
    gmacs: float
    said: str


@dataclass(frozen=True)
class Block:
    """What was counted of a residual block: the slides' convolutions, and torchvision's block with its BatchNorm."""

    block: str
    slides: int
    said: str
    torchvision: int


def lenet5() -> nn.Module:
    """The layers of the slides, in grey; the first linear one takes 400 numbers, which pictures of 32 × 32 give."""
    features = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    layers = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, nn.Flatten(), *layers)


def nin() -> nn.Module:
    """With its last convolution as in the paper, whose ten maps are the classes."""
    backbone = make_backbone("nin")
    backbone.blocks[2].conv3 = nn.Conv2d(192, 10, 1)  # type: ignore[union-attr]
    return nn.Sequential(*backbone.blocks)


def of_torchvision(name: str, said: str, backbone: str = "") -> Standard:
    """A network of torchvision with 1,000 classes."""
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    make = peers.get_model_builder(name)
    return Standard(name, lambda: make(weights=None, **options), backbone or f"torchvision/{name}", said)


def with_auxiliary() -> nn.Module:
    """GoogLeNet as it is trained."""
    return peers.googlenet(weights=None, aux_logits=True, init_weights=False)


NETWORKS = (
    Standard("LeNet-5", lenet5, "lenet5", "layers listed", (1, 32, 32)),
    of_torchvision("alexnet", "layers listed; 60 million (paper)", "alexnet"),
    of_torchvision("vgg19", "layers listed; 144 million (paper)"),
    Standard("NIN (CIFAR-10)", nin, "nin", "–", (3, 32, 32)),
    of_torchvision("googlenet", "12 times fewer than AlexNet", "googlenet"),
    Standard("googlenet, auxiliary classifiers", with_auxiliary, "googlenet", "–"),
    *(
        of_torchvision(f"resnet{depth}", f"{gmacs} × 10⁹ FLOPs", "resnet50" if depth == 50 else "")
        for depth, gmacs in ((18, 1.8), (34, 3.6), (50, 3.8), (101, 7.6), (152, 11.3))
    ),
    of_torchvision("resnext50_32x4d", "about as many as ResNet-50"),
    of_torchvision("resnext101_32x8d", "–"),
)


def slides_block(channels: int, bottleneck: int = 0) -> nn.Module:
    """Convolutions of a block as the slides count them: a bias in those of 3 × 3."""
    if not bottleneck:
        return nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)))
    return nn.Sequential(
        nn.Conv2d(channels, bottleneck, 1, bias=False),
        nn.Conv2d(bottleneck, bottleneck, 3, padding=1),
        nn.Conv2d(bottleneck, channels, 1, bias=False),
    )


def counted(module: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def network(own: Standard) -> Network:
    """Count one."""
    whole = own.make().eval()
    here = counted(make_backbone(own.backbone))
    return Network(own.name, own.backbone, counted(whole), here, round(head_macs(whole, own.shape) / 1e9, 2), own.said)


def blocks() -> list[Block]:
    """The residual blocks of the slides."""
    return [
        Block("two 3×3, 64 channels", counted(slides_block(64)), "73k", counted(resnet.BasicBlock(64, 64))),
        Block("two 3×3, 256 channels", counted(slides_block(256)), "1.2m", counted(resnet.BasicBlock(256, 256))),
        Block("bottleneck, 256 to 64", counted(slides_block(256, 64)), "70k", counted(resnet.Bottleneck(256, 64))),
        Block(
            "ResNeXt: bottleneck, 32 paths of 4", 32 * counted(path_of_resnext()), "similar",
            counted(resnet.Bottleneck(256, 64, groups=32, base_width=4)),
        ),
    ]  # fmt: skip


def path_of_resnext() -> nn.Module:
    """One of 32 paths, counted as the bottleneck is."""
    return slides_block(256, 4)


def as_page(networks: list[Network], counts: list[Block]) -> str:
    """Both tables."""
    head = ["network", "`--backbone`", "whole", "here", "10⁹ MACs", "slides"]
    rows = [
        [own.network, f"`{own.backbone}`", f"{own.whole:,}", f"{own.here:,}", f"{own.gmacs:.2f}", own.said]
        for own in networks
    ]
    of_blocks = [[own.block, f"{own.slides:,}", own.said, f"{own.torchvision:,}"] for own in counts]
    blocks_head = ["residual block", "convolutions of the slides", "slides", "torchvision's, with BatchNorm"]
    return f"{as_markdown([head, *rows])}\n\n{as_markdown([blocks_head, *of_blocks])}\n"


def main() -> None:
    """Count, print and write."""
    parser = Parser(description=__doc__.partition("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    arguments = parser.parse_args()
    with torch.device("meta"):
        networks, counts = list(map(network, NETWORKS)), blocks()
    page = as_page(networks, counts)
    print(page, end="")
    if arguments.markdown:
        write_text(arguments.markdown, page)
    if arguments.json:
        found = {"networks": list(map(asdict, networks)), "blocks": list(map(asdict, counts))}
        write_text(arguments.json, json_text(found, 1))


if __name__ == "__main__":
    run_cli(main)
