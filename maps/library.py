"""Maps of any classifier in a few lines: `maps = explain(model, …)`, `measure(maps, boxes)`, `maps.show()`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from maps.binary import PERCENTILES
from maps.evidence import Evidence
from maps.granulometry import radii_for
from maps.kinds import MAPS, explanations, title_of
from maps.measures import MEASURES, Rule
from maps.measures import measure as measure_evidence
from maps.overlap import box_mask
from maps.overlay import outlined, overlaid, picture
from maps.tapped import Tapped
from utils.errors import UserError
from utils.files import write_text
from utils.plain_yaml import in_short
from utils.plots import canvas, write_figure
from utils.text import NOTHING, as_terminal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# How models refuse images of other channels or another size.
REFUSALS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)
PIXELS = "pixels"  # in place of a layer, of maps that are made on the image itself
Statistics = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Maps:
    """Maps of some images; `maps["gradcam", "layer4"]` gives those of a kind and layer.

    Attributes:
        images: [B, 3, H, W] RGB in 0–1.
        labels: [B] the class of each that is explained.
        evidence: kind, layer → maps at the size of the layer.
    """

    images: Tensor
    labels: Tensor
    evidence: dict[tuple[str, str], Evidence]

    def __getitem__(self, key: tuple[str, str]) -> Tensor:
        """[B, H, W], none below zero, at the size of the images."""
        if key not in self.evidence:
            there = ", ".join(f"{kind} {layer}" for kind, layer in self.evidence)
            raise UserError(f"no maps {key}", where="maps", hint=f"there is {there}")
        return self.evidence[key].at(*self.images.shape[2:]).maps

    def show(
        self, path: Path | str | None = None, *, boxes: Sequence[np.ndarray] | None = None, rows: int = 8
    ) -> Figure:
        """A row an image, a column a map.

        Args:
            path: a file to write too, as PNG, SVG or PDF by its ending.
            boxes: [n, 4] of each image, x1 y1 x2 y2 in pixels, which are drawn.
            rows: images at most.

        Raises:
            UserError: the boxes are not those of the images; no format has the file's ending.
        """
        known = None if boxes is None else checked_boxes(boxes, self.images)
        shown, across = min(rows, len(self.images)), 1 + len(self.evidence)
        figure, axes = canvas(shown, across, (1.9 * across, 2.05 * shown + 0.3))
        for column, (kind, layer) in enumerate([("", ""), *self.evidence]):
            maps = self[kind, layer].float().cpu().numpy() if kind else None
            axes[0, column].set_title(f"{title_of(kind)}\n{layer}" if kind else "", fontsize=9)
            for row in range(shown):
                image = picture(self.images[row].cpu())
                image = image if maps is None else overlaid(image, maps[row])
                image = image if known is None else outlined(image, known[row], self.images.shape[2])
                axes[row, column].imshow(image)
                axes[row, column].axis("off")
        if path is not None:
            write_figure(figure, Path(path))
        return figure


@dataclass(frozen=True)
class Values:
    """What was measured; prints as a table of means over the images.

    Attributes:
        by_image: kind, layer → measure → [B].
    """

    by_image: dict[tuple[str, str], dict[str, np.ndarray]]

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """A row for each kind and layer: the means."""
        return [
            {"map": kind, "layer": layer, **{name: mean_of(own) for name, own in values.items()}}
            for (kind, layer), values in self.by_image.items()
        ]

    def __str__(self) -> str:
        rows = [[number(own) if isinstance(own, float) else own for own in row.values()] for row in self.rows]
        table = [list(self.rows[0]), *rows]
        return as_terminal(table)

    def write(self, path: Path | str) -> None:
        """A CSV of the values: a row for each map, layer and image."""
        names = list(next(iter(self.by_image.values())))
        lines = [",".join(["map", "layer", "image", *names])]
        for (kind, layer), values in self.by_image.items():
            columns = zip(*(values[name] for name in names), strict=True)
            lines += [",".join([kind, layer, str(row), *map("{:.6g}".format, own)]) for row, own in enumerate(columns)]
        write_text(Path(path), "\n".join(lines) + "\n")


def mean_of(values: np.ndarray) -> float:
    """Over the images that have a value; NaN where none has, as where all maps are empty."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def number(value: float) -> str:
    """With three digits; a dash for NaN."""
    return NOTHING if math.isnan(value) else f"{value:.3f}"


@torch.inference_mode(mode=False)
def explain(
    model: nn.Module,
    layers: str | Sequence[str] = (),
    *,
    images: Tensor,
    labels: Tensor | Sequence[int] | None = None,
    kinds: str | Sequence[str] = ("gradcam",),
    normalise: Statistics | None = None,
    aligned: bool = True,
    single_label: bool = True,
    batch_size: int = 16,
) -> Maps:
    """Maps of a classifier, all layers and those kinds that can share one in one pass.

    The model is used as it is and where it is; it evaluates, and nothing of it is changed.

    Args:
        model: images → logits [B, classes].
        layers: names of modules that put out maps [B, C, h, w], maps with channels last, or tokens of square images.
        images: [B, 3, H, W] RGB in 0–1, or [B, 1, H, W] where the model takes one channel.
        labels: [B] the class to explain of each; None: the one that the model finds likeliest.
        kinds: of MAPS.
        normalise: mean and deviation of the channels, where the model wants images minus that mean over the deviation.
        aligned: maps are put where their cells look, which is measured; False: stretched over the image.
        single_label: whether the classes exclude each other.
        batch_size: images of a pass.

    Raises:
        UserError: no kind; no such layer or kind; a layer without maps, or whose cells have no place in the image;
            images or labels that the model cannot take.
    """
    layers, kinds = several(layers, "layers"), several(kinds, "kinds")
    if not kinds:
        raise UserError("none given", where="kinds", hint=f"give some of {', '.join(MAPS)}")
    chosen = [MAPS.pick(kind, "kinds") for kind in kinds]
    for kind in chosen:
        if kind.mapped:
            raise UserError(f"{kind.title} wants a classifier on every layer", where="kinds", hint="take gradcam")
        if kind.layered and not layers:
            raise UserError(f"{kind.title} wants layers", where="layers", hint="name modules of the model")
    check_images(images)
    if batch_size < 1:
        raise UserError(f"{batch_size}", where="batch_size", hint="give 1 or more")
    prepare = prepared(normalise, images.shape[1])
    network = Tapped(model, layers, aligned=aligned, single_label=single_label, prepare=prepare)
    images = with_gradients(images.to(network.device))
    asked = checked_labels(labels, logits_of(network, images, batch_size))
    found: dict[tuple[str, str], list[Evidence]] = {}
    for part, classes in zip(images.split(batch_size), asked.split(batch_size), strict=True):
        for name, maps in explanations(network, part, classes, kinds).items():
            for layer, one in zip(network.layers if MAPS[name].layered else (PIXELS,), maps, strict=True):
                found.setdefault((name, layer), []).append(one)
    return Maps(images, asked, {key: joined(parts) for key, parts in found.items()})


def several(names: str | Sequence[str], where: str) -> list[str]:
    """One name or several as a list, each once.

    Raises:
        UserError: something else, such as a module.
    """
    found = [names] if isinstance(names, str | nn.Module) else list(names)
    if others := [own for own in found if not isinstance(own, str)]:
        what = f"{in_short(others[0])} is no name"
        raise UserError(what, where=where, hint="give names; model.named_modules() has those of layers")
    return list(dict.fromkeys(found))


def measure(
    maps: Maps, boxes: Sequence[np.ndarray], *, percentile: int = 80, measures: str | Sequence[str] = ()
) -> Values:
    """How well maps fall on boxes.

    Args:
        boxes: [n, 4] of each image, x1 y1 x2 y2 in pixels, of what is explained.
        percentile: pixels above it are a map's region: 5, 10 … 95, 97, 98, 99.
        measures: those of MEASURES that are of maps; () for all of these.

    Raises:
        UserError: no such measure or percentile; boxes that are not those of the images; an image without a box.
    """
    there = [own.name for own in MEASURES.values() if own.maps]
    wanted = [MEASURES.pick(name).name for name in several(measures, "measures")] or there
    if others := [name for name in wanted if name not in there]:
        what = f"`{others[0]}` is no measure of these maps"
        raise UserError(what, where="measures", hint=f"give some of {', '.join(there)}")
    if percentile not in PERCENTILES:
        raise UserError(f"{percentile}", where="percentile", hint=f"give one of {', '.join(map(str, PERCENTILES))}")
    height, width = maps.images.shape[2:]
    known = checked_boxes(boxes, maps.images)
    if empty := [number for number, own in enumerate(known) if not len(own)]:
        hint = "leave out images without boxes: nothing can fall on these"
        raise UserError(f"none in image {empty[0]}", where="boxes", hint=hint)
    truth = np.stack([box_mask(own, height, width) for own in known])
    cells = [max(height, width) / max(own.maps.shape[-2:]) for own in maps.evidence.values()]
    rule = Rule(percentile, radii=radii_for(max(height, width), max(cells, default=1.0)))
    found = {key: measure_evidence(own, truth, known, rule) for key, own in maps.evidence.items()}
    return Values({key: {name: values[name] for name in wanted} for key, values in found.items()})


def prepared(normalise: Statistics | None, channels: int) -> Normalised:
    """Images in 0–1 as a model takes them."""
    try:
        mean, deviation = (tuple(map(float, own)) for own in normalise or ((0,) * channels, (1,) * channels))
    except (TypeError, ValueError):
        mean = deviation = ()
    if len(mean) != channels or len(deviation) != channels or min(deviation) <= 0:
        hint = f"give (mean, deviation) of {channels} channel{'s' * (channels > 1)} each"
        raise UserError(f"{normalise}", where="normalise", hint=hint)
    return Normalised(mean, deviation)


@dataclass(frozen=True)
class Normalised:
    """Images minus a mean over a deviation, channel by channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        mean, deviation = (images.new_tensor(own).view(-1, 1, 1) for own in (self.mean, self.deviation))
        return (images - mean) / deviation


@torch.no_grad()
def logits_of(network: Tapped, images: Tensor, batch_size: int) -> Tensor:
    """[B, classes] of images that the model can take.

    Raises:
        UserError: it cannot.
    """
    first, *others = images.split(batch_size)
    try:
        return torch.cat([network.checked(first), *(network(part)[0] for part in others)])
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        what = f"{list(images.shape)} do not go through the model ({reason})"
        raise UserError(what, where="images", hint="give channels and a size that it takes") from error


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Maps of several batches."""
    raw = [own.raw for own in parts if own.raw is not None]
    return Evidence(torch.cat([own.maps for own in parts]), torch.cat(raw) if raw else None, parts[0].frame)


def check_images(images: Tensor) -> None:
    """Refuse what are no images.

    Raises:
        UserError: another shape, no numbers, or outside 0–1.
    """
    hint = "give RGB in 0–1 as a float tensor [images, 3, height, width], or one channel; a mean goes to `normalise`"
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] not in (1, 3) or not len(images):
        what = list(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise UserError(f"{what}", where="images", hint=hint)
    if not images.is_floating_point():
        raise UserError(f"{images.dtype}", where="images", hint=hint)
    low, high = (float(own) for own in torch.aminmax(images))
    if not (low >= 0 and high <= 1):
        raise UserError(f"pixels from {low:.3g} to {high:.3g}", where="images", hint=hint)


def checked_labels(labels: Tensor | Sequence[int] | None, logits: Tensor) -> Tensor:
    """[B] the classes to explain, of logits [B, classes].

    Raises:
        UserError: not one whole number an image, or no class of the model.
    """
    if labels is None:
        return logits.argmax(1)
    try:
        own = torch.as_tensor(labels)
        given = f"{list(own.shape)} {own.dtype}"
    except (TypeError, ValueError, RuntimeError):
        own, given = torch.zeros(0), in_short(labels)  # which is refused
    if own.shape != (len(logits),) or own.is_floating_point() or own.dtype is torch.bool:
        what = f"{given} for {len(logits)} images"
        raise UserError(what, where="labels", hint="give the index of one class for each image")
    wrong = ((own < 0) | (own >= logits.shape[1])).nonzero()[:, 0].tolist()
    if wrong:
        what = f"{int(own[wrong[0]])} of image {wrong[0]} is no class of the model"
        raise UserError(what, where="labels", hint=f"give 0 to {logits.shape[1] - 1}")
    return with_gradients(own.long().to(logits.device))


def with_gradients(own: Tensor) -> Tensor:
    """A tensor that gradients can go through, where inference mode made one that they cannot."""
    return own.clone() if own.is_inference() else own


def checked_boxes(boxes: Sequence[np.ndarray], images: Tensor) -> list[np.ndarray]:
    """[n, 4] of each image.

    Raises:
        UserError: not one array an image, or a box that holds no pixel of it.
    """
    hint = "give [n, 4] for each image, x1 y1 x2 y2 in its pixels"
    if len(boxes) != len(images):
        raise UserError(f"{len(boxes)} for {len(images)} images", where="boxes", hint=hint)
    height, width = images.shape[2:]
    try:
        found = [np.asarray(own.detach().cpu() if isinstance(own, Tensor) else own, np.float64) for own in boxes]
    except (TypeError, ValueError) as error:
        raise UserError(f"{in_short(boxes)} are no arrays of numbers", where="boxes", hint=hint) from error
    for number, own in enumerate(found):
        if own.ndim != 2 or own.shape[1] != 4:
            raise UserError(f"{list(own.shape)} of image {number}", where="boxes", hint=hint)
        for one in own:
            if not box_mask(one[None], height, width).any():
                raise UserError(f"{one.tolist()} of image {number} holds no pixel", where="boxes", hint=hint)
    return found
