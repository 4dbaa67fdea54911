"""Training of a segmenter, from pre-trained, given or random weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data.loader import make_loader
from data.mask_set import MaskBatch, MaskSet, join_masks
from data.records import Split
from data.transforms import segment_transform
from evaluation.segmentation import count_all, overall, segment_split
from models.backbones import make_backbone
from models.batchnorm import divisor_of
from models.fcn import FCN, FCNS
from models.segmenter import KIND
from training.backbone import begin_detector, reuse_backbone
from training.best import train_to_best
from training.features import batch_images
from training.job import Job
from training.ranks import agree
from utils.errors import Stopped
from utils.letterbox import IGNORED
from utils.stop import Stop


@dataclass(frozen=True)
class SegmentationTask:
    """Training of an FCN with the cross-entropy of every pixel that counts."""

    model: FCN
    val: Split
    imgsz: int
    fabric: Any
    stop: Stop
    name: str = KIND
    fitness: str = "miou"

    def inputs(self, batch: MaskBatch) -> Tensor:
        """The images."""
        return batch_images(batch)

    def watch(self, outputs: Tensor, batch: MaskBatch) -> dict[str, Tensor]:
        """Fraction of the pixels that are right."""
        counted = batch.masks != IGNORED
        right = (outputs.argmax(1) == batch.masks) & counted
        return {"accuracy": right.sum() / counted.sum().clamp(min=1)}

    def loss(self, outputs: Tensor, batch: MaskBatch) -> dict[str, Tensor]:
        """Cross-entropy, mean over the pixels of all processes that count; 0 where none does."""
        total = cross_entropy(outputs.float(), batch.masks, ignore_index=IGNORED, reduction="sum")
        return {"loss": total / divisor_of((batch.masks != IGNORED).sum())}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures of evaluation.segmentation on the validation images, in their own pixels."""
        model.eval()
        own = self.val.records[self.fabric.global_rank :: self.fabric.world_size]
        total = np.zeros((self.model.classes, self.model.classes), np.int64)
        found = segment_split(model, own, self.imgsz, device=self.fabric.device, autocast=self.fabric.autocast)
        for matrix in count_all(own, found, self.model.classes):
            total += matrix
            if self.stop.asked:
                break
        if number := agree(self.fabric, self.stop.asked):
            raise Stopped(number)
        if self.fabric.world_size > 1:
            total = self.fabric.all_reduce(torch.from_numpy(total), reduce_op="sum").cpu().numpy()
        return overall(total)


def train_segmenter(job: Job, pretrained: Path | None, lesson: dict[str, Any]) -> dict[str, Any]:
    """Train to the end; weights/best.pt of the run holds the averaged weights of best mean IoU on the validation split.

    Args:
        pretrained: the backbone's file; None for the weights that the run begins with, a segmenter's for example, or
            random ones.
        lesson: what the backbone had learnt (evaluation/learnt.py), for the checkpoints.

    Returns:
        The figures of best.pt.
    """
    recipe = job.recipe
    model = FCN(make_backbone(recipe.backbone, recipe.width), len(job.names) + 1, FCNS.choose(recipe.fcn))
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe)
    elif job.begins is not None:
        begin_detector(model, job.begins.path, recipe, job.begins.content, job.names)
    task = SegmentationTask(model, job.val, recipe.imgsz, job.fabric, job.stop)
    dataset = MaskSet(job.train.records, segment_transform(recipe.imgsz, recipe.augment), recipe.seed)
    order = job.order(len(dataset), recipe.seed)
    loader = make_loader(dataset, order, job.rank_batch(recipe.train), recipe.workers, join_masks, leave_out=True)
    extra: dict[str, Any] = {"imgsz": recipe.imgsz, "fcn": recipe.fcn}
    if lesson:
        extra["lesson"] = lesson
    return {"task": "segment", **train_to_best(job, task, loader, KIND, extra)}
