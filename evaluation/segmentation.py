"""Segmentation on the images of a split: the class of every pixel, counted against the true one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.loader import DetectionSet, InOrder, make_loader
from data.masks import mask_names, mask_pixels
from data.records import Record
from data.transforms import eval_transform
from evaluation.classification import resamples
from evaluation.intervals import share_bounds, without_each
from evaluation.learnt import enough
from evaluation.predict import Clock
from models.segmenter import winners
from utils.console import progress
from utils.letterbox import IGNORED

SEED = 0  # of the resamples


@torch.inference_mode()
def segment_split(
    find: Callable[[Tensor], Tensor],
    records: list[Record],
    imgsz: int,
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    clock: Clock | None = None,
) -> Iterator[np.ndarray]:
    """[H, W] uint8 class numbers of each record, in their order and in pixels of the original image.

    Args:
        find: images [B, 3, S, S] → scores [B, classes, S, S].
        clock: counts the seconds of `load`, of the `network`, and of `back`: scores at the size of the original image.
    """
    clock = clock or Clock()
    loader = make_loader(DetectionSet(records, eval_transform(imgsz), seed=0), InOrder(len(records)), batch_size, 0)
    batches = iter(progress(loader, "segmenting", len(loader)))
    while True:
        with clock.phase("load"):
            batch = next(batches, None)
        if batch is None:
            return
        with clock.phase("network"), autocast():
            scores = find(batch.images.to(device, memory_format=torch.channels_last))
        for index, own in zip(batch.index.tolist(), scores, strict=True):
            with clock.phase("back"):
                found = winners(own, imgsz, records[index].size_hw)
            yield found


def confusion(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """[classes, classes] int64 pixels of a true class (row) that were said to be of a class (column).

    Args:
        truth: [H, W] class numbers; 255 does not count.
    """
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def count_all(records: Iterable[Record], found: Iterable[np.ndarray], classes: int) -> Iterator[np.ndarray]:
    """The confusion of each image.

    Raises:
        UnreadableError: a mask is gone, or damaged.
    """
    for record, own in zip(records, found, strict=False):  # whoever stops early asks for no more
        yield confusion(mask_pixels(record), own, classes)


def shares(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Of each class, from pixels [..., classes, classes]: fractions [..., classes], NaN where it has no pixel.

    - `iou`: n / (n + e), n pixels of the class that were found as such, e wrong ones: those of the class that were
      found as another, and those of others that were found as it. VOC's segmentation accuracy.
    - `recall`: fraction of its pixels that were found as such; `precision`: share of what was found as it that is.
    """
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    true, said = matrix.sum(-1), matrix.sum(-2)
    with np.errstate(invalid="ignore"):
        found = {"iou": right / (true + said - right), "recall": right / true, "precision": right / said}
    return {name: np.where(true > 0, own, np.nan) for name, own in found.items()}


def overall(matrix: np.ndarray) -> dict[str, float]:
    """Figures of all classes together, fractions 0–1 of pixels [classes, classes], as in the FCN paper.

    - `miou`: mean IoU over the classes that have pixels, the background among them;
    - `accuracy`: fraction of the pixels that are right; `class_accuracy`: mean recall over the classes;
    - `weighted_iou`: mean IoU weighted by the classes' pixels.

    0 where no pixel counts.
    """
    own, true = shares(matrix), matrix.sum(-1)
    there = true > 0
    if not there.any():
        return dict.fromkeys(("miou", "accuracy", "class_accuracy", "weighted_iou"), 0.0)
    weights = true[there] / true.sum()
    return {
        "miou": float(own["iou"][there].mean()),
        "accuracy": float(np.diagonal(matrix).sum() / true.sum()),
        "class_accuracy": float(own["recall"][there].mean()),
        "weighted_iou": float((own["iou"][there] * weights).sum()),
    }


def segmentation_metrics(
    matrices: np.ndarray, names: Sequence[str], draws: int = 0, groups: Any = None
) -> dict[str, Any]:
    """All figures of images [N, classes, classes].

    Args:
        names: of the classes without the background.
        draws: resamples of the images behind the 95 % intervals; 0: none.
        groups: [N] images of one group are drawn together; None: each by itself.
    """
    matrix = matrices.sum(0)
    own, true = shares(matrix), matrix.sum(1)
    per_class = {
        name: {"pixels": int(true[number])}
        | {key: None if np.isnan(column[number]) else float(column[number]) for key, column in own.items()}
        for number, name in enumerate(mask_names(names))
    }
    found: dict[str, Any] = {
        **overall(matrix),
        "images": len(matrices),
        "pixels": int(true.sum()),
        "per_class": per_class,
    }
    if draws:
        found["intervals"] = intervals(matrices, draws, groups)
    return found


def intervals(matrices: np.ndarray, draws: int, groups: np.ndarray | None) -> dict[str, Any]:
    """95 % intervals [low, high] of the overall figures over resampled images, and the number of resamples.

    None where there are too few images, or groups.
    """
    if not enough(np.arange(len(matrices)) if groups is None else groups):
        return {"draws": draws, **dict.fromkeys(overall(matrices[0]))}
    flat = matrices.reshape(len(matrices), -1).astype(np.float64)
    own, names = np.arange(len(matrices)) if groups is None else groups, [*overall(matrices[0])]

    def figures(weights: np.ndarray) -> np.ndarray:
        """[draws, figures] overall, of images that count so often [N, draws]."""
        rows = (overall(row.reshape(matrices.shape[1:])) for row in weights.T.astype(np.float64) @ flat)
        return np.array([[*row.values()] for row in rows]).reshape(-1, len(names))

    drawn = np.concatenate([figures(weights) for weights in resamples(len(matrices), draws, SEED, groups)])
    (whole,) = figures(np.ones((len(matrices), 1)))
    bounds = share_bounds(whole, drawn, figures(without_each(own)), len(np.unique(own)))
    return {"draws": draws, **dict(zip(names, bounds.T.tolist(), strict=True))}
