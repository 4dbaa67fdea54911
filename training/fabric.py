"""Where and in which precision a run computes, as a Lightning Fabric."""

import logging
import os
from typing import Any

import torch

from utils.config import Recipe
from utils.console import console
from utils.device import pick_device, pick_precision
from utils.errors import UserError

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def settle(recipe: Recipe) -> Recipe:
    """The recipe with `auto` replaced by this machine's device and precision, and torchrun's number of processes.

    Raises:
        UserError: no such device, or a precision that it lacks.
    """
    device = pick_device(recipe.device)
    precision = pick_precision(device) if recipe.precision == "auto" else recipe.precision
    if device == "cpu" and precision == "fp16":
        raise UserError("fp16 needs a GPU", where="--precision", hint="use bf16 or fp32 on the CPU")
    return recipe.model_copy(update={"device": device, "precision": precision, **launched_ranks()})


def make_fabric(recipe: Recipe) -> Any:
    """A launched Fabric for a settled recipe; where it has several processes, this call starts them."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every precision and process
    fabric = Fabric(
        accelerator=recipe.device,
        devices=recipe.devices,
        num_nodes=recipe.num_nodes,
        strategy="ddp" if recipe.devices * recipe.num_nodes > 1 else "auto",
        precision=PRECISIONS[recipe.precision],  # type: ignore[arg-type]
        plugins=[environment(recipe)],
    )
    fabric.launch()
    console.quiet = console.quiet or fabric.global_rank > 0
    return fabric


def environment(recipe: Recipe) -> Any:
    """Who starts the processes of a run: torchrun, SLURM, or Fabric itself."""
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    if launched_ranks():
        return TorchElasticEnvironment()
    if not by_slurm(recipe):
        return LightningEnvironment()
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(recipe.devices))  # srun itself does not always say it
    return SLURMEnvironment()


def by_slurm(recipe: Recipe) -> bool:
    """Whether SLURM started the processes of this run: as many as it has. Else its variables are of a job around it."""
    tasks, name = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_JOB_NAME")
    return tasks != "1" and tasks == str(recipe.devices * recipe.num_nodes) and name not in ("bash", "interactive")


def first_speaks(recipe: Recipe) -> None:
    """Where SLURM started the processes of this run, all but the first are silent from here on."""
    if not launched_ranks() and by_slurm(recipe):
        console.quiet = os.environ.get("SLURM_PROCID", "0") != "0"


def launched_ranks() -> dict[str, int]:
    """What torchrun says of processes, as recipe keys; empty where something else started this process."""
    if not torch.distributed.is_torchelastic_launched():
        return {}
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return {"devices": local, "num_nodes": world // local}
