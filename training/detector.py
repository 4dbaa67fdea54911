"""Training of the detector, and reading one back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from data.anchors import box_sizes, fitted
from data.anchors import shown as anchors_fit
from data.loader import Batch, DetectionSet
from data.mix import Mix
from data.records import Record, Split
from data.transforms import MIN_BOX_PIXELS, train_transform
from evaluation.detection_figures import detection_metrics
from evaluation.evaluate import coco_evaluation
from evaluation.predict import predict_split
from models.decode import Thresholds
from models.detectors import DETECTORS, Anchors, Settings
from models.loss import YOLOLossConfig
from models.network import DetectorNetwork
from models.weights_files import Content
from models.yolov3 import scaled_anchors
from training.best import train_to_best
from training.features import batch_images
from training.job import Job
from training.ranks import agree, interleaved
from utils.config import Recipe
from utils.console import console
from utils.errors import Stopped
from utils.stop import Stop


@dataclass(frozen=True)
class DetectionTask:
    """Training of a detector; the criterion has its decoder."""

    model: DetectorNetwork
    criterion: Any
    val: Split
    imgsz: int
    fabric: Any
    stop: Stop
    sides: Sequence[int] = ()
    name: str = "detector"
    fitness: str = "map"

    def inputs(self, batch: Batch) -> Tensor:
        """The images, in multi-scale training of another size; the boxes of the batch follow."""
        if self.sides:
            resize(batch, self.sides[int(torch.randint(len(self.sides), ()))])
        return batch_images(batch)

    def watch(self, outputs: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def loss(self, outputs: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the criterion."""
        found: dict[str, Tensor] = self.criterion(outputs, batch.truth)
        return found

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """AP on the validation split."""
        model.eval()
        names, own = self.val.description.names, []
        for detections in predict_split(
            lambda images: self.criterion.decoder(model(images)),
            self.val.records[self.fabric.global_rank :: self.fabric.world_size],
            self.imgsz,
            Thresholds(),
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        ):
            own.append(detections)
            if self.stop.asked:
                break
        if number := agree(self.fabric, self.stop.asked):
            raise Stopped(number)
        found = interleaved(self.fabric, own)
        evaluation = coco_evaluation(self.val.records, found, names)
        metrics = detection_metrics(evaluation, self.val.records, found, names)
        return {name: metrics[name] or 0.0 for name in ("map", "map50", "map75", "miou")}


def train_detector(job: Job, model: DetectorNetwork, lesson: dict[str, Any]) -> dict[str, float | None]:
    """Train to the end; weights/best.pt of the run holds the averaged weights of best validation AP.

    Args:
        lesson: what the backbone had learnt (evaluation/learnt.py), for the checkpoints.

    Returns:
        The figures of best.pt on the validation split; None where that has no box to find.
    """
    recipe, entry = job.recipe, DETECTORS[job.recipe.detector]
    settings = settled_detector(job)
    for line in warnings(job):
        console.print(line)
    criterion = entry.criterion(entry.decoder(settings), settings).to(job.fabric.device)
    sides = recipe.sides if recipe.multi_scale else ()
    task = DetectionTask(model, criterion, job.val, recipe.imgsz, job.fabric, job.stop, sides)
    extra: dict[str, Any] = {"detector": entry.name, "decode": entry.decode, "imgsz": recipe.imgsz}
    if lesson:
        extra["lesson"] = lesson
    if entry.anchored:
        extra["anchors"] = [list(anchor) for anchor in settings.anchors]
    transform = train_transform(recipe.imgsz, recipe.augment)
    dataset = DetectionSet(job.train.records, transform, recipe.seed, mix=make_mix(recipe))
    metrics = train_to_best(job, task, job.images(dataset, recipe.train, recipe.seed), "detector", extra)
    return metrics if demanded(job.val) else dict.fromkeys(metrics)


def settled_detector(job: Job) -> Settings:
    """What the detector of a run is made of; says how its anchors fit, if it has any."""
    recipe = job.recipe
    if not DETECTORS[recipe.detector].anchored:
        return Settings(len(job.names), recipe.imgsz)
    anchors = choose_anchors(job)
    console.print(f"anchors: {anchors_fit(job.train.records, anchors, recipe.imgsz)}")
    if job.begins and not recipe.pretrains and other_anchors(job.begins.content, anchors, recipe.imgsz):
        console.print(f"anchors: not those of {job.begins.path.name}, so its boxes have other sizes at first")
    loss = YOLOLossConfig(**recipe.loss.model_dump(exclude={"balance_classes"}))
    weights = balanced_weights(job.train.records, len(job.names)) if recipe.loss.balance_classes else None
    return Settings(len(job.names), recipe.imgsz, tuple(anchors), loss, weights)


def other_anchors(content: Content, anchors: Anchors, imgsz: int) -> bool:
    """Whether a detector's file has other anchors than these (width, height), both as fractions of their input."""
    theirs, side = np.array(content.get("anchors", ())), content.get("imgsz", imgsz)
    return len(theirs) > 0 and not np.allclose(theirs / side, np.array(anchors) / imgsz, rtol=0.01)


def demanded(split: Split) -> int:
    """How many boxes a detector must find: all but crowds and difficult ones."""
    return sum(int(record.asked.sum()) for record in split.records)


def warnings(job: Job) -> list[str]:
    """Lines on what the boxes do not allow: to find the best epoch, or to learn the smallest of them."""
    lines = []
    if not demanded(job.val):
        fate = "no epoch is better than another, best.pt is the last one, and --patience does not end the run"
        lines.append(f"`{job.val.name}` has no boxes: {fate}")
    for split, fate in ((job.train, "are not learnt"), (job.val, "are demanded all the same")):
        sides = box_sizes(split.records, job.recipe.imgsz).min(1, initial=np.inf)
        if count := int((sides < MIN_BOX_PIXELS).sum()):
            small = f"have a side below {MIN_BOX_PIXELS} pixels at --imgsz {job.recipe.imgsz} and {fate}"
            lines.append(f"{count:,} of {len(sides):,} boxes of `{split.name}` {small}")
    return lines


def balanced_weights(records: list[Record], classes: int) -> Tensor:
    """[classes] factors in inverse proportion to the number of boxes; with boxes of all classes, 1 on average."""
    labels = torch.from_numpy(np.concatenate([record.labels[record.asked] for record in records]))
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts)


def make_mix(recipe: Recipe) -> Mix | None:
    """Mosaic and mix-up as the recipe asks for them."""
    augment, epochs = recipe.augment, recipe.train.epochs
    if not augment.mosaic and not augment.mixup:
        return None
    return Mix(augment.mosaic, augment.mixup, recipe.imgsz, until=round(epochs * (1 - augment.closing)))


def resize(batch: Batch, side: int) -> None:
    """Scale the images of a batch to a side of so many pixels, and its boxes with them."""
    ratio = side / batch.images.shape[-1]
    batch.images = interpolate(batch.images, (side, side), mode="bilinear", antialias=ratio < 1)
    batch.truth.boxes_xyxy = batch.truth.boxes_xyxy * ratio


def choose_anchors(job: Job) -> list[tuple[float, float]]:
    """Those of the run to continue with, or what the recipe asks for."""
    if "anchors" in job.resumed:
        return [tuple(anchor) for anchor in job.resumed["anchors"]]
    if job.recipe.anchors == "auto":
        return fitted(job.train.records, job.recipe.imgsz)
    return job.recipe.anchors or scaled_anchors(job.recipe.imgsz)
