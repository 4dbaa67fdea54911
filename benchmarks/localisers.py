"""Speed of the other papers' localisers, in one run with what they are compared with. Prints JSON lines.

`python -m benchmarks.localisers`
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.figures import in_turns, show
from maps.kinds import Explained
from models.backbones import make_backbone
from models.heads import make_head
from models.inference import fold_batchnorm
from utils.errors import run_cli
from utils.parser import Parser
from wsol.box_accuracy import DELTAS, box_accuracy
from wsol.linear_boxes import LinearBoxes, flattened
from wsol.sensitivity import class_sensitivity

CLASSES, SIDE, THRESHOLDS = 1000, 64, 1000


def sensitivity(repeats: int, imgsz: int) -> None:
    """Image → class → map → box, over a plain pass of the same network; one image at a time."""
    backbone = make_backbone("darknet53").eval()
    fold_batchnorm(backbone)
    network = Explained(backbone, [23], [make_head("gap", (backbone.channels[-1], imgsz // 32, imgsz // 32), CLASSES)])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last)
    draw = np.random.default_rng(0)
    linear = LinearBoxes(draw.normal(size=(imgsz**2, 4)).astype(np.float32), np.zeros(4, np.float32))

    def plain() -> None:
        with torch.inference_mode():
            network(image)

    def localised() -> np.ndarray:
        return linear(flattened(class_sensitivity(network, image).numpy()))

    seconds = in_turns({"plain": plain, "localised": localised}, repeats)
    ratio = seconds["localised"] / seconds["plain"]
    title = f"sensitivity, DarkNet-53, {imgsz} px: class, map and box, time over a forward pass"
    show(title, ratio, 2.5, "the same network", least=False, seconds=round(seconds["localised"], 4))


def evaluator(count: int) -> None:
    """MaxBoxAccV2 from the levels that there are, over the published algorithm with its thousand thresholds."""
    draw = np.random.default_rng(0)
    maps = gaussian_filter(draw.normal(size=(count, SIDE, SIDE)), (0, 5, 5))
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    maps = (maps - low) / (high - low)
    corners = np.sort(draw.integers(0, SIDE, (count, 2, 2)), 1).reshape(count, 4).astype(float)
    boxes = list(corners[:, None])
    found: dict[str, float] = {}

    def ours() -> None:
        found["ours"] = box_accuracy(maps, boxes).best

    def published() -> None:
        found["published"] = every_threshold(maps, boxes)

    seconds = in_turns({"ours": ours, "published": published}, 1, warm_up=False)
    title = f"MaxBoxAccV2 of {count} maps, time over {THRESHOLDS} thresholds"
    ratio, apart = seconds["ours"] / seconds["published"], abs(found["ours"] - found["published"])
    slow = round(seconds["published"])
    show(title, ratio, 1 / 4, "the published algorithm", least=False, difference=apart, seconds_published=slow)


def every_threshold(maps: np.ndarray, boxes: Sequence[np.ndarray]) -> float:
    """The published algorithm, written down from its description: every threshold of every map by itself."""
    hits = np.zeros((len(DELTAS), THRESHOLDS))
    for one, own in zip(maps, boxes, strict=True):
        levels = (one * 255).astype(np.uint8)
        best = np.array(
            [best_overlap(levels, int(place / THRESHOLDS * levels.max()), own) for place in range(THRESHOLDS)]
        )
        hits += best >= np.array(DELTAS)[:, None]
    return float((hits / len(maps)).max(1).mean())


def best_overlap(levels: np.ndarray, threshold: int, boxes: np.ndarray) -> float:
    """IoU of the best contour with the best true box, corners included."""
    height, width = levels.shape
    binary = cv2.threshold(levels, threshold, 255, cv2.THRESH_BINARY)[1]
    contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    guesses = np.zeros((1, 4))
    if contours:
        x, y, w, h = np.array([cv2.boundingRect(contour) for contour in contours]).T
        guesses = np.stack([x, y, np.minimum(x + w, width - 1), np.minimum(y + h, height - 1)], 1)
    low, high = (
        np.maximum(guesses[:, None, :2], boxes[None, :, :2]),
        np.minimum(guesses[:, None, 2:], boxes[None, :, 2:]),
    )
    shared = np.clip(high - low + 1, 0, None).prod(2)
    areas = [(own[:, 2:] - own[:, :2] + 1).prod(1) for own in (guesses, boxes)]
    return float((shared / (areas[0][:, None] + areas[1] - shared)).max())


PARTS = ("sensitivity", "evaluator")


def main() -> None:
    """Measure what is asked for."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=15, help="measured turns of each side [15]")
    parser.add_argument("--imgsz", type=int, default=224, help="side of the images of sensitivity [224]")
    parser.add_argument("--maps", type=int, default=10_000, help="of the evaluator [10000]")
    arguments = parser.parse_args()
    if "sensitivity" in arguments.only:
        sensitivity(arguments.repeats, arguments.imgsz)
    if "evaluator" in arguments.only:
        evaluator(arguments.maps)


if __name__ == "__main__":
    run_cli(main)
