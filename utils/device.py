"""What computes, in which precision, and what becomes of its memory."""

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from utils.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


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


def check_device(wanted: torch.device | str) -> None:
    """Refuse a device, as `cuda:1`, that is not there.

    Raises:
        UserError: it is none of this machine.
    """
    try:
        own = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"no device `{wanted}`", where="device", hint="give cpu, cuda, cuda:1 or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (own.index or 0) >= count.get(own.type, 0):
        there = ", ".join(f"{kind}:{number}" for kind, numbers in count.items() for number in range(numbers))
        raise UserError(f"no device `{wanted}` here", where="device", hint=f"there is {there}")


def pick_device(wanted: str) -> str:
    """cuda, mps or cpu; auto takes the first that there is.

    Raises:
        UserError: there is no such one.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(wanted):
        present = ", ".join(name for name, is_there in there.items() if is_there)
        raise UserError(f"no device `{wanted}` here", where="--device", hint=f"use auto or one of {present}")
    return wanted


def pick_precision(device: str) -> str:
    """bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
