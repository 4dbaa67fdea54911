"""Cascade pre-training: one stage after another, each with a fresh head and a fresh optimiser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import DataLoader

from data.loader import Batch, DetectionSet, InOrder, make_loader
from data.transforms import eval_transform, pretrain_transform
from engine import checkpoint
from engine.job import Job
from engine.logs import Logs, console
from models.cascade import CascadeStage, make_plan
from models.darknet import DarkNet
from utils.boxes import Truth
from utils.seed import seed_process


def presence(truth: Truth, images: int, classes: int) -> Tensor:
    """Multi-label targets [images, classes]: 1 where an image holds a box of the class."""
    target = torch.zeros(images, classes, device=truth.labels.device)
    target[truth.sample, truth.labels] = 1
    return target


@dataclass(frozen=True)
class StageTask:
    """Training of one sub-module as a multi-label classifier."""

    name: str
    model: CascadeStage
    classes: int
    validation: DataLoader[Batch]
    fabric: Any
    fitness: str = "auc"

    def loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy, mean over images and classes."""
        return {"loss": bce(outputs, presence(batch.truth, len(outputs), self.classes))}

    @torch.inference_mode()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Macro AUC, mean average precision and loss on the validation split."""
        model.eval()
        logits, targets = [], []
        for batch in self.validation:
            with self.fabric.autocast():
                logits.append(model(batch.images.to(self.fabric.device)).float().cpu())
            targets.append(presence(batch.truth, len(batch.images), self.classes))
        return classification_metrics(torch.cat(logits), torch.cat(targets))


def classification_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Macro AUC and mean AP over the classes that have images with and without them (0 if none has), and loss."""
    held = [label for label in range(targets.shape[1]) if 0 < targets[:, label].sum() < len(targets)]
    scores, truth = logits.numpy(), targets.numpy()
    auc = [roc_auc_score(truth[:, label], scores[:, label]) for label in held]
    precision = [average_precision_score(truth[:, label], scores[:, label]) for label in held]
    mean = {name: float(np.mean(values)) if values else 0.0 for name, values in (("auc", auc), ("map", precision))}
    return mean | {"loss": bce(logits, targets).item()}


def pretrain(job: Job, backbone: DarkNet) -> Path:
    """Train the backbone in place, stage by stage; stages that the run already holds are loaded.

    Returns:
        weights/backbone_cl<k>.pt of the run: the blocks, the head and the figures of each stage.
    """
    k = job.recipe.cl_splits
    plan = make_plan(backbone, k, job.recipe.imgsz)
    logs = Logs(job.folder, "pretrain.csv")
    heads, metrics = [], []
    for number, part in enumerate(plan, start=1):
        seed_process(job.recipe.seed, number)
        stage = CascadeStage(backbone, part.start, part.stop, len(job.names))
        metrics.append(run_stage(job, stage, number, job.weights / f"cl{k}_stage{number}.pt", logs))
        heads.append(stage.head.state_dict())
    content = {"splits": [[part.start, part.stop] for part in plan], "heads": heads, "metrics": metrics}
    path = job.weights / f"backbone_cl{k}.pt"
    checkpoint.save(path, {"kind": "backbone", **job.identity(), **content, "model": backbone.state_dict()})
    return path


def run_stage(job: Job, stage: CascadeStage, number: int, path: Path, logs: Logs) -> dict[str, float]:
    """Train one stage, or load it where it is finished; the network takes the averaged weights."""
    name = f"stage{number}"
    if path.exists():
        content = checkpoint.load(path, "stage")
        checkpoint.load_state(stage, content["model"], path)
        console.print(f"{name}: loaded from {path}")
        return content["metrics"]
    phase, seed = job.recipe.stage, job.recipe.seed
    whole = DetectionSet(job.val.records, eval_transform(job.recipe.imgsz), seed)
    validation = make_loader(whole, InOrder(len(whole)), phase.batch_size, workers=0)
    task = StageTask(name, stage, len(job.names), validation, job.fabric)
    transform = pretrain_transform(phase.imgsz or job.recipe.imgsz, job.recipe.augment, phase.crop)
    averaged = job.fit(task, phase, transform, logs, seed=seed + number)
    stage.load_state_dict(averaged.state_dict())
    figures = {key: float(value) for key, value in logs.table.rows[-1].items() if key.startswith("val/")}
    checkpoint.save(path, {"kind": "stage", **job.identity(), "model": stage.state_dict(), "metrics": figures})
    return figures
