"""LIME for images (Ribeiro et al., arXiv 1602.04938): which superpixels a classifier needs, for several at once.

The same perturbed images go through all of them; the numbers are those of the `lime` package with the same segments and
seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

KERNEL_WIDTH, RIDGE = 0.25, 1.0
SAMPLES, SEGMENTS, BEST = 1000, 50, 5
BATCH, LARGE_BATCH = 16, 256  # on a CPU, whose caches hold that many activations, and elsewhere
Classifiers = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Perturbations:
    """An image with superpixels switched off.

    Attributes:
        segments: [H, W] which superpixel a pixel belongs to, from 0.
        on: [n, superpixels] 1 where one is left as it is; the first row is the image itself.
    """

    segments: np.ndarray
    on: np.ndarray

    @classmethod
    def draw(cls, segments: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> "Perturbations":
        """Each superpixel on or off by the toss of a coin."""
        count = int(segments.max()) + 1
        on = np.random.RandomState(seed).randint(0, 2, samples * count).reshape(samples, count)
        on[0] = 1
        return cls(segments, on)

    def apply(self, image: Tensor, rows: slice) -> Tensor:
        """[rows, 3, H, W] of an image [3, H, W]; a superpixel that is off has its mean colour."""
        index = torch.from_numpy(self.segments.reshape(-1)).long()
        flat = image.reshape(len(image), -1)
        sizes = torch.bincount(index, minlength=self.on.shape[1]).clamp(min=1)
        means = torch.zeros(len(image), self.on.shape[1], dtype=image.dtype).index_add_(1, index, flat) / sizes
        left = torch.from_numpy(self.on[rows])[:, index].to(image.dtype)[:, None]
        found = left * flat + (1 - left) * means[:, index]
        return found.reshape(-1, *image.shape)

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """[…, superpixels] of a ridge regression of values [n, …] on what is on, near perturbations counting more."""
        on = self.on.astype(np.float64)
        cosine = on.sum(1) / np.sqrt(np.maximum(on.sum(1), 1) * on.shape[1])
        weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2))
        targets = values.reshape(len(values), -1).astype(np.float64)
        total = weights.sum()
        centred, own = on - weights @ on / total, targets - weights @ targets / total
        gram = (centred * weights[:, None]).T @ centred + RIDGE * np.eye(on.shape[1])
        solved = np.linalg.solve(gram, (centred * weights[:, None]).T @ own)
        return np.asarray(solved.T.reshape(*values.shape[1:], on.shape[1]))


def superpixels(image: np.ndarray, count: int = SEGMENTS) -> np.ndarray:
    """[H, W] SLIC superpixels from 0 of an image [H, W, 3] in 0–1."""
    return np.asarray(slic(image, n_segments=count, start_label=0))


def explain(
    classify: Classifiers, image: Tensor, label: int, perturbations: Perturbations, *, batch_size: int = BATCH
) -> np.ndarray:
    """[classifiers, superpixels] how much each superpixel of an image [3, H, W] adds to the probability of a class.

    Args:
        classify: images [B, 3, H, W] → probabilities [B, classes] of each classifier.
    """
    values = []
    with torch.inference_mode():
        for start in range(0, len(perturbations.on), batch_size):
            images = perturbations.apply(image, slice(start, start + batch_size))
            images = images.contiguous(memory_format=torch.channels_last)
            values.append(torch.stack([own[:, label] for own in classify(images)], 1).double().cpu())
    return perturbations.coefficients(torch.cat(values).numpy())


def explanation(coefficients: np.ndarray, segments: np.ndarray, best: int = BEST) -> np.ndarray:
    """[H, W] bool: the superpixels that add most, at most so many, and none that takes away."""
    kept = [index for index in np.argsort(-np.abs(coefficients), kind="stable") if coefficients[index] > 0][:best]
    return np.isin(segments, kept)
