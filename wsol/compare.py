"""Every method on every network, on the same images: boxes found, seconds, memory."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from data.loader import InOrder, make_loader
from evaluation.accuracy import load_backbone_and_heads
from evaluation.classification import classification_metrics
from maps.boxes_from_maps import gt_known_accuracy
from maps.cases import Cases
from maps.kinds import Explained
from maps.networks import UNTRAINED, Named, new_layers, trained_networks, untrained_networks
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES, TUNED_ON, learning, sample
from models.backbone import Backbone
from utils.boxes import box_iou
from utils.console import console, progress
from utils.tables import Chosen
from wsol.cost import milliseconds, peak_bytes
from wsol.everywhere import boxes_elsewhere, chances
from wsol.localiser import Localiser, MinedMaps, Subject
from wsol.map_values import Levels, MapValues, best_threshold
from wsol.methods import LAYERS, METHODS, POOLED, Method, layer_of, localiser
from wsol.mined_pictures import MinedCase, mined_cases
from wsol.mining.train import Images
from wsol.pipeline_picture import Pipeline, followed

NO_NETWORK = "–"
Layers = Callable[[], tuple[Backbone, Sequence[nn.Module]]]
Known = dict[tuple[object, str, int], MapValues]
"""Source of maps, line and seed of the network → what the maps are worth, whatever makes boxes of them."""


@dataclass(frozen=True)
class Trial:
    """A method on a network.

    Attributes:
        line: of the network; NO_NETWORK for a method that needs none.
        ious: [cases] IoU of the box with the true box that it fits best.
        boxes: [cases, 4] as fractions of the image; NaN where none was found.
        maps: of methods that cut maps off.
        milliseconds: for an image by itself, finding the box with the class known; a forward pass in `forward`.
        bytes: that are taken at most for an image by itself.
        mined: cases to show the steps of mining on.
        pipeline: the way of one image, of methods that fit a function to gradients or differences.
        auc: of the classifier, of methods that train it on.
        coarse: its maps have too few cells inside the pictures to be judged.
    """

    method: str
    line: str
    seed: int
    ious: np.ndarray
    boxes: np.ndarray
    maps: MapValues | None
    milliseconds: float
    bytes: int
    mined: Sequence[MinedCase] = ()
    pipeline: Pipeline | None = None
    auc: float | None = None
    coarse: bool = False


@dataclass(frozen=True)
class Network:
    """A network that is compared, with what its last classifier says.

    Attributes:
        layers: gives it once more, free to be trained.
        ranks: [cases] how many classes are held likelier than the right one; 0 where it does not know the classes.
        forward: milliseconds of a plain pass over an image by itself.
        untrained: the line of the networks that are like it and learnt nothing.
        coarse: of LAYERS → the blocks at which there are too few cells in the pictures.
        scores: [cases] probability of the class, or of the likeliest one where it does not know the classes.
        chances: [images, classes] probability of every class, if it is asked for.
    """

    line: str
    seed: int
    explained: Explained
    layers: Layers
    ranks: np.ndarray
    forward: float
    untrained: str = UNTRAINED
    coarse: Mapping[str, frozenset[int]] = field(default_factory=dict)
    scores: np.ndarray | None = None
    chances: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        cases: [n, 2] index of the image among them and class.
        true_boxes: [n] how many each has.
    """

    plan: Plan
    cases: np.ndarray
    true_boxes: np.ndarray
    networks: list[Network]
    trials: list[Trial]


def compare(plan: Plan, names: Sequence[str], *, everywhere: bool = False) -> Comparison:
    """Fit and judge methods, one after another.

    Args:
        everywhere: maps that are cut off are asked for each class in the images that have none of it, too.
    """
    probe = next(iter(plan.cases(plan.split.records[:1], "first image"))).at([0])
    networks = [
        looked_at(plan, own, partial(load_backbone_and_heads, own.file), probe) for own in trained_networks(plan)
    ]
    untrained = [
        looked_at(plan, own, partial(new_layers, own.file, own.seed), probe) for own in untrained_networks(plan)
    ]
    trials, known = [], Known()
    for own in map(METHODS.choose, names):
        if own.entry.network:
            asked = networks if own.slow or own.entry.slow else [*networks, *untrained]
            trials += [trial(plan, own, network, probe, known, everywhere=everywhere) for network in asked]
        else:
            trials.append(trial(plan, own, replace(networks[0], line=NO_NETWORK, seed=0), probe, known))
    if everywhere:
        networks, untrained = (
            [replace(own, chances=chances(plan, own.explained)) for own in some] for some in (networks, untrained)
        )
    found = [
        (np.stack([own.record, own.labels.numpy()], 1), list(map(len, own.boxes)))
        for own in plan.cases(plan.split.records, "cases")
    ]
    pairs, counts = (np.concatenate(column) for column in zip(*found, strict=True))
    return Comparison(plan, pairs, counts, [*networks, *untrained], trials)


def looked_at(plan: Plan, named: Named, layers: Layers, probe: Cases) -> Network:
    """A network with what its last classifier says, and the time of a plain pass."""
    images = probe.images.to(plan.device)
    with torch.inference_mode():
        forward = milliseconds(lambda: named.network(images))
    ranks, scores = said_of(plan, named.network)
    coarse = {own: named.coarse(plan, pooled=own == POOLED) for own in LAYERS}
    return Network(named.line, named.seed, named.network, layers, ranks, forward, named.untrained, coarse, scores)


def trial(
    plan: Plan, method: Chosen[Method], network: Network, probe: Cases, known: Known, *, everywhere: bool = False
) -> Trial:
    """Fit a method to the training images and judge it on the others.

    Args:
        known: what maps of these networks are worth as such; what is found is added.
        everywhere: as of `compare`.
    """
    title, began = f"{method.text}, {network.line}", time.monotonic()
    subject = Subject(network.explained, partial(fitted, plan, f"{title}: fit"), plan, network.layers, network.seed)
    localise = localiser(method, subject)
    key = (localise.source, network.line, network.seed)
    new = localise.source is not None and key not in known
    levels = Levels(threshold(plan, localise, f"{title}: threshold") if new else None)
    boxes, ious, pairs = [], [], []
    for cases in plan.cases(plan.split.records, title):
        maps = localise.maps(cases.images, cases.labels)
        boxes.append(localise.boxes(maps))
        ious.append(ious_of(boxes[-1], cases))
        pairs.append(np.stack([cases.record, cases.labels.numpy()], 1))
        if new:
            levels.add(maps, cases)
    if new:
        known[key] = levels.values()
    if new and everywhere:
        found = boxes_elsewhere(plan, localise, np.concatenate(pairs), f"{title}: elsewhere")
        known[key] = replace(known[key], elsewhere=found)

    def one() -> np.ndarray:
        return localise(probe.images, probe.labels)

    own = np.concatenate(ious), np.concatenate(boxes), known.get(key), milliseconds(one), peak_bytes(one)
    right, seconds = gt_known_accuracy(own[0]), time.monotonic() - began
    console.print(f"{title}, seed {network.seed}: {right:.3f} of the boxes right, {seconds:.0f} s")
    mined = mined_cases(plan, localise, np.concatenate(pairs), own[0])
    way = (plan, network.explained, localise, np.concatenate(pairs), own[0], method.entry.traced)
    pipeline = followed(*way) if method.entry.traced else None
    block = network.explained.cuts[method.options.get("cut", 0) - 1]
    coarse = block in network.coarse.get(layer_of(method), ())
    return Trial(method.text, network.line, network.seed, *own, mined, pipeline, classified(plan, localise), coarse)


def threshold(plan: Plan, localise: Localiser, title: str) -> float | None:
    """The fraction of the maximum that is best on held-out images, or else training images; None without boxes."""
    if not (records := plan.tuning or plan.training):
        return None
    parts = plan.cases(sample(list(records), TUNED_ON), title)
    return best_threshold((localise.maps(cases.images, cases.labels), cases) for cases in parts)


def classified(plan: Plan, localise: Localiser) -> float | None:
    """AUC, mean over classes, of a network that has learnt on; None of any other, and where no image is left.

    On the images of the split that are not explained: it has learnt from the labels of those.
    """
    mined = {record.image for record in plan.split.records}
    others = [record for record in plan.whole if record.image not in mined]
    if not isinstance(localise.maps, MinedMaps) or not others:
        return None
    names, view = plan.files[0].names, plan.files[0].view
    dataset = Images(others, view, len(names)).dataset
    loader = make_loader(dataset, InOrder(len(dataset)), plan.batch_size, workers=0)
    parts = [(localise.maps.scores(batch.images), batch.present) for batch in progress(loader, "AUC", len(loader))]
    scores, targets = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return classification_metrics(scores, targets, single_label=False).get("auc")


def fitted(plan: Plan, title: str, images: int = TRAINING_IMAGES) -> Iterator[Cases]:
    """The cases of training images, batch by batch; 0 for all of them."""
    return plan.cases(plan.training if images == TRAINING_IMAGES else learning(plan, images), title)


def ious_of(found: np.ndarray, cases: Cases) -> np.ndarray:
    """[N] IoU of boxes [N, 4], fractions of the image, with the true box that each fits best; 0 without one."""
    height, width = cases.truth.shape[1:]
    pixels = found * [width, height, width, height]
    return np.array(
        [
            0.0 if np.isnan(own).any() else box_iou(own, true).max()
            for own, true in zip(pixels, cases.boxes, strict=True)
        ]
    )


@torch.no_grad()
def said_of(plan: Plan, network: Explained) -> tuple[np.ndarray, np.ndarray]:
    """[cases] how many classes the last classifier holds likelier than the right one, and the probability of that one.

    Of classes that it does not know: 0, and the probability of the likeliest one.
    """
    ranks, scores = [], []
    for cases in plan.cases(plan.split.records, "classes"):
        logits = network(cases.images.to(plan.device))[-1].cpu()
        labels = logits.argmax(1) if plan.foreign else cases.labels
        ranks.append((logits > logits.gather(1, labels[:, None])).sum(1).numpy())
        shares = logits.softmax(1) if network.single_label else logits.sigmoid()
        scores.append(shares.gather(1, labels[:, None])[:, 0].double().numpy())
    return np.concatenate(ranks), np.concatenate(scores)
