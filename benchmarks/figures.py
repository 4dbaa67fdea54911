"""How benchmarks measure, and what they print: a JSON line for each figure."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Turn = Callable[[], Any]
CPU_FILE = Path("/proc/cpuinfo")
BF16 = ("avx512_bf16", "amx_bf16")  # what multiplies bf16 in hardware


def processor() -> str:
    """Model, cores, and what it has for bf16."""
    lines = CPU_FILE.read_text().splitlines() if CPU_FILE.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    capabilities = torch.cpu.get_capabilities()
    has = [name for name in BF16 if capabilities.get(name)] or ["no bf16"]
    return ", ".join([model or platform.processor() or platform.machine(), f"{os.cpu_count()} cores", *has])


def show(
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
    print(json.dumps({**found, "against": f"{against}; {where}", "processor": processor(), **more}), flush=True)


def in_turns(
    sides: Mapping[str, Turn],
    repeats: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each side by a clock; a first turn of each only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(0 if warm_up else 1, repeats + 1):
        for name, turn in sides.items():
            began = clock()
            turn()
            if repeat:
                seconds[name].append(clock() - began)
    return {name: statistics.median(own) for name, own in seconds.items()}
