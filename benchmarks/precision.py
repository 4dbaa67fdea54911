"""Training speed of the full-width detector: bf16 against fp32, in one run, in turns. Prints JSON lines.

`python -m benchmarks.precision --imgsz 128 --batch-size 16`
"""

import argparse

import torch

from benchmarks.figures import in_turns, show
from models.backbones import make_backbone
from models.decode import Decoder
from models.loss import YOLOLoss
from models.yolov3 import YOLOv3, scaled_anchors
from utils.boxes import Truth
from utils.errors import run_cli

CLASSES = 20


def one_step(model: YOLOv3, criterion: YOLOLoss, images: torch.Tensor, truth: Truth, *, bf16: bool) -> None:
    """A forward and backward pass."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        raw_maps = model(images)
    torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()
    model.zero_grad(set_to_none=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Training speed in bf16 against fp32 on this CPU, as JSON lines.")
    parser.add_argument("--imgsz", type=int, default=128, help="side of the input [128]")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each, after a warm-up [5]")
    arguments = parser.parse_args()
    model = YOLOv3(make_backbone("darknet53"), CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion = YOLOLoss(Decoder(scaled_anchors(arguments.imgsz)))
    shape = (arguments.batch_size, 3, arguments.imgsz, arguments.imgsz)
    images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    side = arguments.imgsz / 2
    truth = Truth(torch.tensor([[0.0, 0.0, side, side]]), torch.tensor([1]), torch.tensor([0]))
    sides = {
        name: lambda bf16=name == "bf16": one_step(model, criterion, images, truth, bf16=bf16)
        for name in ("bf16", "fp32")
    }
    seconds = in_turns(sides, arguments.repeats)
    figure = f"bf16 over fp32, training throughput, {arguments.imgsz} px, batch {arguments.batch_size}"
    rates = {name: round(arguments.batch_size / own, 2) for name, own in seconds.items()}
    show(figure, seconds["fp32"] / seconds["bf16"], 1.0, "fp32", images_per_second=rates)


if __name__ == "__main__":
    run_cli(main)
