"""The ultralytics package's `yolov3.yaml` from scratch at its own defaults on a data set of ours, judged as ours is.

`python -m benchmarks.peer --recipe configs/bccd.yaml --json results/table1_small/ultralytics.json`
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import yaml

from data.description import load_description
from data.formats import read_split
from data.records import Record, Split
from evaluation.detection_figures import detection_metrics
from evaluation.evaluate import coco_evaluation
from utils.boxes import Detections, xyxy_to_cxcywh
from utils.errors import run_cli
from utils.files import make_folder, write_text
from utils.parser import Parser
from utils.recipes import load_recipe


def write_yolo(splits: list[Split], folder: Path) -> Path:
    """Links to the images beside YOLO txt labels, as the peer wants them; returns its data yaml."""
    for split in splits:
        images, labels = (make_folder(folder / kind / split.name) for kind in ("images", "labels"))
        for record in split.records:
            link = images / record.image.name
            if not link.is_symlink():
                link.symlink_to(record.image)
            write_text(labels / f"{record.image.stem}.txt", as_yolo(record))
    file = folder / "data.yaml"
    paths = {split.name: f"images/{split.name}" for split in splits}
    write_text(file, yaml.safe_dump({"path": str(folder), **paths, "names": splits[0].description.names}))
    return file


def as_yolo(record: Record) -> str:
    """A line a box: class cx cy w h, fractions of the image."""
    height, width = record.size_hw
    shares = xyxy_to_cxcywh(torch.from_numpy(record.boxes_xyxy)) / torch.tensor([width, height, width, height])
    rows = zip(record.labels.tolist(), shares.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{part:.6f}' for part in box)}\n" for label, box in rows)


def yolo(folder: Path, *words: str) -> None:
    """Run the package's command line in a folder, offline, on all threads."""
    quiet = {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [str(Path(sys.executable).with_name("yolo")), "detect", *words]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | quiet | threads, stdout=sys.stderr)


def read_predictions(path: Path, records: list[Record]) -> list[Detections]:
    """The package's predictions.json, image by image."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(path.read_text()):
        rows[Path(row["file_name"]).stem].append(row)
    found = []
    for record in records:
        own = rows[record.image.stem]
        boxes = torch.tensor([row["bbox"] for row in own], dtype=torch.float32).view(-1, 4)
        scores = torch.tensor([row["score"] for row in own], dtype=torch.float32)
        labels = torch.tensor([row["category_id"] - 1 for row in own], dtype=torch.long)
        found.append(Detections(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), scores, labels))
    return found


def train(folder: Path, model: str, shared: list[str], epochs: int) -> Path:
    """The best checkpoint of a training in folder/train; one that was interrupted continues, a finished one stays."""
    best, last, finished = (folder / "train" / name for name in ("weights/best.pt", "weights/last.pt", "finished"))
    if finished.exists():
        return best
    if last.exists():
        yolo(folder, "train", "resume=True", f"model={last}")
    else:
        own = [f"epochs={epochs}", "pretrained=False", "amp=False"]  # it has no bf16 on a CPU
        yolo(folder, "train", f"model={model}", *shared, *own, f"project={folder}", "name=train", "exist_ok=True")
    finished.touch()
    return best


def main() -> None:
    """Convert, train, predict, judge."""
    parser = Parser(description="ultralytics' yolov3.yaml from scratch, judged by pycocotools.")
    parser.add_argument("--recipe", type=Path, required=True, help="whose data, imgsz, epochs and batch size it gets")
    parser.add_argument("--model", default="yolov3.yaml", help="its model [yolov3.yaml]")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, {})
    description = load_description(recipe.data)
    splits = [read_split(description, name) for name in description.splits]
    folder = make_folder(arguments.project / "peer" / arguments.recipe.stem).resolve()
    data = write_yolo(splits, folder)
    shared = [f"data={data}", f"imgsz={recipe.imgsz}", f"batch={recipe.train.batch_size}", "device=cpu", "plots=False"]
    best = train(folder, arguments.model, shared, recipe.train.epochs)
    judging = [f"split={description.held_out}", "save_json=True", "conf=0.001", "iou=0.6", "exist_ok=True"]
    yolo(folder, "val", f"model={best}", *shared, *judging, f"project={folder}", "name=val")
    held_out = next(split for split in splits if split.name == description.held_out)
    found = read_predictions(folder / "val" / "predictions.json", held_out.records)
    evaluation = coco_evaluation(held_out.records, found, description.names)
    metrics = detection_metrics(evaluation, held_out.records, found, description.names)
    make_folder(arguments.json.parent)
    write_text(arguments.json, json.dumps({"split": held_out.name, **metrics}, indent=2) + "\n")
    print(f"mAP50 {metrics['map50']:.3f}, mAP {metrics['map']:.3f}; {arguments.json}")


if __name__ == "__main__":
    run_cli(main)
