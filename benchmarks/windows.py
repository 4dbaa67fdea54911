"""Scores of all windows of a picture by a convolutionized AlexNet, and by cutting every window out.

`python -m benchmarks.windows --json results/windows.json`: torchvision's AlexNet with random weights, 1,000 classes, a
picture of 512 px, in seconds of the processor. Without padding each window has the scores of its crop; with padding, as
AlexNet has it, a window sees its surroundings in the place of zeros, and the difference is given. Windows are 32 pixels
apart, as the features do.
"""

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import alexnet

from benchmarks.figures import Turn, in_turns, show
from models.convolutional import convolutionize
from utils.errors import run_cli
from utils.files import write_text
from utils.flags import positive
from utils.parser import Parser

WINDOW, BARE_WINDOW = 224, 355  # sides that give AlexNet 6 × 6 cells, with its padding and without
STRIDE = 32


def network(*, padded: bool) -> nn.Module:
    """AlexNet, perhaps without the padding of its convolutions."""
    torch.manual_seed(0)
    model = alexnet(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not padded:
            module.padding = (0, 0)
    return model.requires_grad_(False)


def crops(picture: Tensor, window: int, places: tuple[int, int]) -> Tensor:
    """[rows · columns, 3, window, window] of a picture [1, 3, S, S]."""
    rows, columns = places
    corners = [(STRIDE * y, STRIDE * x) for y in range(rows) for x in range(columns)]
    return torch.cat([picture[..., y : y + window, x : x + window] for y, x in corners])


@torch.inference_mode()
def compare(side: int, repeats: int, *, padded: bool) -> None:
    """Time both, one picture at a time, and compare the scores of each window with those of its crop."""
    model, window = network(padded=padded), WINDOW if padded else BARE_WINDOW
    with torch.inference_mode(mode=False):
        dense = convolutionize(model, (window, window))
    picture = torch.rand(1, 3, side, side)
    scores = dense(picture)[0]
    places = (scores.shape[1], scores.shape[2])
    parts = crops(picture, window, places)
    apart = float((scores.flatten(1).T - model(parts)).abs().max())
    sides: dict[str, Turn] = {
        "dense": lambda: dense(picture),
        "one by one": lambda: [model(crop[None]) for crop in parts],
        "together": lambda: model(parts),
    }
    seconds = in_turns(sides, repeats, clock=time.process_time)
    name = "AlexNet" if padded else "AlexNet without padding"
    more: dict[str, Any] = {"windows": len(parts), "window": window, "side": side, "apart": apart}
    more |= {f"seconds {key}": round(own, 4) for key, own in seconds.items()}
    for way in ("one by one", "together"):
        against = f"{len(parts)} crops of {window} px, {way}"
        show(f"{name}, {side} px: times as fast as {against}", seconds[way] / seconds["dense"], 10, against, **more)
    show(f"{name}: largest difference of a score", apart, 1e-5, "the crops", least=False, **more)


def main() -> None:
    """Measure, print and write."""
    parser = Parser(description=__doc__.partition("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=positive, default=512, help="of the picture, pixels [512]")
    parser.add_argument("--padding", choices=("both", "with", "without"), default="both", help="of AlexNet [both]")
    parser.add_argument("--repeats", type=positive, default=5, help="turns of each [5]")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for padded in {"both": (True, False), "with": (True,), "without": (False,)}[arguments.padding]:
            compare(arguments.side, arguments.repeats, padded=padded)
    print(said.getvalue(), end="")
    if arguments.json:
        write_text(arguments.json, said.getvalue())


if __name__ == "__main__":
    run_cli(main)
