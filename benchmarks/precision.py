"""Training speed of the full-width detector: bf16 against fp32, in one run, in turns. Prints JSON lines.

`python -m benchmarks.precision --imgsz 128 --batch-size 16`; on a GPU, with the memory that a step takes beside the
weights: `python -m benchmarks.precision --device cuda --imgsz 416 --batch-size 32`
"""

from typing import Any

import torch

from benchmarks.figures import in_turns, show
from benchmarks.workload import make_detector
from models.decode import Decoder
from models.loss import YOLOLoss
from models.yolov3 import YOLOv3, scaled_anchors
from utils.boxes import Truth
from utils.device import pick_device
from utils.errors import run_cli
from utils.parser import Parser
from wsol.cost import peak_bytes

CLASSES = 20
KINDS = {"bf16": "bfloat16", "fp32": "float32"}
MATRIX = 2048  # rows and columns of the product that states how fast the machine multiplies


def one_step(model: YOLOv3, criterion: YOLOLoss, images: torch.Tensor, truth: Truth, *, bf16: bool) -> None:
    """A forward and backward pass; on a GPU, to its end."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        raw_maps = model(images)
    torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()
    model.zero_grad(set_to_none=True)
    if images.is_cuda:
        torch.cuda.synchronize()


def matrix_speed(device: str, side: int, repeats: int) -> dict[str, float]:
    """10¹² floating-point operations a second of a product of two square matrices, by the name of the precision."""
    matrices = {name: torch.rand(side, side, device=device, dtype=getattr(torch, name)) for name in KINDS.values()}

    def product(own: torch.Tensor) -> None:
        own @ own
        if own.is_cuda:
            torch.cuda.synchronize()

    sides = {name: lambda own=matrices[kind]: product(own) for name, kind in KINDS.items()}
    return {name: round(2 * side**3 / own / 1e12, 3) for name, own in in_turns(sides, repeats).items()}


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Training speed in bf16 against fp32, as JSON lines.")
    parser.add_argument("--imgsz", type=int, default=128, help="side of the input [128]")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--width", type=float, default=1.0, help="factor on all channel counts [1]")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each, after a warm-up [5]")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda [cpu]")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    model = make_detector(arguments.width, CLASSES).to(device)
    criterion = YOLOLoss(Decoder(scaled_anchors(arguments.imgsz))).to(device)
    shape = (arguments.batch_size, 3, arguments.imgsz, arguments.imgsz)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    side = arguments.imgsz / 2
    truth = Truth(*(torch.tensor(own, device=device) for own in ([[0.0, 0.0, side, side]], [1], [0])))
    sides = {
        name: lambda bf16=name == "bf16": one_step(model, criterion, images, truth, bf16=bf16)
        for name in ("bf16", "fp32")
    }
    seconds = in_turns(sides, arguments.repeats)
    figure = f"bf16 over fp32, training throughput, {arguments.imgsz} px, batch {arguments.batch_size}"
    more: dict[str, Any] = {
        "images_per_second": {name: round(arguments.batch_size / own, 2) for name, own in seconds.items()},
        "matrix_teraflops": matrix_speed(device, MATRIX, arguments.repeats),
    }
    against = "fp32"
    if device == "cuda":
        against = f"fp32, {torch.cuda.get_device_name()}"
        more["peak_gib"] = {name: round(peak_bytes(side) / 2**30, 2) for name, side in sides.items()}
    show(figure, seconds["fp32"] / seconds["bf16"], 1.0, against, **more)


if __name__ == "__main__":
    run_cli(main)
