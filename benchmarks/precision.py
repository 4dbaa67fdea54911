"""Training speed of the full-width detector: bf16 against fp32, in one run, in turns. Prints JSON lines.

`python -m benchmarks.precision --imgsz 128 --batch-size 16`
"""

import argparse
import json
import statistics
import time

import torch

from models.backbones import make_backbone
from models.decode import Decoder
from models.loss import YOLOLoss
from models.yolov3 import YOLOv3, scaled_anchors
from utils.boxes import Truth
from utils.errors import run_cli

CLASSES = 20


def one_step(model: YOLOv3, criterion: YOLOLoss, images: torch.Tensor, truth: Truth, *, bf16: bool) -> float:
    """Seconds of a forward and backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        raw_maps = model(images)
    torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - began


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
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for repeat in range(arguments.repeats + 1):
        for bf16, times in seconds.items():
            spent = one_step(model, criterion, images, truth, bf16=bf16)
            if repeat:
                times.append(spent)
    medians = {bf16: statistics.median(times) for bf16, times in seconds.items()}
    ratio = medians[False] / medians[True]
    line = {
        "figure": f"bf16 over fp32, training throughput, {arguments.imgsz} px, batch {arguments.batch_size}",
        "value": round(ratio, 3),
        "target": 1.0,
        "holds": ratio > 1,
        "floor": None,
        "against": f"fp32, torch {torch.__version__}, {torch.get_num_threads()} threads",
        "images_per_second": {
            name: round(arguments.batch_size / medians[bf16], 2) for name, bf16 in (("bf16", True), ("fp32", False))
        },
    }
    print(json.dumps(line))


if __name__ == "__main__":
    run_cli(main)
