"""The way of one image: class, sensitivity map, box (figure 2 of the paper on sensitivity analysis)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maps.kinds import Explained
from maps.overlay import FOUND, outlined, picture
from maps.plan import Plan
from utils.plots import canvas, write_figure
from wsol.localiser import Localiser

SAID = 3  # classes


@dataclass(frozen=True)
class Pipeline:
    """What becomes of an image.

    Attributes:
        image: [3, H, W] in 0–1.
        sizes: channels, height, width behind each block of the network.
        said: likeliest classes with their probabilities.
        how: the map is made, for a title.
        map: [H, W].
        box: [4] that was found, in pixels.
        true: [n, 4].
    """

    image: Tensor
    sizes: Sequence[tuple[int, int, int]]
    said: Sequence[tuple[str, float]]
    how: str
    map: np.ndarray
    box: np.ndarray
    true: np.ndarray


@torch.no_grad()
def followed(
    plan: Plan, network: Explained, localise: Localiser, pairs: np.ndarray, ious: np.ndarray, how: str
) -> Pipeline:
    """The way of the case whose box is best.

    Args:
        pairs: [cases, 2] index of the image among those explained, and class.
        ious: [cases] of the box that was found.
        how: the map is made.
    """
    image, label = pairs[int(ious.argmax())].tolist()
    parts = plan.cases([plan.split.records[image]], "pipeline", batch_size=1)
    cases = next(own for own in parts if int(own.labels[0]) == label)
    pixels = cases.images.to(plan.device)
    logits = network(pixels)[-1][0].cpu()
    shares = logits.softmax(0) if network.single_label else logits.sigmoid()
    best = shares.topk(min(SAID, len(shares)))
    names = plan.files[0].names
    said = [(names[index], float(share)) for share, index in zip(*best, strict=True)]
    sizes = [(own.shape[1], own.shape[2], own.shape[3]) for own in network.features(pixels)]
    maps = localise.maps(cases.images, cases.labels)
    height, width = cases.truth.shape[1:]
    box = localise.boxes(maps)[0] * [width, height, width, height]
    return Pipeline(cases.images[0], sizes, said, how, maps[0], box, cases.boxes[0])


def save_pipeline(own: Pipeline, title: str, path: Path) -> None:
    """Draw it from left to right: picture, layers, classes, map, picture with true boxes (green) and box (red)."""
    figure, [axes] = canvas(columns=5, size=(13, 3), width_ratios=(1, 1.2, 0.8, 1, 1))
    seen, height = picture(own.image), own.image.shape[1]
    shown = outlined(seen, own.true, height)
    shown = shown if np.isnan(own.box).any() else outlined(shown, own.box[None], height, FOUND)
    axes[0].imshow(seen)
    axes[3].imshow(own.map, cmap="inferno")
    axes[4].imshow(shown)
    draw_layers(axes[1], own.sizes)
    names, shares = zip(*reversed(own.said), strict=True)
    axes[2].barh([name[:16] for name in names], shares, color="C0")
    axes[2].set(xlim=(0, 1), box_aspect=0.8)
    titles = ("image", "→ network", "→ class", f"← {own.how}:\nsensitivity map", "linear function → box")
    for place, (axis, text) in enumerate(zip(axes, titles, strict=True)):
        axis.set_title(text, fontsize=10)
        if place in (0, 3, 4):
            axis.axis("off")
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path)


def draw_layers(axis: object, sizes: Sequence[tuple[int, int, int]]) -> None:
    """A bar for each block: as high as its features are, as thick as they have channels."""
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    if not isinstance(axis, Axes):
        raise TypeError("no axis of matplotlib")
    left, tallest = 0.0, max(height for _, height, _ in sizes)
    for number, (channels, height, width) in enumerate(sizes):
        thick, tall = np.sqrt(channels), height / tallest
        axis.add_patch(Rectangle((left, -tall / 2), thick, tall, color="C0", alpha=0.35 + 0.5 * number / len(sizes)))
        if number in (0, len(sizes) - 1):
            axis.text(left + thick / 2, -tall / 2 - 0.04, f"{channels}×{height}×{width}", ha="center", va="top", size=8)
        left += thick * 1.4
    axis.set(xlim=(-0.15 * left, 1.15 * left), ylim=(-0.75, 0.6))
    axis.axis("off")
