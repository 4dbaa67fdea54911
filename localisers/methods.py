"""What finds one box for a class in an image, by name; some learn from training images with boxes.

A new one is a function that takes a network and training images and gives a Localiser, named in METHODS.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from localisation.boxes_from_maps import above_share, boxes_from_maps
from localisation.cases import Cases
from localisation.maps import Evidence, Explained, cams, grad_cams, saliencies
from localisers.linear_boxes import best_ridge, centre_box, descended, flattened, mean_box
from localisers.sensitivity import attention_sensitivity, class_sensitivity
from localisers.threshold import best_share

Localiser = Callable[[Tensor, Tensor], np.ndarray]
"""Images [B, 3, H, W] in 0–1 and classes [B] → boxes [B, 4] as shares of the image; NaN where there is none."""
Training = Callable[[], Iterable[Cases]]
"""Gives the training images, batch by batch, as often as it is asked."""
MapMaker = Callable[[Explained, Tensor, Tensor], np.ndarray]


@dataclass(frozen=True)
class Method:
    """A way to find boxes.

    Attributes:
        make: from a network and training images to a localiser.
        network: whether it looks at the network; else it is told once, not for each.
        slow: not among all, only if asked for by name.
    """

    make: Callable[[Explained, Training], Localiser]
    network: bool = True
    slow: bool = False


def largest(cases: Cases) -> np.ndarray:
    """[N, 4] the largest true box of each case, as shares of the image: what a single box is fitted to."""
    height, width = cases.truth.shape[1:]
    found = [own[np.argmax((own[:, 2:] - own[:, :2]).prod(1))] for own in cases.boxes]
    return np.array(found, np.float64) / [width, height, width, height]


def constant(box: Callable[[np.ndarray], np.ndarray], _: Explained, training: Training) -> Localiser:
    """The same box in every image."""
    own = box(np.concatenate([largest(cases) for cases in training()]))
    return lambda images, labels: np.tile(own, (len(images), 1))


def by_regression(
    maps_of: MapMaker, fit: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
    network: Explained, training: Training,
) -> Localiser:  # fmt: skip
    """A linear function of all pixels of a map."""
    parts = [(flattened(maps_of(network, c.images, c.labels)), largest(c)) for c in training()]
    maps, boxes = (np.concatenate(own) for own in zip(*parts, strict=True))
    own = fit(maps, boxes)
    return lambda images, labels: own(flattened(maps_of(network, images, labels)))


def by_threshold(maps_of: MapMaker, share: float | None, network: Explained, training: Training) -> Localiser:
    """The box around the largest component of what lies above a share of the maximum.

    Args:
        share: None for the best on the training images (Choe et al., arXiv 2001.07437: chosen beside the test images).
    """
    if share is None:
        share = best_share((maps_of(network, c.images, c.labels), c.boxes) for c in training())
    rule = above_share(share)

    def localise(images: Tensor, labels: Tensor) -> np.ndarray:
        maps = maps_of(network, images, labels)
        size = np.tile(maps.shape[:0:-1], 2)
        found = boxes_from_maps(maps, rule)
        return np.array([np.full(4, np.nan) if box is None else box / size for box in found])

    return localise


def last_map(evidence: Sequence[Evidence], images: Tensor) -> np.ndarray:
    """[B, H, W] the map of the last cut, at the size of the images."""
    return evidence[-1].at(*images.shape[2:]).maps.float().cpu().numpy()


def gradcam_map(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """Grad-CAM of the last cut."""
    return last_map(grad_cams(network, images, labels), images)


def cam_map(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """CAM of the last cut."""
    return last_map(cams(network, images, labels), images)


def saliency_map(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """Smoothed saliency of the last classifier: backprop in Zhou et al., arXiv 1512.04150, table 2."""
    return last_map(saliencies(network, images, labels, smooth=True), images)


def class_map(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """Sensitivity of the class, mean over the channels as the paper did on ImageNet."""
    return class_sensitivity(network, images, labels, "mean").cpu().numpy()


def attention_map(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """Sensitivity of the last features, maximum over the channels as the paper did on Pascal VOC."""
    return attention_sensitivity(network, images, "max").cpu().numpy()


def grey(network: Explained, images: Tensor, labels: Tensor) -> np.ndarray:
    """The image itself, without colour."""
    return images.mean(1).cpu().numpy()


def learned(maps_of: MapMaker) -> Method:
    """Ridge regression on maps."""
    return Method(partial(by_regression, maps_of, best_ridge))


def thresholded(maps_of: MapMaker, share: float | None = None) -> Method:
    """The box around what is high in maps."""
    return Method(partial(by_threshold, maps_of, share))


METHODS: dict[str, Method] = {
    "centre box": Method(partial(constant, centre_box), network=False),
    "mean box": Method(partial(constant, mean_box), network=False),
    "pixels": Method(partial(by_regression, grey, best_ridge), network=False),
    "sensitivity": learned(class_map),
    "sensitivity, sgd": Method(partial(by_regression, class_map, descended), slow=True),
    "attention": learned(attention_map),
    "attention, sgd": Method(partial(by_regression, attention_map, descended), slow=True),
    "gradcam": thresholded(gradcam_map),
    "gradcam, 20 %": thresholded(gradcam_map, 0.2),
    "cam": thresholded(cam_map),
    "cam, 20 %": thresholded(cam_map, 0.2),
    "saliency": thresholded(saliency_map),
}
BASELINES = ("centre box", "mean box", "pixels")
