"""Cascade pre-training: one stage after another, each with a fresh head and a fresh optimiser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from data.loader import Batch, DetectionSet, EpochSampler, InOrder, make_loader
from data.records import Split
from data.transforms import eval_transform, pretrain_transform
from engine import checkpoint
from engine.logs import Logs, console
from engine.loop import Hooks, Progress, fit
from models.cascade import CascadeStage, SubModule, make_plan
from models.darknet import DarkNet
from utils.boxes import Truth
from utils.config import Recipe
from utils.seed import seed_process


def presence(truth: Truth, images: int, classes: int) -> Tensor:
    """Multi-label targets [images, classes]: 1 where an image holds a box of the class."""
    target = torch.zeros(images, classes, device=truth.labels.device)
    target[truth.sample, truth.labels] = 1
    return target


@dataclass
class StageTask:
    """Training of one sub-module as a multi-label classifier."""

    name: str
    model: CascadeStage
    classes: int
    validation: Any
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


def backbone_name(k: int) -> str:
    """File name of a pre-trained backbone."""
    return f"backbone_cl{k}.pt"


def pretrain(
    fabric: Any, recipe: Recipe, backbone: DarkNet, train: Split, val: Split, run: Path, resumed: dict[str, Any]
) -> Path:
    """Train the backbone in place, stage by stage; stages that the run already holds are loaded.

    Args:
        resumed: the training checkpoint to go on from, or empty.

    Returns:
        weights/backbone_cl<k>.pt of the run: blocks, the head of each stage, its figures.
    """
    plan = make_plan(backbone, recipe.cl_splits, recipe.imgsz)
    logs = Logs(run, "pretrain.csv")
    heads, metrics = [], []
    for number, part in enumerate(plan, start=1):
        seed_process(recipe.seed, number)
        stage = CascadeStage(backbone, part.start, part.stop, len(train.description.names))
        path = run / "weights" / f"cl{recipe.cl_splits}_stage{number}.pt"
        figures = run_stage(fabric, recipe, stage, number, train, val, path, logs, resumed)
        heads.append(stage.head.state_dict())
        metrics.append(figures)
        stage.requires_grad_(False)
    path = run / "weights" / backbone_name(recipe.cl_splits)
    checkpoint.save(
        path,
        describe(recipe, train, plan)
        | {"kind": "backbone", "model": backbone.state_dict(), "heads": heads, "metrics": metrics},
    )
    backbone.requires_grad_(True)
    return path


def describe(recipe: Recipe, train: Split, plan: list[SubModule]) -> dict[str, Any]:
    """What a backbone file says of itself."""
    return {
        "backbone": recipe.backbone,
        "width": recipe.width,
        "names": train.description.names,
        "splits": [[part.start, part.stop] for part in plan],
        "recipe": recipe.model_dump(mode="json"),
    }


def run_stage(
    fabric: Any,
    recipe: Recipe,
    stage: CascadeStage,
    number: int,
    train: Split,
    val: Split,
    path: Path,
    logs: Logs,
    resumed: dict[str, Any],
) -> dict[str, float]:
    """Train one stage, or load it where it is finished; the network takes the averaged weights."""
    name = f"stage{number}"
    if path.exists():
        content = checkpoint.load(path, "stage")
        checkpoint.load_state(stage, content["model"], path)
        console.print(f"{name}: loaded from {path}")
        return content["metrics"]
    classes = len(train.description.names)
    phase = recipe.pretrain
    validation = make_loader(
        DetectionSet(val.records, eval_transform(recipe.imgsz), recipe.seed),
        InOrder(len(val.records)),
        phase.batch_size,
        0,
    )
    transform = pretrain_transform(recipe.pretrain_imgsz, recipe.augment, phase.crop)
    dataset = DetectionSet(train.records, transform, recipe.seed + number)
    loader = make_loader(dataset, EpochSampler(len(dataset), recipe.seed + number), phase.batch_size, recipe.workers)
    task = StageTask(name, stage, classes, validation, fabric)
    meta = {"kind": "training", "recipe": recipe.model_dump(mode="json"), "names": train.description.names}
    hooks = Hooks(save=lambda state: checkpoint.save(run_last(path), meta | state))
    start = started(resumed, name)
    averaged = fit(fabric, task, phase, recipe.pretrain_epochs, loader, logs, hooks, start)
    stage.load_state_dict(averaged.state_dict())
    figures = {key: float(value) for key, value in logs.table.rows[-1].items() if key.startswith("val/")}
    checkpoint.save(path, {"kind": "stage", "model": stage.state_dict(), "metrics": figures})
    return figures


def run_last(path: Path) -> Path:
    """The resumable checkpoint beside another file of the run."""
    return path.with_name("last.pt")


def started(resumed: dict[str, Any], name: str) -> Progress:
    """Where to start a task: in the resumed checkpoint if it is of this task, else afresh."""
    if resumed.get("position", {}).get("task") != name:
        return Progress()
    return Progress(resumed["position"]["epoch"], resumed["best"], resumed)
