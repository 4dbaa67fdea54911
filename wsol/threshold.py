"""At which fraction of its maximum a map is cut off, chosen on images kept for this."""

from collections.abc import Iterable

import numpy as np

from maps.boxes_from_maps import above_share, best_ious, boxes_from_maps

SHARES = tuple(round(0.05 * step, 2) for step in range(1, 20))
CORRECT = 0.5  # IoU


def best_share(parts: Iterable[tuple[np.ndarray, list[np.ndarray]]]) -> float:
    """The share with most boxes right, of maps [N, H, W] with the true boxes [n, 4] of each, in pixels."""
    hits = np.zeros(len(SHARES))
    for maps, boxes in parts:
        found = [best_ious(boxes_from_maps(maps, above_share(share)), boxes) for share in SHARES]
        hits += (np.array(found) >= CORRECT).sum(1)
    return SHARES[int(hits.argmax())]
