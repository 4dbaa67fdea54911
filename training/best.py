"""Training of a detector or segmenter: the weights of the best epoch and those of the last one are kept."""

from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from training.job import Job
from training.logs import Logs
from utils import checkpoint
from utils.device import keep_memory


def train_to_best(job: Job, task: Any, loader: DataLoader[Any], kind: str, extra: dict[str, Any]) -> dict[str, Any]:
    """Train a detector or segmenter to the end, if that is not done yet.

    weights/best.pt of the run holds the averaged weights of best validation fitness, weights/last.pt those of the end.

    Args:
        task: a training.loop.Task whose model has a `backbone`.
        kind: of both checkpoints; `extra` goes into them.

    Returns:
        The validation figures of best.pt.
    """
    recipe, best, backbone = job.recipe, job.weights / "best.pt", task.model.backbone

    def kept(network: nn.Module, metrics: dict[str, float]) -> dict[str, Any]:
        return {"kind": kind, **extra, "metrics": metrics, "model": network.state_dict()}

    if recipe.device == "cpu":
        keep_memory()
    if recipe.compile:
        task.model.compile()  # in place: names in checkpoints stay as they are
    if not job.trained:
        network, metrics = job.fit(
            task,
            recipe.train,
            loader,
            Logs(job.folder, "results.csv", job.services),
            seed=recipe.seed,
            extra=extra,
            improved=lambda *found: job.save(best, kept(*found)),
            hold=list(backbone.blocks[: backbone.reused]),
        )
        job.save(job.last, kept(network, metrics))
    job.fabric.barrier()
    return dict(checkpoint.load(best, kind)["metrics"])
