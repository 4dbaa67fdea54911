"""Where and in which precision a run computes, as a Lightning Fabric."""

import ctypes
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from utils.config import Recipe
from utils.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def settle(recipe: Recipe) -> Recipe:
    """The recipe with `auto` replaced by this machine's device and precision, and torchrun's number of processes.

    Raises:
        UserError: no such device, or a precision that it lacks.
    """
    device = pick_device(recipe.device)
    precision = pick_precision(device) if recipe.precision == "auto" else recipe.precision
    if device == "cpu" and precision == "fp16":
        raise UserError("fp16 needs a GPU", where="--precision", mend="use bf16 or fp32 on the CPU")
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
    )
    fabric.launch()
    return fabric


def keep_memory() -> None:
    """Keep memory that is freed for the next step, where the GNU C library would return it and fetch fresh pages.

    Without this every large tensor of every step is mapped anew, and the system fills its pages with zeros first.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def return_memory() -> None:
    """Give what is no longer used back to the system, lest the next stage's peak come on top of it."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library keeps what was freed, to use it again
    if trim:
        trim(0)


@contextmanager
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """Threads for work that falls into parts, as many as torch uses for one operation; each then computes by itself.

    Sharing out every operation makes the threads wait for each other many times in each; and what is not torch's, as
    measuring in numpy, would keep one of them busy alone.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def launched_ranks() -> dict[str, int]:
    """What torchrun says of processes, as recipe keys; empty where something else started this process."""
    if not torch.distributed.is_torchelastic_launched():
        return {}
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return {"devices": local, "num_nodes": world // local}


def pick_device(wanted: str) -> str:
    """cuda, mps or cpu; auto takes the first that there is."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(wanted):
        present = ", ".join(name for name, is_there in there.items() if is_there)
        raise UserError(f"no device `{wanted}` here", where="--device", mend=f"use auto or one of {present}")
    return wanted


def pick_precision(device: str) -> str:
    """bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
