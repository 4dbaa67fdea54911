"""Boxes from maps by a linear function: every pixel of a map has its say in each coordinate (eq. 3, §2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-2, 6))
BATCH, RATE, DECAY_EVERY, ITERATIONS = 2048, 0.1, 10_000, 12_000  # §3.3; how many iterations it leaves open


@dataclass(frozen=True)
class LinearBoxes:
    """Maps [N, M] → boxes [N, 4], x1 y1 x2 y2 as fractions of the image: weights [M, 4] and an intercept [4]."""

    weights: np.ndarray
    intercept: np.ndarray

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        return in_image(maps @ self.weights + self.intercept)


def in_image(boxes: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] with their corners in order and inside the image."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.clip(np.concatenate([low, high], 1), 0, 1)


def flattened(maps: np.ndarray) -> np.ndarray:
    """[N, H, W] → [N, H·W], each map over its own maximum; one that is zero everywhere stays so."""
    flat = maps.reshape(len(maps), -1).astype(np.float32)
    return flat / np.maximum(flat.max(1, keepdims=True), np.finfo(np.float32).tiny)


def ridge(maps: np.ndarray, boxes: np.ndarray, penalty: float) -> LinearBoxes:
    """The least squares solution with a squared penalty on the weights, none on the intercept.

    Args:
        maps: [N, M] flattened.
        boxes: [N, 4] as fractions of the image.
    """
    return ridges(maps, boxes, [penalty])[0]


def ridges(maps: np.ndarray, boxes: np.ndarray, penalties: Sequence[float]) -> list[LinearBoxes]:
    """Ridge solutions for several penalties, through N × N or M × M equations, whichever are fewer."""
    centre, middle = maps.mean(0, dtype=np.float64), boxes.mean(0, dtype=np.float64)
    x, y = maps - centre, boxes - middle
    dual = len(x) < x.shape[1]
    equations, wanted = (x @ x.T, y) if dual else (x.T @ x, x.T @ y)
    found = []
    for penalty in penalties:
        solved = solve(equations + penalty * np.eye(len(equations)), wanted, assume_a="pos")
        weights = x.T @ solved if dual else solved
        found.append(LinearBoxes(weights, middle - centre @ weights))
    return found


def best_ridge(maps: np.ndarray, boxes: np.ndarray, *, held_out: float = 0.2, seed: int = 0) -> LinearBoxes:
    """The ridge solution whose penalty is best on a part of the images that it is not fitted to; then fitted to all.

    Args:
        held_out: fraction of the images, drawn at random: data sets list their images class by class.
    """
    order = np.random.default_rng(seed).permutation(len(maps))
    fitted, kept = np.split(order, [max(1, round(len(maps) * (1 - held_out)))])
    errors = [
        float(((own(maps[kept]) - boxes[kept]) ** 2).mean()) for own in ridges(maps[fitted], boxes[fitted], PENALTIES)
    ]
    return ridge(maps, boxes, PENALTIES[int(np.argmin(errors))])


def descended(maps: np.ndarray, boxes: np.ndarray, *, iterations: int = ITERATIONS, seed: int = 0) -> LinearBoxes:
    """The same without a penalty, by stochastic gradient descent from zero as in §3.3 of the paper.

    Batches of 2,048, rate 0.1, a tenth of it after every 10,000 iterations; the error is the mean over images and
    coordinates. The paper leaves the scale of the maps open, on which it depends whether that rate converges: here it
    is the largest at which no step goes beyond the minimum.
    """
    scale = np.sqrt(2 / RATE / largest_eigenvalue(maps))
    x, y = torch.from_numpy(maps * scale).float(), torch.from_numpy(boxes).float()
    weights, intercept = torch.zeros(x.shape[1], 4), torch.zeros(4)
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for iteration in range(iterations):
        rate = RATE / 10 ** (iteration // DECAY_EVERY)
        if len(order) < min(BATCH, len(x)):
            order = torch.randperm(len(x), generator=draw)
        rows, order = order[:BATCH], order[BATCH:]
        error = residual(x[rows], y[rows], weights, intercept)
        weights -= rate * (x[rows].T @ error)
        intercept -= rate * error.sum(0)
    return LinearBoxes(weights.double().numpy() * scale, intercept.double().numpy())


def largest_eigenvalue(maps: np.ndarray, rounds: int = 30) -> float:
    """Of the mean of the outer products of maps [N, M], one of which is not zero; by power iteration."""
    vector = np.ones(maps.shape[1])
    for _ in range(rounds):
        image = maps.T @ (maps @ vector) / len(maps)
        length = float(np.linalg.norm(image))
        vector = image / length
    return length


def residual(x: Tensor, y: Tensor, weights: Tensor, intercept: Tensor) -> Tensor:
    """[n, 4] gradient of the mean squared error by the predictions."""
    return (x @ weights + intercept - y) * (2 / y.numel())


def mean_box(boxes: np.ndarray) -> np.ndarray:
    """[4] the mean of all boxes: what the intercept alone would give."""
    return np.asarray(boxes.mean(0, dtype=np.float64))


def centre_box(boxes: np.ndarray) -> np.ndarray:
    """[4] a box of the mean size in the middle of the image (the paper's table 3)."""
    half = (boxes[:, 2:] - boxes[:, :2]).mean(0, dtype=np.float64) / 2
    return np.concatenate([0.5 - half, 0.5 + half])
