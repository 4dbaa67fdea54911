"""Memory of the localisers over the number of pictures, on generated data in published formats. Prints JSON lines.

`python -m benchmarks.any_number`. Sensitivity with its linear function on Tiny ImageNet's form, 10,000 and 100,000
pictures of 32 pixels; attention mining on ChestX-ray14's form, a tenth of it and all 112,120. Of each number a process
by itself. The pictures are links to a few files: names, lists and boxes are as many as they say.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks.figures import show
from data.description import load_description
from data.formats import read_split
from data.views import View
from evaluation.accuracy import read_backbones
from maps.cases import batches
from maps.explained import Explained
from maps.prepare import prepare
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import make_plan
from utils import checkpoint
from utils.checkpoint import TRAINED_ON
from utils.config import Pretrain, Recipe
from utils.console import console
from utils.errors import run_cli
from utils.parser import Parser
from wsol.compare import compare
from wsol.linear_boxes import best_ridge, descended, flattened
from wsol.localiser import largest
from wsol.report import wanted
from wsol.sensitivity import class_sensitivity
from wsol.stored_maps import stored

SIDE, DISTINCT, BATCH, ITERATIONS = 32, 200, 256, 300
MORE_MB = 64.0  # that ten times as many pictures may take beyond their records
FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
CHEST, BOXED, LISTED = 112_120, 880, 25_596
MINING = "mining:steps=2:epochs=1:images=0:batch_size=256@0.5"


def peak_mb() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def some_files(folder: Path) -> list[Path]:
    """A few distinct pictures with a bright square each."""
    folder.mkdir(parents=True)
    draw, paths = np.random.default_rng(0), []
    for number in range(DISTINCT):
        image = draw.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        x, y = number % 16, number // 16
        image[y : y + 12, x : x + 12] += 120
        paths.append(folder / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def write_tiny(root: Path, count: int) -> Path:
    """Tiny ImageNet's form, so many training pictures of ten classes and 100 of val; returns the data yaml."""
    files = some_files(root / "files")
    for label in range(10):
        images = root / "train" / f"n{label:02d}" / "images"
        images.mkdir(parents=True)
        rows = []
        for number in range(label, count, 10):
            own, name = number % DISTINCT, f"n{label:02d}_{number}.PNG"
            os.link(files[own], images / name)
            x, y = own % 16, own // 16
            rows.append(f"{name}\t{x}\t{y}\t{x + 11}\t{y + 11}")
        (root / "train" / f"n{label:02d}" / f"n{label:02d}_boxes.txt").write_text("\n".join(rows))
    (root / "wnids.txt").write_text("\n".join(f"n{label:02d}" for label in range(10)))
    return described(root, format="tiny_imagenet", train="train")


def write_chest(root: Path, count: int) -> Path:
    """ChestX-ray14's form: a table of so many pictures, both lists, boxes of some in the test list; the data yaml."""
    files, draw = some_files(root / "files"), np.random.default_rng(0)
    (root / "images").mkdir()
    names = [f"{number // 4:08d}_{number % 4:03d}.png" for number in range(count)]
    listed, boxed = (max(1, round(part * count / CHEST)) for part in (LISTED, BOXED))
    rows, boxes = ["Image Index,Finding Labels,Follow-up #,Patient ID"], ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    for number, name in enumerate(names):
        own, label = number % DISTINCT, FINDINGS[number % len(FINDINGS)]
        os.link(files[own], root / "images" / name)
        ill = number >= count - boxed or draw.random() < 0.46
        rows.append(f"{name},{label if ill else 'No Finding'},0,{number // 4}")
        if number >= count - boxed:
            x, y, side = (pixels * 1024 / SIDE for pixels in (own % 16, own // 16, 12))
            boxes.append(f"{name},{label},{x},{y},{side},{side},,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(rows))
    (root / "BBox_List_2017.csv").write_text("\n".join(boxes))
    (root / "train_val_list.txt").write_text("\n".join(names[:-listed]))
    (root / "test_list.txt").write_text("\n".join(names[-listed:]))
    return described(root, format="chestxray", train="train_val_list.txt", test="test_list.txt")


def described(root: Path, **keys: Any) -> Path:
    """A data yaml beside the data."""
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(root), **keys}))
    return file


def new_network() -> tuple[Any, list[Any]]:
    """An untrained network of six blocks with one classifier, and it."""
    torch.manual_seed(0)
    backbone = make_backbone("cnn6", 0.125)
    shape = make_plan(backbone, 1, SIDE)[-1].shape
    return backbone, [make_head("gap", shape, len(FINDINGS), convs=0)]


def sensitivity(data: Path) -> dict[str, float]:
    """Fit the closed form and some of the descent to all training pictures."""
    records = read_split(load_description(data), "train").records
    backbone, heads = new_network()
    network = Explained(backbone, [6], heads, single_label=True).eval()
    seen: list[int] = []
    backbone.blocks[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    view, before, began = View("pictures", SIDE), peak_mb(), time.perf_counter()
    found = {"pictures": len(records), "before_mb": before}
    parts = (
        (flattened(class_sensitivity(network, own.images, own.labels).numpy()), largest(own))
        for own in batches(records, view, BATCH, 0, "fit")
    )
    with stored(parts) as known:
        found |= {"maps_mb": peak_mb(), "maps_seconds": time.perf_counter() - began}
        for name, fit in (("ridge", best_ridge), ("sgd", partial(descended, iterations=ITERATIONS))):
            fit(*known)
            found |= {f"{name}_mb": peak_mb(), f"{name}_seconds": time.perf_counter() - began}
    return found | {"passes": sum(seen) / len(records)}


def mining(data: Path) -> dict[str, float]:
    """Mine the boxed pictures beside all others."""
    description = load_description(data)
    backbone, heads = new_network()
    file = data.with_name("network.pt")
    checkpoint.save(file, network_file(data, description.names, backbone, heads))
    plan = prepare(read_backbones([file]), read_split(description, "test"), batch_size=BATCH)
    before, began = peak_mb(), time.perf_counter()
    found = compare(plan, wanted(plan, [MINING]))
    whole = len(plan.pool) + len(plan.whole)
    return {"pictures": whole, "boxed": len(found.cases), "before_mb": before, "mining_mb": peak_mb(),
            "mining_seconds": time.perf_counter() - began}  # fmt: skip


def network_file(data: Path, names: list[str], backbone: Any, heads: list[Any]) -> dict[str, Any]:
    """A backbone file as training leaves it."""
    shape = make_plan(backbone, 1, SIDE)[-1].shape
    head = make_head("gap", shape, len(names), convs=0)
    return {
        "kind": "backbone", "backbone": "cnn6", "width": 0.125, "names": names, "method": "e2e", "splits": [[0, 6]],
        "recipe": Recipe(data=data, imgsz=SIDE, pretrain=Pretrain(head="gap")).model_dump(mode="json"),
        "heads": [head.state_dict()], "head": {"name": "gap", "convs": 0}, "shapes": [list(shape)],
        "single_label": False, "view": {"source": "pictures", "imgsz": SIDE, "fit": "letterbox", "context": 0.0},
        "detector_imgsz": SIDE, TRAINED_ON: torch.zeros(0, dtype=torch.int64), "metrics": [{}],
        "model": backbone.state_dict(),
    }  # fmt: skip


PARTS = {"sensitivity": (write_tiny, sensitivity, 100_000), "mining": (write_chest, mining, CHEST)}


def by_itself(part: str, count: int) -> dict[str, float]:
    """One part on so many pictures, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        data = PARTS[part][0](Path(folder) / "data", count)
        command = [sys.executable, "-m", "benchmarks.any_number", "--child", part, "--data", str(data)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure what is asked for."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", type=int, help="the larger number [100000 and 112120]")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        console.quiet = True
        print(json.dumps(PARTS[arguments.child][1](arguments.data)))
        return
    for part in arguments.only:
        count = arguments.pictures or PARTS[part][2]
        few, many = (by_itself(part, own) for own in (count // 10, count))
        grown = [max(own[key] for key in own if key.endswith("_mb")) - own["before_mb"] for own in (few, many)]
        title = f"{part}: MB beyond the records, {many['pictures']:.0f} pictures over {few['pictures']:.0f}"
        show(title, grown[1] - grown[0], MORE_MB, "the smaller set", least=False, few=few, many=many)


if __name__ == "__main__":
    run_cli(main)
