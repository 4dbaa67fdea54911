"""What finds one box for a class in an image: maps, and boxes from them, cut off or regressed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.learnt import groups_of
from maps.boxes_from_maps import above_share, boxes_from_maps
from maps.cases import Cases
from maps.frame import Frame
from maps.kinds import Evidence, Explained, cams, grad_cams, saliencies
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES, labelled, learning
from models.backbone import Backbone
from wsol.linear_boxes import flattened
from wsol.mining.networks import ClassMaps, Upsampling
from wsol.mining.train import Images, Mining, aggregated, mine, mined
from wsol.sensitivity import Aggregate, attention_sensitivity, class_sensitivity, finite_differences
from wsol.stored_maps import Maps as Rows
from wsol.stored_maps import stored
from wsol.threshold import best_share

Maps = Callable[[Tensor, Tensor], np.ndarray]
"""Images [B, 3, H, W] in 0–1 and classes [B] → maps [B, H, W]."""

Fit = Callable[[Rows, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""Flattened maps [N, M], boxes [N, 4] and groups [N], of whom each map is → what makes boxes [N, 4] of such maps."""


@dataclass(frozen=True)
class Localiser:
    """What finds a box for a class of an image.

    Attributes:
        maps: what it looks at.
        boxes: maps → boxes [B, 4] as fractions of the image; NaN where there is none.
        source: where the maps are from, if boxes are around what is high in them, so that measures of maps say
            something of it: the same for every rule of cutting them off.
    """

    maps: Maps
    boxes: Callable[[np.ndarray], np.ndarray]
    source: Callable[["Subject"], Maps] | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> np.ndarray:
        return self.boxes(self.maps(images, labels))


@dataclass(frozen=True)
class Subject:
    """A network, and what a method may learn from.

    Attributes:
        network: its cuts with their classifiers.
        training: gives the training images with their boxes, batch by batch, as often as it is asked. It takes a
            number of images, which are drawn at random; 0 or none: all.
        plan: with the images that are explained, whose classes may be known, but not their boxes.
        layers: gives the network once more, free to be trained, with its classifiers.
        seed: of the network, and of what learns on from it.
    """

    network: Explained
    training: Callable[..., Iterable[Cases]]
    plan: Plan
    layers: Callable[[], tuple[Backbone, Sequence[nn.Module]]]
    seed: int = 0


def largest(cases: Cases) -> np.ndarray:
    """[N, 4] the largest true box of each case, as fractions of the image: what a single box is fitted to."""
    height, width = cases.truth.shape[1:]
    found = [own[np.argmax((own[:, 2:] - own[:, :2]).prod(1))] for own in cases.boxes]
    return np.array(found, np.float64) / [width, height, width, height]


def constant(box: Callable[[np.ndarray], np.ndarray], subject: Subject) -> Localiser:
    """The same box in every image."""
    own = box(np.concatenate([largest(cases) for cases in subject.training()]))
    return Localiser(no_maps, lambda maps: np.tile(own, (len(maps), 1)))


def no_maps(images: Tensor, labels: Tensor) -> np.ndarray:
    """[B, 0, 0] for what does not look at the image."""
    return np.zeros((len(images), 0, 0))


def by_regression(
    maps_of: Callable[[Subject], Maps],
    fit: Fit,
    subject: Subject,
    images: int = TRAINING_IMAGES,
) -> Localiser:
    """A linear function of all pixels of a map.

    Args:
        images: that it is fitted to, drawn at random; 0 for all that have boxes. The network looks at each once.
    """
    maps = maps_of(subject)
    of_image, groups = groups_of(learning(subject.plan, images)), list[np.ndarray]()

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in subject.training(images):
            groups.append(of_image[part.record])
            yield flattened(maps(part.images, part.labels)), largest(part)

    with stored(parts()) as (rows, boxes):
        own = fit(rows, boxes, np.concatenate(groups))
    return Localiser(maps, lambda found: own(flattened(found)))


def by_threshold(maps_of: Callable[[Subject], Maps], share: float | None, subject: Subject) -> Localiser:
    """The box around the largest component of what is above a fraction of the maximum.

    Args:
        share: None for the best on images that are kept for this, or else on the training images (Choe et al.,
            arXiv 2001.07437: chosen beside the test images).
    """
    maps = maps_of(subject)
    if share is None:
        plan = subject.plan
        kept = plan.cases(plan.tuning, "threshold") if plan.tuning else subject.training()
        share = best_share((maps(cases.images, cases.labels), cases.boxes) for cases in kept)
    rule = above_share(share)

    def boxes(found: np.ndarray) -> np.ndarray:
        size = np.tile(found.shape[:0:-1], 2)
        own = boxes_from_maps(found, rule)
        return np.array([np.full(4, np.nan) if box is None else box / size for box in own])

    return Localiser(maps, boxes, maps_of)


def map_of(evidence: Sequence[Evidence], images: Tensor, cut: int = 0) -> np.ndarray:
    """[B, H, W] the map of a cut, counted from 1, or of the last for 0, at the size of the images."""
    return evidence[cut - 1].at(*images.shape[2:]).maps.float().cpu().numpy()


def by_network(maps_of: Callable[[Explained, Tensor, Tensor], np.ndarray]) -> Callable[[Subject], Maps]:
    """Maps that a network gives as it is."""

    def of(subject: Subject) -> Maps:
        device = subject.plan.device
        return lambda images, labels: maps_of(subject.network, images.to(device), labels.to(device))

    return of


@cache  # one function for each cut: what is measured of its maps is measured once, however they are cut off
def gradcam_maps(cut: int = 0) -> Callable[[Subject], Maps]:
    """Grad-CAM of a cut, counted from 1, by its own classifier; of the last for 0."""
    return by_network(lambda network, images, labels: map_of(grad_cams(network, images, labels), images, cut))


@cache
def cam_maps(cut: int = 0) -> Callable[[Subject], Maps]:
    """CAM of a cut, counted from 1; of the last for 0."""
    return by_network(lambda network, images, labels: map_of(cams(network, images, labels), images, cut))


@by_network
def saliency_maps(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """Smoothed saliency of the last classifier: backprop in Zhou et al., arXiv 1512.04150, table 2."""
    return map_of(saliencies(network, images, labels, smooth=True), images)


def class_maps(aggregate: Aggregate = "mean") -> Callable[[Subject], Maps]:
    """Sensitivity of the class; mean over the channels as the paper did on ImageNet."""
    return by_network(
        lambda network, images, labels: class_sensitivity(network, images, labels, aggregate).cpu().numpy()
    )


def attention_maps(aggregate: Aggregate = "max") -> Callable[[Subject], Maps]:
    """Sensitivity of the last features; maximum over the channels as the paper did on Pascal VOC."""
    return by_network(lambda network, images, _: attention_sensitivity(network, images, aggregate).cpu().numpy())


def difference_maps(cell: int, aggregate: Any = "mean") -> Callable[[Subject], Maps]:
    """Sensitivity of the class by finite differences of squares of pixels."""

    def of(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
        def scores(changed: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                logits = network(torch.from_numpy(changed).to(images))[-1]
            return logits.gather(1, labels[:, None])[:, 0].cpu().numpy()

        return finite_differences(scores, images.cpu().numpy(), cell=cell, aggregate=aggregate)

    return by_network(of)


@by_network
def grey(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """The image itself, without colour."""
    return images.mean(1).cpu().numpy()


def mining_maps(
    mining: Mining, upsampling: Upsampling | None = None, learnt: int = TRAINING_IMAGES
) -> Callable[[Subject], Maps]:
    """Heatmaps of attention mining: the network learns on, between the steps, from the classes of all images.

    Those that are explained are among them, as in the paper; their boxes are not looked at.

    Args:
        mining: without preservation only those that are explained are learnt from between the steps.
        upsampling: the last two resolutions are first made one, on all images; None for the last features alone.
        learnt: training images that are learnt from beside those, drawn at random: of those with boxes, if there are
            any; 0 for all, boxed or not.
    """

    def of(subject: Subject) -> Maps:
        plan, file, own = subject.plan, subject.plan.files[0], replace(mining, seed=subject.seed)
        size = (file.imgsz, file.imgsz)
        even = upsampling or plan.stretched
        frame = None if even else subject.network.frame(-1, size, pooled=True)
        backbone, heads = subject.layers()
        network = ClassMaps.with_head(backbone, heads[-1]).to(plan.device)
        explained = Images(plan.split.records, file.view, len(file.names))
        every = replace(explained, records=[*labelled(plan, learnt), *plan.split.records])
        if upsampling:
            network = aggregated(network, every, own, upsampling, plan.device)
        networks = mine(network, explained if mining.keep == "none" else every, own, plan.device)
        return MinedMaps(networks, frame, plan.device)

    return of


@dataclass(frozen=True)
class MinedMaps:
    """Maps of the networks of all steps of mining.

    Attributes:
        frame: where their cells are in the image; None: they share it out evenly, as those of an aggregation do, and
            maps that are stretched.
    """

    networks: Sequence[ClassMaps]
    frame: Frame | None
    device: str

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """[B, classes] logits of the last network, nothing erased."""
        network = self.networks[-1]
        return network.logits(network(images.to(self.device))).cpu()

    def __call__(self, images: Tensor, labels: Tensor) -> np.ndarray:
        return self.steps(images, labels)[-1]

    def steps(self, images: Tensor, labels: Tensor) -> list[np.ndarray]:
        """[B, H, W] of each step, and at the end the mean of all, filled in where earlier ones had erased."""
        own = mined(self.networks, images.to(self.device), labels.to(self.device))
        return [self._sized(one, images) for one in (*own.maps, own.heatmap())]

    def _sized(self, maps: Tensor, images: Tensor) -> np.ndarray:
        """At the size of the images."""
        found: np.ndarray = Evidence(maps, frame=self.frame).at(*images.shape[2:]).maps.numpy()
        return found
