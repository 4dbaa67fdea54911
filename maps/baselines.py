"""Maps that cost nothing to make, which a network must beat: random, the centre, edges."""

import numpy as np
from scipy import ndimage


def random_maps(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """[N, H, W] of independent numbers in 0–1."""
    return np.random.default_rng(seed).random((count, height, width))


def centre_map(height: int, width: int) -> np.ndarray:
    """[H, W] a Gaussian in the middle, of a quarter of each side."""
    ys, xs = (np.arange(side) + 0.5 - side / 2 for side in (height, width))
    return np.asarray(np.exp(-((ys[:, None] / height) ** 2 + (xs[None] / width) ** 2) * 8))


def edge_maps(images: np.ndarray) -> np.ndarray:
    """[N, H, W] Sobel's gradient of the brightness of images [N, 3, H, W]."""
    # One by one: over the whole stack the filter would also blur across images.
    return np.stack([np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) for grey in images.mean(1)])
