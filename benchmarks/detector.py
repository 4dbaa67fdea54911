"""Speed of the detector over its peers, and the cost of what is beside the network, in one run. Prints JSON lines.

`python -m benchmarks.detector`: full-width YOLOv3 of 80 classes. The peer is `yolov3.yaml` of the ultralytics package,
which has DarkNet-53 and three scales too but a larger pyramid and another head; times are therefore compared at equal
multiplications: images a second times multiplications an image. The two sides of a ratio run in turns.
"""

import argparse
import contextlib
import csv
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data.description import load_description
from data.formats import read_split
from data.sample import SampleSize
from data.sample import write as write_scenes
from engine.evaluate import coco_evaluation, coco_numbers, guessed, instances, true_annotations
from engine.export import write_onnx
from models.backbones import make_backbone
from models.decode import Decoder, Thresholds, suppress
from models.inference import for_inference
from models.loss import YOLOLoss
from models.onnx_detector import load_onnx
from models.yolov3 import STRIDES, YOLOv3, scaled_anchors
from models.yolov3_detector import YOLOv3Detector
from utils.boxes import Detections, Truth, xyxy_to_cxcywh
from utils.config import ROOT
from utils.errors import run_cli
from utils.ultralytics_parts import ultralytics

CLASSES = 80
Turn = Callable[[], Any]


def line(
    figure: str,
    value: float,
    target: float,
    against: str,
    *,
    least: bool = True,
    floor: float | None = None,
    **more: Any,
) -> None:
    """Print one figure; `least`: the target is a lower bound. The floor is what cannot be passed."""
    holds = value >= target if least else value <= target
    where = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    found = {"figure": figure, "value": round(value, 4), "target": target, "holds": holds, "floor": floor}
    print(json.dumps({**found, "against": f"{against}; {where}", **more}), flush=True)


def in_turns(sides: dict[str, Turn], repeats: int) -> dict[str, float]:
    """Median seconds of each side; the first turn of each only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, turn in sides.items():
            began = time.perf_counter()
            turn()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(own) for name, own in seconds.items()}


def multiplications(network: nn.Module, imgsz: int) -> int:
    """Of one image, forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.rand(1, 3, imgsz, imgsz))
    return int(counter.get_total_flops()) // 2


def make_peer() -> Any:
    """The ultralytics package's YOLOv3 with fresh weights, as its trainer sets it up."""
    peer = ultralytics("nn.tasks").DetectionModel("yolov3.yaml", nc=CLASSES, verbose=False)
    peer.args = ultralytics("cfg").get_cfg()
    return peer


def own_network() -> YOLOv3:
    """This project's, as its training lays it out."""
    model = YOLOv3(make_backbone("darknet53"), CLASSES)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def random_truth(imgsz: int, batch: int, each: int = 7) -> Truth:
    """Boxes of a batch; seven are about what an image of COCO has."""
    corner = torch.rand(batch * each, 2) * imgsz * 0.6
    size = 8 + torch.rand(batch * each, 2) * (imgsz * 0.4 - 8)
    labels = torch.randint(CLASSES, (batch * each,))
    return Truth(torch.cat([corner, corner + size], 1), labels, torch.arange(batch).repeat_interleave(each))


def own_step(model: YOLOv3, images: Tensor, truth: Truth, precision: str) -> Turn:
    """Network, loss, backward, clip, and the optimiser that the peer has by default: SGD with Nesterov's momentum."""
    criterion = YOLOLoss(Decoder(scaled_anchors(images.shape[-1])))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.937, nesterov=True, fused=True)

    def step() -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            raw_maps = model(images)
        torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peer_step(peer: Any, images: Tensor, truth: Truth) -> Turn:
    """The same of the peer in fp32."""
    optimizer = torch.optim.SGD(peer.parameters(), lr=1e-4, momentum=0.937, nesterov=True)
    boxes = xyxy_to_cxcywh(truth.boxes_xyxy) / images.shape[-1]
    batch = {"img": images, "cls": truth.labels[:, None].float(), "bboxes": boxes, "batch_idx": truth.sample.float()}

    def step() -> None:
        peer.train()
        loss, _ = peer(batch)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def training(repeats: int, *, with_compile: bool) -> None:
    """Images a second of training over the peer's at equal multiplications, and what each measure of speed gives."""
    peer = make_peer()
    own = {"bf16": own_network(), "fp32": own_network()}
    for imgsz, batch in ((256, 8), (416, 4)):
        images, truth = torch.rand(batch, 3, imgsz, imgsz), random_truth(imgsz, batch)
        last = images.contiguous(memory_format=torch.channels_last)
        sides = {name: own_step(model, last, truth, name) for name, model in own.items()}
        seconds = in_turns({**sides, "peer": peer_step(peer, images, truth)}, repeats)
        work = multiplications(own["fp32"], imgsz) / multiplications(peer, imgsz)
        rates = {name: round(batch / own_seconds, 2) for name, own_seconds in seconds.items()}
        for name, target in (("bf16", 2.3), ("fp32", 1.0)):
            figure = f"training throughput in {name} over the peer's in fp32, {imgsz} px, batch {batch}"
            value = seconds["peer"] / seconds[name] * work
            line(figure, value, target, "ultralytics yolov3.yaml", images_per_second=rates, work=round(work, 3))
    del peer
    layouts(own["bf16"], repeats, with_compile=with_compile)


def layouts(model: YOLOv3, repeats: int, *, with_compile: bool) -> None:
    """What channels_last and torch.compile give in bf16, 256 px, batch 8."""
    images, truth = torch.rand(8, 3, 256, 256), random_truth(256, 8)
    last = images.contiguous(memory_format=torch.channels_last)
    contiguous = YOLOv3(make_backbone("darknet53"), CLASSES)
    sides = {
        "channels_last": own_step(model, last, truth, "bf16"),
        "contiguous": own_step(contiguous, images, truth, "bf16"),
    }
    if with_compile:
        quick = own_network()
        quick.compile()
        sides["compiled"] = own_step(quick, last, truth, "bf16")
        began = time.perf_counter()
        sides["compiled"]()
        first = round(time.perf_counter() - began, 1)
    seconds = in_turns(sides, repeats)
    at = "training in bf16, 256 px, batch 8"
    line(f"channels_last over contiguous, {at}", seconds["contiguous"] / seconds["channels_last"], 1.0, "itself")
    if with_compile:
        value = seconds["channels_last"] / seconds["compiled"]
        line(f"torch.compile over eager, {at}", value, 1.0, "itself", seconds_to_compile=first)


def inference(repeats: int) -> None:
    """Time of one image of 416 px, network and decoding, over the fused peer's in fp32 at equal multiplications."""
    image = torch.rand(1, 3, 416, 416)
    last = image.contiguous(memory_format=torch.channels_last)
    peer, model = make_peer(), own_network().eval()
    work = multiplications(model, 416) / multiplications(peer, 416)
    fused, decoder = peer.fuse(verbose=False).eval(), Decoder(scaled_anchors(416))
    quick = {name: for_inference(model, name) for name in ("bf16", "fp32")}
    names = [str(index) for index in range(CLASSES)]
    detector = YOLOv3Detector(Path("x"), names, 416, None, "cpu", quick["fp32"], decoder, {}, "benchmark")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "x.onnx"
        with torch.inference_mode(mode=False):
            write_onnx(detector, path)
        onnx = load_onnx(path)
        sides: dict[str, Turn] = {
            "bf16": lambda: decoder(quick["bf16"](last)),
            "fp32": lambda: decoder(quick["fp32"](last)),
            "onnx": lambda: onnx.outputs(image),
            "peer": lambda: fused(image),
        }
        seconds = in_turns(sides, 4 * repeats)
        convolving = share_of_convolutions(path, image)
    shown = {name: round(own, 4) for name, own in seconds.items()}
    bound = round(seconds["peer"] / (convolving * seconds["onnx"]) * work, 3)
    for name, what, target, floor in (
        ("bf16", "PyTorch in bf16", 1.9, None),
        ("onnx", "onnxruntime in fp32", 1.3, bound),
    ):
        figure = f"inference speed of {what} over the peer's in fp32, 416 px, batch 1"
        value = seconds["peer"] / seconds[name] * work
        line(figure, value, target, "ultralytics yolov3.yaml, fused", floor=floor, seconds=shown, work=round(work, 3))


def share_of_convolutions(path: Path, image: Tensor, runs: int = 5) -> float:
    """Share of onnxruntime's time that goes into its convolution kernels, which no other graph would make faster."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {"images": image.numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node"]
    convolving = sum(event["dur"] for event in nodes if event["args"]["op_name"] == "Conv")
    return convolving / sum(event["dur"] for event in nodes)


def waiting(data: Path | None) -> None:
    """Share of an epoch that the network waits for images: train.py at 416 px, batch 4, two workers, second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            root = write_scenes(Path(folder) / "scenes", size=SampleSize(64, 4, 1))
            data = Path(folder) / "scenes.yaml"
            data.write_text((ROOT / "data" / "sample.yaml").read_text().replace("path: sets/sample", f"path: {root}"))
        shared = ["--data", data, "--cl-splits", 0, "--imgsz", 416, "--batch-size", 4, "--workers", 2, "--epochs", 2]
        for name, more in (("default augmentation", []), ("mosaic", ["--augment-mosaic", 1, "--augment-closing", 0])):
            flags = [*shared, *more, "--val-every", 2, "--project", folder, "--name", name.split()[0]]
            command = [sys.executable, "train.py", *map(str, flags)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            table = Path(folder) / "train" / name.split()[0] / "results.csv"
            row = list(csv.DictReader(table.read_text().splitlines()))[1]
            share = float(row["data_seconds"]) / float(row["seconds"])
            figure = f"share of training that waits for images, {data.stem}, {name}, 416 px, batch 4, 2 workers"
            line(figure, share, 0.05, "the whole epoch", least=False, seconds=float(row["seconds"]))


def judged_outside(data: Path | None) -> None:
    """Largest difference of COCO's twelve numbers to pycocotools on files; truth moved about stands for detections."""
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            write_scenes(Path(folder) / "scenes", size=SampleSize(4, 4, 64))
            data = Path(folder) / "scenes.yaml"
            text = (ROOT / "data" / "sample.yaml").read_text()
            data.write_text(text.replace("path: sets/sample", f"path: {folder}/scenes"))
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
        own = coco_numbers(coco_evaluation(split.records, found, description.names))
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
    line(f"largest of twelve differences to pycocotools run on JSON files, {data.stem}", worst, 0.0005,
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


def suppression(repeats: int) -> None:
    """Decoding and suppression of an image with a hundred objects, against the same decoding and the peer's NMS."""
    maps, decoder = crowded_maps(416, 100), Decoder(scaled_anchors(416))
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
    figure = f"time of decoding and NMS over the peer's, 416 px, confidence 0.001, 100 objects, {candidates} candidates"
    shown = {name: round(1000 * own, 2) for name, own in seconds.items()}
    against = "ultralytics non_max_suppression after the same decoding"
    line(figure, seconds["own"] / seconds["peer"], 1.0, against, least=False, same_boxes=same, milliseconds=shown)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the detector over its peers, as JSON lines.")
    groups = ("training", "inference", "waiting", "judged", "suppression")
    parser.add_argument("--only", choices=groups, help="one group of figures [all]")
    parser.add_argument("--data", type=Path, help="data yaml of the groups waiting and judged [built-in scenes]")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each side, after a warm-up [5]")
    parser.add_argument("--compile", action="store_true", help="with training: torch.compile too, some minutes more")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    measures: dict[str, Turn] = {
        "training": lambda: training(arguments.repeats, with_compile=arguments.compile),
        "inference": lambda: inference(arguments.repeats),
        "waiting": lambda: waiting(arguments.data),
        "judged": lambda: judged_outside(arguments.data),
        "suppression": lambda: suppression(arguments.repeats),
    }
    for name in groups if arguments.only is None else (arguments.only,):
        measures[name]()


if __name__ == "__main__":
    run_cli(main)
