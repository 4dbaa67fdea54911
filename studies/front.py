"""The first picture of the README: a photograph, where a detector's features look at three depths, and its boxes.

`python -m studies.front --weights best.pt --picture photo.jpg --out results/front.png`
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maps.detector_network import ExplainedDetector, score_logits
from maps.evidence import Evidence
from maps.gradient_maps import layer_cam
from maps.overlay import overlaid
from models import load_detector
from models.inference import fold_batchnorm
from models.trained import TrainedDetector
from utils.errors import UserError, run_cli
from utils.flags import written_as
from utils.parser import Parser
from utils.pictures import pixels_of
from utils.plots import canvas, write_figure

DEPTHS = ("fine", "middle", "coarse")


def maps_of(detector: TrainedDetector, image: Tensor) -> list[np.ndarray]:
    """LayerCAM [h, w] at each tap, of the best answer, with the gradient of the whole network behind the tap.

    Args:
        image: [3, S, S] RGB in 0–1 at the detector's size.
    """
    fold_batchnorm(detector.model)
    network = ExplainedDetector(detector.model, detector.decoder)
    read = network.read(image[None].requires_grad_())
    answers = network.answers(read)
    best, label = divmod(int(answers.scores[0].argmax()), answers.scores.shape[-1])
    logit = score_logits(answers.objectness[0, best], answers.classes[0, best, label])
    found = []
    for tap, (own, by) in enumerate(zip(read, torch.autograd.grad(logit, read), strict=True)):
        raw = layer_cam(own.detach(), by)
        found.append(
            Evidence(raw.relu(), raw, network.frame(tap, image.shape[1:])).at(*image.shape[1:]).maps[0].numpy()
        )
    return found


def draw(detector: TrainedDetector, path: Path, out: Path) -> None:
    """Five panels: the photograph, three maps, the boxes.

    Raises:
        UserError: the picture is not square, or the detector finds nothing on it.
    """
    from matplotlib.patches import Rectangle

    photo = pixels_of(path, "front", detector.levels)
    found = detector.predict(path)
    if photo.shape[0] != photo.shape[1] or not len(found):
        raise UserError("no square picture with a detection", where=path, hint="give another one with --picture")
    side = detector.imgsz
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    small = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)[0]
    maps = maps_of(detector, small)
    titles = [f"{depth} features, block {tap}" for depth, tap in zip(DEPTHS, detector.model.taps, strict=True)]
    panels = [("photograph", photo), *zip(titles, (overlaid(photo, own) for own in maps), strict=True)]
    panels.append((f"found: {', '.join(dict.fromkeys(found.names))}", photo))
    figure, row = canvas(columns=len(panels), size=(11, 2.55))
    for axes, (title, panel) in zip(row[0], panels, strict=True):
        axes.imshow(panel)
        axes.set_title(title, fontsize=11)
        axes.axis("off")
    for x1, y1, x2, y2 in found.boxes_xyxy.tolist():
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="yellow", linewidth=2))
    write_figure(figure, out)


def main() -> None:
    """Parse, draw."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="detector checkpoint")
    parser.add_argument("--picture", type=Path, required=True, help="square photograph")
    parser.add_argument("--out", type=written_as(".png"), default=Path("results/front.png"), help="[results/front.png]")
    arguments = parser.parse_args()
    detector = load_detector(arguments.weights)
    if not isinstance(detector, TrainedDetector):
        raise UserError("no checkpoint", where=arguments.weights, hint="an exported file has no gradients")
    draw(detector, arguments.picture, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    run_cli(main)
