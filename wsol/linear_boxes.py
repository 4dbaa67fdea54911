"""Boxes from maps by a linear function: every pixel of a map has its say in each coordinate (eq. 3, §2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from torch import Tensor

from utils.errors import UserError
from wsol.stored_maps import Maps, blocks

PENALTIES = tuple(10.0**power for power in range(-2, 6))
BATCH, RATE, DECAY_EVERY, ITERATIONS = 2048, 0.1, 10_000, 12_000  # §3.3; how many iterations it leaves open
EQUATIONS = 12_000  # that are solved at most; a matrix of so many rows takes 1.2 GB
SCALED_ON = 4096  # maps behind the scale of the descent


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


def ridge(maps: Maps, boxes: np.ndarray, penalty: float) -> LinearBoxes:
    """The least squares solution with a squared penalty on the weights, none on the intercept.

    Args:
        maps: [N, M] flattened.
        boxes: [N, 4] as fractions of the image.
    """
    return ridges(maps, boxes, [penalty])[0]


def ridges(
    maps: Maps, boxes: np.ndarray, penalties: Sequence[float], rows: np.ndarray | None = None
) -> list[LinearBoxes]:
    """Ridge solutions for several penalties, through N × N or M × M equations, whichever are fewer.

    Args:
        rows: numbers of the maps that are fitted to; None for all.

    Raises:
        UserError: there are more of both than can be solved.
    """
    rows = np.arange(len(boxes)) if rows is None else rows
    check_equations(len(rows), maps.shape[1])
    centre, middle = mean_map(maps, rows), boxes[rows].mean(0, dtype=np.float64)
    y = boxes[rows] - middle
    dual = len(rows) < maps.shape[1]
    equations, wanted = gram(maps, rows, centre) if dual else products(maps, rows, centre, y)
    solved = [
        solve(equations + penalty * np.eye(len(equations)), y if dual else wanted, assume_a="pos")
        for penalty in penalties
    ]
    weights = products(maps, rows, centre, np.concatenate(solved, 1), squares=False)[1] if dual else None
    found = solved if weights is None else np.split(weights, len(penalties), 1)
    return [LinearBoxes(own, middle - centre @ own) for own in found]


def check_equations(count: int, pixels: int) -> None:
    """Refuse what the closed form has no memory for.

    Raises:
        UserError: there are more of both maps and pixels than EQUATIONS.
    """
    if min(count, pixels) > EQUATIONS:
        what = f"{count} maps of {pixels} pixels are too many for the closed form"
        raise UserError(what, where="--method", hint="add :sgd, or fit to fewer with :images=4000")


def mean_map(maps: Maps, rows: np.ndarray) -> np.ndarray:
    """[M] mean of some of the maps."""
    total = np.zeros(maps.shape[1])
    for _, own in blocks(maps, rows):
        total += own.sum(0)
    return total / len(rows)


def products(
    maps: Maps, rows: np.ndarray, centre: np.ndarray, values: np.ndarray, *, squares: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """[M, M] products of the pixels' columns with each other, if asked for, and [M, k] with values [N, k]."""
    pixels = maps.shape[1]
    whole, other = np.zeros((pixels, pixels) if squares else (0, 0)), np.zeros((pixels, values.shape[1]))
    for place, own in blocks(maps, rows):
        own -= centre
        other += own.T @ values[place]
        if squares:
            whole += own.T @ own
    return whole, other


def gram(maps: Maps, rows: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, None]:
    """[N, N] products of the maps with each other."""
    found = np.zeros((len(rows), len(rows)))
    for place, own in blocks(maps, rows):
        own -= centre
        for beside, other in blocks(maps, rows[place.start :]):
            columns = slice(place.start + beside.start, place.start + beside.stop)
            found[place, columns] = own @ (other - centre).T
            found[columns, place] = found[place, columns].T
    return found, None


def best_ridge(
    maps: Maps, boxes: np.ndarray, groups: np.ndarray | None = None, *, held_out: float = 0.2, seed: int = 0
) -> LinearBoxes:
    """The ridge solution whose penalty is best on a part of the images that it is not fitted to; then fitted to all.

    Args:
        groups: [N] of whom a map is; maps of one are all fitted to, or all held out. None: each by itself.
        held_out: fraction of the groups, drawn at random: data sets list their images class by class.

    Raises:
        UserError: all maps are more than can be solved.
    """
    check_equations(len(boxes), maps.shape[1])
    fitted, kept = parted(np.arange(len(boxes)) if groups is None else groups, held_out, seed)
    tried = ridges(maps, boxes, PENALTIES, fitted)
    errors = np.zeros(len(tried))
    for place, part in blocks(maps, kept):
        errors += [float(((own(part) - boxes[kept[place]]) ** 2).sum()) for own in tried]
    return ridge(maps, boxes, PENALTIES[int(np.argmin(errors))])


def parted(groups: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices that are fitted to, and those that are held out, of whole groups [N] in an order drawn at random."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = first.argsort()[np.random.default_rng(seed).permutation(len(first))]
    place = order.argsort()[group]
    fitted = max(1, round(len(first) * (1 - held_out)))
    few, rest = np.split(place.argsort(kind="stable"), [int((place < fitted).sum())])
    return few, rest


def descended(maps: Maps, boxes: np.ndarray, *, iterations: int = ITERATIONS, seed: int = 0) -> LinearBoxes:
    """The same without a penalty, by stochastic gradient descent from zero as in §3.3 of the paper.

    Batches of 2,048, rate 0.1, a tenth of it after every 10,000 iterations; the error is the mean over images and
    coordinates. The paper leaves the scale of the maps open, on which it depends whether that rate converges: here it
    is the largest at which no step goes beyond the minimum, by at most 4,096 of them. Only the maps of a batch are in
    memory.
    """
    draw = torch.Generator().manual_seed(seed)
    some = np.arange(len(boxes))
    if len(some) > SCALED_ON:
        some = np.sort(np.random.default_rng(seed).permutation(some)[:SCALED_ON])
    scale = np.sqrt(2 / RATE / largest_eigenvalue(maps[some]))
    y = torch.from_numpy(boxes).float()
    weights, intercept = torch.zeros(maps.shape[1], 4), torch.zeros(4)
    order = torch.empty(0, dtype=torch.long)
    for iteration in range(iterations):
        rate = RATE / 10 ** (iteration // DECAY_EVERY)
        if len(order) < min(BATCH, len(y)):
            order = torch.randperm(len(y), generator=draw)
        rows, order = order[:BATCH], order[BATCH:]
        x = torch.from_numpy(maps[rows.numpy()] * scale).float()
        error = residual(x, y[rows], weights, intercept)
        weights -= rate * (x.T @ error)
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
