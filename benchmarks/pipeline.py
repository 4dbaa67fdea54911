"""What is around the network in training and evaluation: images, suppression, the measure; as JSON lines.

Run by `python -m benchmarks.detector`.
"""

import contextlib
import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from benchmarks.figures import in_turns, show
from benchmarks.workload import CLASSES, write_scenes
from data.description import load_description
from data.formats import read_split
from evaluation.detection_figures import detection_metrics
from evaluation.evaluate import coco_evaluation, guessed, instances, true_annotations
from models.decode import Decoder, Thresholds, suppress
from models.yolov3 import STRIDES, scaled_anchors
from utils.boxes import Detections
from utils.config import ROOT
from utils.ultralytics_parts import ultralytics


def waiting(data: Path | None, imgsz: int, width: float, images: int) -> None:
    """Fraction of an epoch that the network waits for images: train.py with batch 4, two workers, second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = write_scenes(Path(folder) / "scenes", images, 4, 1)
        shared = ["--data", data, "--cl-splits", 0, "--imgsz", imgsz, "--batch-size", 4, "--workers", 2, "--epochs", 2]
        shared += ["--width", width]
        for name, more in (("default augmentation", []), ("mosaic", ["--augment-mosaic", 1, "--augment-closing", 0])):
            flags = [*shared, *more, "--val-every", 2, "--project", folder, "--name", name.split()[0]]
            command = [sys.executable, "train.py", *map(str, flags)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            table = Path(folder) / "train" / name.split()[0] / "results.csv"
            row = list(csv.DictReader(table.read_text().splitlines()))[1]
            share = float(row["data_seconds"]) / float(row["seconds"])
            figure = f"fraction of training that waits for images, {data.stem}, {name}, {imgsz} px, batch 4, 2 workers"
            show(figure, share, 0.05, "the whole epoch", least=False, seconds=float(row["seconds"]))


def judged_outside(data: Path | None, images: int) -> None:
    """Largest difference of COCO's twelve numbers to pycocotools on files; detections are the truth, moved about."""
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = write_scenes(Path(folder) / "scenes", 4, 4, images)
        description = load_description(data)
        split = read_split(description, description.held_out)
        found, draw = [], torch.Generator().manual_seed(0)
        for record in split.records:
            boxes = torch.from_numpy(record.boxes_xyxy).repeat(3, 1)
            noise = torch.randn(boxes.shape, generator=draw) * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * 0.1
            labels = torch.from_numpy(record.labels).repeat(3)
            wrong = torch.rand(len(labels), generator=draw) < 0.1
            labels = torch.where(wrong, (labels + 1) % len(description.names), labels)
            found.append(Detections(boxes + noise, torch.rand(len(labels), generator=draw), labels))
        judged = coco_evaluation(split.records, found, description.names)
        own = detection_metrics(judged, split.records, found, description.names)
        truth, guesses = Path(folder) / "truth.json", Path(folder) / "guesses.json"
        content = instances(true_annotations(split.records), split.records, description.names)
        truth.write_text(json.dumps(content))
        guesses.write_text(json.dumps(guessed(found)))
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(truth))
            outside = COCOeval(coco, coco.loadRes(str(guesses)), "bbox")
            outside.evaluate()
            outside.accumulate()
            outside.summarize()
    order = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    recalls = ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")
    values = [-1.0 if own[key] is None else float(own[key] or 0) for key in (*order, *recalls)]
    worst = float(np.abs(np.array(values) - outside.stats).max())
    show(f"largest of twelve differences to pycocotools run on JSON files, {data.stem}", worst, 0.0005,
         "pycocotools", least=False, map=round(values[0], 4))  # fmt: skip


def crowded_maps(imgsz: int, objects: int) -> list[Tensor]:
    """Raw maps of one image in which each of so many objects lights up its cell's neighbours too."""
    draw = torch.Generator().manual_seed(0)
    maps = []
    for stride in STRIDES:
        side = imgsz // stride
        raw = torch.randn(3, 5 + CLASSES, side, side, generator=draw) * 0.5
        raw[:, 4] -= 7
        raw[:, 5:] -= 8
        for _ in range(round(objects / len(STRIDES))):
            row, column, anchor = (int(torch.randint(most, (), generator=draw)) for most in (side, side, 3))
            label = int(torch.randint(CLASSES, (), generator=draw))
            near = raw[anchor, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            near[4] += 8
            near[5 + label] += 9
        maps.append(raw.flatten(0, 1)[None])
    return maps


def suppression(repeats: int, imgsz: int) -> None:
    """Decoding and suppression of an image with a hundred objects, against the same decoding and the peer's NMS."""
    maps, decoder = crowded_maps(imgsz, 100), Decoder(scaled_anchors(imgsz))
    peer_nms = ultralytics("utils.nms").non_max_suppression
    thresholds = Thresholds(0.001, 0.6, 300)

    def own() -> Detections:
        boxes, scores = decoder(maps)
        return suppress(boxes[0], scores[0], thresholds)

    def peer() -> Tensor:
        found: Tensor = peer_nms(torch.cat(decoder(maps), -1).transpose(1, 2), 0.001, 0.6, multi_label=True)[0]
        return found

    with torch.inference_mode():
        ours, theirs = own(), peer()
        rows = torch.cat([ours.boxes_xyxy, ours.scores[:, None], ours.labels[:, None].float()], 1)
        same = rows.shape == theirs.shape and torch.allclose(rows, theirs, atol=1e-3)
        candidates = int((decoder(maps)[1] > thresholds.conf_thres).sum())
        seconds = in_turns({"own": own, "peer": peer}, 10 * repeats)
    at = f"{imgsz} px, confidence 0.001, 100 objects, {candidates} candidates"
    shown = {name: round(1000 * own, 2) for name, own in seconds.items()}
    against = "ultralytics non_max_suppression after the same decoding"
    show(f"time of decoding and NMS over the peer's, {at}", seconds["own"] / seconds["peer"], 1.0, against, least=False,
         same_boxes=same, milliseconds=shown)  # fmt: skip
