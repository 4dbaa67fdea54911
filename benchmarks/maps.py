"""Speed of the localisation study over the libraries that it could have called, in one run. Prints JSON lines.

`python -m benchmarks.maps`. The libraries are used as one would on a network with a classifier after each of six
blocks: once for every classifier. Captum, grad-cam, lime: see requirements-oracles.txt.
"""

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.figures import in_turns, show
from benchmarks.workload import write_scenes
from data.description import load_description
from data.formats import read_split
from data.views import View
from evaluation.accuracy import read_backbones
from maps.granulometry import disk, radii_for, spectrum, surviving_disks
from maps.kinds import Explained, grad_cams
from maps.lime import BATCH, SAMPLES, Perturbations, explain, superpixels
from maps.localise import Study
from maps.plan import Plan
from maps.prepare import prepare
from maps.study import run
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import make_plan
from utils import checkpoint
from utils.config import Recipe
from utils.errors import run_cli
from utils.parser import Parser

LAYERS, CLASSES = 6, 10
CASES = 2000  # that the time of the study is given for
MODELS = ("cl6", "e2e")
SLOWER = 3  # times its arithmetic at the speed of the widest convolution, at most


def network(width: float, imgsz: int) -> Explained:
    """The six-layer network with a classifier on each layer, untrained."""
    backbone = make_backbone("cnn6", width)
    plan = make_plan(backbone, LAYERS, imgsz)
    heads = [make_head("author", part.shape, CLASSES, convs=0).eval() for part in plan]
    found = Explained(backbone, range(1, LAYERS + 1), heads)
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Head(nn.Module):
    """One of the classifiers, for libraries that know one."""

    def __init__(self, whole: Explained, stage: int) -> None:
        super().__init__()
        self.whole, self.stage = whole, stage

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.whole(images)[self.stage]
        return found


def grad_cam(given: argparse.Namespace) -> None:
    """All layers in one pass, over a pass for each; the floor is one pass of the network without any map."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    imgsz, repeats = given.imgsz or 96, given.repeats
    whole = network(given.factor, imgsz)
    images, labels = torch.rand(8, 3, imgsz, imgsz), torch.randint(CLASSES, (8,))
    heads = [Head(whole, stage) for stage in range(LAYERS)]

    def captum() -> list[Tensor]:
        return [
            LayerGradCam(head, part).attribute(images, labels, relu_attributions=True).detach()[:, 0]
            for head, part in zip(heads, whole.parts, strict=True)
        ]

    def library() -> None:
        targets = [ClassifierOutputTarget(label) for label in labels.tolist()]
        for head, part in zip(heads, whole.parts, strict=True):
            with GradCAM(head, [part]) as own:
                own(images, targets)

    same = all(
        torch.equal(own.maps, other) for own, other in zip(grad_cams(whole, images, labels), captum(), strict=True)
    )
    whole.requires_grad_(True)  # grad-cam wants gradients of the network
    seconds = in_turns(
        {"ours": lambda: grad_cams(whole, images, labels), "captum": captum, "library": library}, repeats
    )
    with torch.inference_mode():
        once = in_turns({"pass": lambda: whole(images)}, repeats)["pass"]
    for name, title, target in (("captum", "captum", 1 / 8), ("library", "grad-cam", 1 / 10)):
        ratio, floor = seconds["ours"] / seconds[name], round(once / seconds[name], 4)
        figure = f"Grad-CAM, 6 layers, time over {title}"
        show(figure, ratio, target, title, least=False, floor=floor, seconds=round(seconds["ours"], 4))
    show("Grad-CAM, raw maps bit-equal to captum", float(same), 1.0, "captum")


def lime(given: argparse.Namespace) -> None:
    """All classifiers from one set of perturbed images, over a run of the package for each.

    The network is that of configs/tiny_imagenet_maps.yaml: the wider it is, the more of both is the same arithmetic.
    """
    from lime.lime_image import LimeImageExplainer

    imgsz, repeats, count = given.imgsz or 64, given.repeats, given.samples
    whole = network(0.25 * given.factor, imgsz)
    image = torch.rand(3, imgsz, imgsz)
    pixels = image.permute(1, 2, 0).numpy()
    segments = superpixels(pixels)

    def ours() -> np.ndarray:
        def classify(images: Tensor) -> list[Tensor]:
            return [own.softmax(1) for own in whole(images)]

        return explain(classify, image, 1, Perturbations.draw(segments, count))

    def theirs() -> list[list[float]]:
        found = []
        for stage in range(LAYERS):

            def probabilities(batch: np.ndarray, stage: int = stage) -> Any:
                with torch.inference_mode():
                    images = torch.from_numpy(np.asarray(batch)).permute(0, 3, 1, 2).float()
                    return whole(images)[stage].softmax(1).double().numpy()

            own = LimeImageExplainer(random_state=0).explain_instance(
                pixels, probabilities, labels=(1,), top_labels=None, num_samples=count,
                segmentation_fn=lambda _: segments, random_seed=0,
            )  # fmt: skip
            weights = dict(own.local_exp[1])
            found.append([weights[index] for index in range(int(segments.max()) + 1)])
        return found

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        apart = float(np.abs(ours() - np.array(theirs())).max())
        seconds = in_turns({"ours": ours, "theirs": theirs}, repeats)
    samples = torch.rand(count, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        once = in_turns({"pass": lambda: [whole(part) for part in samples.split(BATCH)]}, repeats)["pass"]
    ratio, floor = seconds["ours"] / seconds["theirs"], round(once / seconds["theirs"], 4)
    show("LIME, 6 classifiers, time over lime", ratio, 1 / 8, "lime with its own batches", least=False, floor=floor)
    show("LIME, largest difference of a coefficient", apart, 1e-8, "lime", least=False, exactly=apart)


def granulometry(given: argparse.Namespace) -> None:
    """Openings by disks of growing radius."""
    side = given.imgsz or 224
    draw = np.random.default_rng(0)
    regions = ndimage.gaussian_filter(draw.normal(size=(12, side, side)), (0, 6, 6)) > 0.02
    radii = radii_for(side)

    def theirs() -> np.ndarray:
        disks = [disk(radius).astype(bool) for radius in radii]
        return np.array([[ndimage.binary_opening(one, own).sum() for own in disks] for one in regions])

    same = bool(np.array_equal(spectrum(regions, radii), theirs()))
    seconds = in_turns({"ours": lambda: spectrum(regions, radii), "theirs": theirs}, given.repeats)
    ratio = seconds["ours"] / seconds["theirs"]
    show("granulometry, time over scipy.ndimage", ratio, 1 / 10, "scipy", least=False, identical=same)
    coarse = radii_for(side, side / 4)
    ways = {"ours": lambda: spectrum(regions, coarse), "opencv": lambda: surviving_disks(regions, coarse)}
    same, seconds = bool(np.array_equal(ways["ours"](), ways["opencv"]())), in_turns(ways, given.repeats)
    ratio = seconds["ours"] / seconds["opencv"]
    show("granulometry of coarse maps, time over OpenCV", ratio, 1 / 2, "OpenCV", least=False, identical=same)


def backbone_file(folder: Path, data: Path, method: str, width: float, imgsz: int) -> Path:
    """An untrained backbone file: maps cost the same, whatever was learned."""
    backbone = make_backbone("cnn6", width)
    plan = make_plan(backbone, LAYERS, imgsz)
    names = list("0123456789")
    heads = [make_head("author", part.shape, len(names), convs=0).state_dict() for part in plan]
    path = folder / f"backbone_{method}.pt"
    content = {
        "kind": "backbone", "backbone": "cnn6", "width": width, "names": names, "method": method, "heads": heads,
        "splits": [[part.start, part.stop] for part in plan], "shapes": [list(part.shape) for part in plan],
        "head": {"name": "author", "convs": 0}, "single_label": False, "view": asdict(View("pictures", imgsz)),
        "detector_imgsz": imgsz, "metrics": [{"learnt": 1.0} for _ in plan], "model": backbone.state_dict(),
        "recipe": Recipe(data=data, imgsz=imgsz).model_dump(mode="json"),
    }  # fmt: skip
    checkpoint.save(path, content)
    return path


def explained(images: int, width: float, folder: Path) -> tuple[float, Study]:
    """Seconds of the study on so many of the scenes in a folder, without its report."""
    data = folder / "scenes.yaml"
    files = read_backbones([backbone_file(folder, data, method, width, 64) for method in MODELS])
    split = read_split(load_description(data), "test")
    began = time.perf_counter()
    study = run(prepare(files, split, images=images))
    return time.perf_counter() - began, study


def part_of_study(arguments: argparse.Namespace) -> None:
    """What a process of its own prints: seconds, cases and peak memory."""
    seconds, study = explained(arguments.images, arguments.width, arguments.folder)
    found = {
        "seconds": seconds,
        "cases": len(study.cases),
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(found | {"speed": arithmetic_speed(2 * arguments.repeats)}))


def arithmetic_speed(repeats: int) -> float:
    """Multiply-accumulates a second of the network's widest convolution."""
    layer: nn.Module = nn.Conv2d(256, 256, 3, padding=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(16, 256, 34, 34).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = in_turns({"ours": lambda: layer(x)}, repeats)["ours"]
    return 16 * 256 * 256 * 9 * 38 * 38 / seconds


def multiplications(width: float) -> int:
    """Of the maps of one case and one network: two forward passes, and for saliency a backward pass from each layer."""
    costs = [part.macs for part in make_plan(make_backbone("cnn6", width), LAYERS, 64)]
    backward = sum(cost * (LAYERS - index) for index, cost in enumerate(costs))
    return 2 * sum(costs) + backward


def whole_study(images: int, widths: Sequence[float], repeats: int) -> None:
    """Time of the study with its baselines, and whether its memory grows with the images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "scenes", 8, 4, images)
        for width in widths:
            own = {count: in_process(count, width, folder, repeats) for count in (images // 4, images)}
            seconds = own[images]["seconds"] * CASES / own[images]["cases"]
            floor = (len(MODELS) + Plan.untrained) * CASES * multiplications(width) / own[images]["speed"]
            title = f"study, cnn6 ×{width:g}, seconds for {CASES} maps a layer and model"
            show(title, seconds, round(SLOWER * floor, 1), "–", least=False, floor=round(floor, 1))
            ratio = own[images]["bytes"] / own[images // 4]["bytes"]
            title = f"study, cnn6 ×{width:g}, peak memory of {images} images over {images // 4}"
            show(title, ratio, 1.1, "–", least=False)


def in_process(images: int, width: float, folder: Path, repeats: int) -> dict[str, Any]:
    """The study in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.maps", "--images", str(images), "--width", str(width)]
    command += ["--repeats", str(repeats)]
    done = subprocess.run([*command, "--folder", str(folder)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


PARTS = {"gradcam": grad_cam, "lime": lime, "granulometry": granulometry}


def main() -> None:
    """Measure what is asked for."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "study"), default=[*PARTS, "study"])
    parser.add_argument("--repeats", type=int, default=5, help="measured turns of each side [5]")
    parser.add_argument("--images", type=int, default=400, help="scenes of the study, of about five cases [400]")
    parser.add_argument("--imgsz", type=int, help="side of images and maps but the study's [96, 64 and 224]")
    parser.add_argument("--factor", type=float, default=1.0, help="on the channels for Grad-CAM and LIME [1]")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"perturbed images of LIME [{SAMPLES}]")
    parser.add_argument("--widths", type=float, nargs="+", default=[0.5, 1.0], help="of the study's networks [0.5 1]")
    parser.add_argument("--width", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        return part_of_study(arguments)
    for name in PARTS:
        if name in arguments.only:
            PARTS[name](arguments)
    if "study" in arguments.only:
        whole_study(arguments.images, arguments.widths, arguments.repeats)
    return None


if __name__ == "__main__":
    run_cli(main)
