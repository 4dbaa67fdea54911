"""What a training step of the detector does beside its network, as a fraction of the step. Prints JSON lines.

`python -m benchmarks.step`: clipping, optimiser and average of the weights; as training does them, and as torch's own
functions do, in turns. Only the network's part grows with the images: the smaller they are, the more the rest weighs.
And the step of `cnn6`, which pads beforehand, over that of the same network of plain convolutions.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.figures import in_turns, show
from benchmarks.workload import make_detector, random_truth
from models.cnn6 import CNN6
from models.decode import Decoder
from models.loss import YOLOLoss
from models.yolov3 import YOLOv3, scaled_anchors
from training.update import Average, clip_gradients, make_optimizer
from utils.config import Phase
from utils.device import keep_memory, pick_precision
from utils.errors import run_cli
from utils.parser import Parser

Parts = dict[str, Callable[[], object]]
PASSES = 7  # AdamW reads weights, gradients and two moments, and writes all but the gradients
TARGET = 0.08
WIDTH = 0.25  # of cnn6, as the studies have it
BOUND = 0.1  # exceeded in every step, as the default is while a detector has much to learn


def network_part(model: YOLOv3, imgsz: int, batch: int, precision: str) -> Callable[[], None]:
    """Forward, loss, backward."""
    criterion, truth = YOLOLoss(Decoder(scaled_anchors(imgsz))), random_truth(imgsz, batch)
    images = torch.rand(batch, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last)

    def network() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            raw_maps = model(images)
        torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()

    return network


def both_ways(model: YOLOv3, phase: Phase, network: Callable[[], None]) -> dict[str, Parts]:
    """The parts of a step by name, in their order: as training does them, and as torch does."""
    optimizer, parameters = make_optimizer(model, phase), list(model.parameters())
    average = Average(model, phase.ema_decay, phase.ema_every)
    plain = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(phase.ema_decay), use_buffers=True)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "now": {
            "network": network,
            "clip": lambda: clip_gradients(optimizer, phase.clip),
            "optimizer": update,
            "average": lambda: average.take_in(model, phase.ema_every),
        },
        "torch": {
            "network": network,
            "clip": lambda: nn.utils.clip_grad_norm_(parameters, phase.clip),
            "optimizer": update,
            "average": lambda: plain.update_parameters(model),
        },
    }


def timed(sides: dict[str, Parts], repeats: int) -> dict[str, dict[str, float]]:
    """Least seconds of each part of each side, in turns; what else the machine does can only add to them."""
    least = {name: dict.fromkeys(parts, math.inf) for name, parts in sides.items()}
    for _ in range(repeats + 1):  # the first turn is the slowest anyway
        for name, parts in sides.items():
            for part, call in parts.items():
                began = time.perf_counter()
                call()
                least[name][part] = min(least[name][part], time.perf_counter() - began)
    return least


def padded_step(imgsz: int, batch: int, *, beforehand: bool) -> Callable[[], None]:
    """Forward and backward pass of the six-layer network, whose padding is as wide as its kernels."""
    network = CNN6(WIDTH)
    for block in network.blocks if not beforehand else ():
        own = block.get_submodule("conv")
        assert isinstance(own, nn.Conv2d)
        block.add_module("conv", nn.Conv2d(own.in_channels, own.out_channels, 3, padding=3))
    model = nn.Sequential(*network.blocks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=pick_precision("cpu") == "bf16"):
            found = model(images)
        found.float().mean().backward()

    return step


def bandwidth(size: int, repeats: int) -> float:
    """Bytes a second that a multiplication in place reads and writes, on so many numbers."""
    numbers = torch.ones(size)
    sides: dict[str, Parts] = {"both": {"multiply": lambda: numbers.mul_(1.0)}}
    return 2 * 4 * size / timed(sides, repeats)["both"]["multiply"]


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Parts of a training step of the detector, as JSON lines.")
    parser.add_argument("--imgsz", type=int, default=96, help="side of the input [96]")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--width", type=float, default=1.0, help="factor on all channel counts [1]")
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each side, after a warm-up [15]")
    given = parser.parse_args()
    torch.manual_seed(0)
    keep_memory()
    phase, precision, model = Phase(clip=BOUND), pick_precision("cpu"), make_detector(given.width)
    network = network_part(model, given.imgsz, given.batch_size, precision)
    found = timed(both_ways(model, phase, network), given.repeats)
    found["now"]["average"] /= phase.ema_every
    rate = bandwidth(size := sum(own.numel() for own in model.parameters()), given.repeats)
    at = f"{given.imgsz} px, batch {given.batch_size}, {precision}, width {given.width:g}"
    show_share(found["torch"], f"with torch's functions, {at}", PASSES * 4 * size, rate)
    show_share(found["now"], f"as training does it, {at}", PASSES * 4 * size, rate)
    sides = {name: padded_step(given.imgsz, given.batch_size, beforehand=name == "own") for name in ("own", "plain")}
    seconds = in_turns(sides, given.repeats)
    figure = f"training step of cnn6 that pads beforehand, {given.imgsz} px, batch {given.batch_size}, width {WIDTH:g}"
    show(f"{figure}, {precision}, time over nn.Conv2d's padding", seconds["own"] / seconds["plain"], 0.5, "nn.Conv2d",
         least=False)  # fmt: skip


def show_share(parts: dict[str, float], title: str, least_bytes: int, rate: float) -> None:
    """Print the share of what is not the network's; the floor is AdamW at the memory's bandwidth."""
    total, least = sum(parts.values()), least_bytes / rate
    shown = {part: round(1000 * own, 2) for part, own in parts.items()}
    figure, share = f"fraction of a training step beside the network, {title}", 1 - parts["network"] / total
    show(figure, share, TARGET, "the whole step", least=False,
         floor=round(least / (parts["network"] + least), 4), milliseconds=shown,
         gigabytes_a_second=round(rate / 1e9, 1))  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
