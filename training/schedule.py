"""Learning rate and end of training as functions of the position and of the validations so far: nothing to resume."""

import math
from collections.abc import Sequence
from statistics import fmean

import torch

from utils.config import Phase

WINDOW = 5  # epochs that a plateau compares with as many before them
DROP = 0.1
STEPS = (0.8, 0.9)  # shares of the training after which darknet's yolov3.cfg takes a tenth
DROPS = 4  # the last of these ends the training


def learning_rate(phase: Phase, step: int, steps: int, history: Sequence[float]) -> float:
    """Rate of a step, from 0, of so many.

    `cosine` and `linear` rise linearly over the warm-up and fall to lr · lr_final; `steps` rises too, then falls to a
    tenth after 80 and after 90 % of the steps. `plateau` is lr · 0.1 ** drops(history).

    Args:
        history: fitness at each validation so far.
    """
    if phase.schedule == "plateau":
        return phase.lr * DROP ** drops(history, phase.patience or 0)
    warm = phase.warmup * steps
    if step < warm:
        return phase.lr * (step + 1) / (warm + 1)
    if phase.schedule == "steps":
        return phase.lr * DROP ** sum(step >= share * steps for share in STEPS)
    done = (step - warm) / max(1.0, steps - warm)
    left = 1 - done if phase.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return phase.lr * (phase.lr_final + (1 - phase.lr_final) * left)


def drops(history: Sequence[float], patience: int) -> int:
    """How often the rate has fallen: whenever the last five epochs are no better on average than the five before.

    Judged once `patience` epochs have passed since the start or the last fall. This is the rule of Deep Cascade
    Learning (Marquez et al., TNNLS 29(11), 2018) in its authors' code, patience 10 there. Epochs before the first that
    found anything do not count here: a detector may need a while for its first match.
    """
    begin = next((epoch for epoch, own in enumerate(history) if own > 0), len(history))
    history, count, since = history[begin:], 0, 0
    for epoch in range(1, len(history) + 1):
        since += 1
        enough = since >= patience and epoch >= 2 * WINDOW
        if enough and fmean(history[epoch - WINDOW : epoch]) <= fmean(history[epoch - 2 * WINDOW : epoch - WINDOW]):
            count, since = count + 1, 0
    return count


def exhausted(phase: Phase, history: Sequence[float]) -> bool:
    """Whether early stopping ends the training: a plateau's last drop, or `patience` validations without a better.

    Validations before the first that found anything do not count: a detector may need a while for its first match.
    """
    if phase.patience is None or max(history, default=0) <= 0:
        return False
    if phase.schedule == "plateau":
        return drops(history, phase.patience) >= DROPS
    best = max(range(len(history)), key=lambda index: (history[index], -index))
    return len(history) - 1 - best >= phase.patience


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate for all parameters, times the factor of those with one of their own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
