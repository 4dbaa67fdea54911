"""Mining: the network of every step, trained between them on images from which a class's best regions are missing."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data.holdout import shuffled_groups
from data.loader import Batch, DetectionSet, EpochSampler, InOrder, make_loader
from data.records import Record
from data.views import View
from utils.console import progress
from utils.errors import UserError
from utils.seed import mixed_seed, seed_process
from wsol.mining.erasure import STEPS, Mined
from wsol.mining.networks import ClassMaps, Upsampling, classification_loss, preservation_loss

Preservation = Literal["none", "vanilla", "features"]
Layers = Literal["all", "maps", "logits"]
HELD_OUT = 0.1
Masks = dict[tuple[int, int], np.ndarray]
"""(image, class it has) → [h, ⌈w / 8⌉] uint8 bits, 0 where something was found: an eighth of the memory of bool."""


@dataclass(frozen=True)
class Mining:
    """How mining goes (§2.2, §3.2).

    Attributes:
        steps: T; 1 is a plain map.
        keep: none: every image is erased, and only those whose boxes are sought are learnt from (w/o KP); vanilla: only
            the first ones of a batch are erased; features: and the others' features shall stay (KP).
        erase: whether anything is erased while the network learns; False for a control with the same steps.
        erased: fraction of a batch that is erased, n/N, one image at least; 0 for none.
        weight: of the preservation loss, λ.
        epochs: between two steps.
        layers: what is preserved (K): the maps of the last two resolutions and their aggregation, the logits, or all.
        new_epochs, whole_epochs: of aggregation, its new layers alone and then the whole network; 0 as between steps.
        whole_lr: the rate of both; 0 as between two steps.
        patience: epochs without a lower loss on a tenth of the images, which the whole network is not trained on, after
            which it ends, with the weights of the lowest; 0: it takes all its epochs.

    Raises:
        UserError: no step.
    """

    steps: int = STEPS
    keep: Preservation = "features"
    erase: bool = True
    erased: float = 0.125
    weight: float = 0.5
    epochs: int = 2
    batch_size: int = 32
    lr: float = 1e-4
    seed: int = 0
    layers: Layers = "all"
    new_epochs: int = 0
    whole_epochs: int = 0
    whole_lr: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"{self.steps} steps", where="mining", hint="give T = 1 for a plain map, or more")


@dataclass(frozen=True)
class Images:
    """Images with their classes, as a network wants them."""

    records: Sequence[Record]
    view: View
    classes: int

    @property
    def dataset(self) -> DetectionSet:
        """Whole images, with 1 for each of their classes."""
        return DetectionSet(list(self.records), self.view.transform(), seed=0, classes=self.classes)


def mine(network: ClassMaps, images: Images, mining: Mining, device: str = "cpu") -> list[ClassMaps]:
    """The networks of all steps, the first as it was given.

    Between two steps the network learns for some epochs from the same images with masks that grow (eq. 1–3): for each
    class that an image has, what the networks so far found of it.
    """
    networks = [frozen(network)]
    masks = None
    for step in range(1, mining.steps):
        masks = erase(networks, images, mining, device) if mining.erase else None
        after = copy.deepcopy(network)
        after.load_state_dict(networks[-1].state_dict())
        seed_process(mixed_seed(mining.seed, step))
        train(after.requires_grad_(True), networks[0], images, masks, mining, device, step)
        networks.append(frozen(after))
    return networks


def frozen(network: ClassMaps) -> ClassMaps:
    """A copy that does not change any more."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def mined(networks: Sequence[ClassMaps], images: Tensor, labels: Tensor, *, raw: bool = False) -> Mined:
    """Maps and masks of the class [B] of each image [B, 3, H, W], one step for each network.

    An image that comes once for each of its classes, one after another, goes through the networks once.
    """
    once, which = torch.unique_consecutive(images, dim=0, return_inverse=True)
    found = None
    for network in networks:
        cams = network(once)[which, labels].cpu()
        found = found or Mined.start(*cams.shape, raw=raw)
        found.step(cams)
    if found is None:
        raise ValueError("no network")
    return found


def erase(networks: Sequence[ClassMaps], images: Images, mining: Mining, device: str) -> Masks:
    """What the networks so far found of each class that an image has."""
    masks: Masks = {}
    dataset = images.dataset
    loader = make_loader(dataset, InOrder(len(dataset)), mining.batch_size, workers=0)
    for batch in progress(loader, f"mining {len(networks)}", len(loader)):
        rows, labels = batch.present.nonzero(as_tuple=True)
        for start in range(0, len(rows), mining.batch_size):
            own = slice(start, start + mining.batch_size)
            left = mined(networks, batch.images[rows[own]].to(device), labels[own].to(device)).masks[-1].numpy()
            keys = zip(batch.index[rows[own]].tolist(), labels[own].tolist(), strict=True)
            masks |= dict(zip(keys, np.packbits(left, axis=2), strict=True))
    return masks


def aggregated(network: ClassMaps, images: Images, mining: Mining, upsampling: Upsampling, device: str) -> ClassMaps:
    """The network with its last two resolutions as one: first the new layers learn, then all of it (§2.3, §3.1).

    Each takes as many epochs as there are between two steps of mining, unless the settings say else. Nothing is erased.

    Raises:
        UserError: the backbone has no features at two resolutions.
    """
    seed_process(mining.seed)
    found = ClassMaps(copy.deepcopy(network.backbone), network.weights.out_channels, upsampling).to(device)
    plain = replace(mining, keep="none", lr=mining.whole_lr or mining.lr)
    new, whole = (replace(plain, epochs=own or mining.epochs) for own in (mining.new_epochs, mining.whole_epochs))
    found.backbone.requires_grad_(False)
    train(found, found, images, None, new, device, 0)
    learnt, watched = parted(images) if mining.patience else (images, None)
    train(found.requires_grad_(True), found, learnt, None, whole, device, 1, watched)
    return frozen(found)


def parted(images: Images) -> tuple[Images, Images]:
    """The images without a tenth, and that tenth; those of a patient stay together.

    Raises:
        UserError: they are too few.
    """
    groups = shuffled_groups(list(images.records))
    count = max(1, round(HELD_OUT * len(groups)))
    if count >= len(groups):
        raise UserError(f"{len(groups)} patients or images", where="mining:patience", hint="leave it out")
    parts = ([images.records[row] for own in some for row in own] for some in (groups[count:], groups[:count]))
    learnt, watched = (replace(images, records=own) for own in parts)
    return learnt, watched


@torch.no_grad()
def watched_loss(network: ClassMaps, images: Images, mining: Mining, device: str) -> float:
    """The mean classification loss over images of which nothing is erased."""
    dataset, total = images.dataset, 0.0
    for batch in make_loader(dataset, InOrder(len(dataset)), mining.batch_size, workers=0):
        logits = network.logits(network(batch.images.to(device)))
        total += float(classification_loss(logits, batch.present.to(device))) * len(batch.images)
    return total / len(dataset)


def train(
    network: ClassMaps, before: ClassMaps, images: Images, masks: Masks | None, mining: Mining,
    device: str, step: int, watched: Images | None = None,
) -> None:  # fmt: skip
    """Some epochs, with the masks if there are any, in place; fewer where the loss on images that are watched stays.

    BatchNorm's statistics stay, as in the network before, or features would move without learning anything (eq. 4), and
    layers that are fixed would change too.
    """
    dataset = images.dataset
    sampler = EpochSampler(len(dataset), mixed_seed(mining.seed, step))
    loader = make_loader(dataset, sampler, mining.batch_size, workers=0)
    optimizer = torch.optim.AdamW([own for own in network.parameters() if own.requires_grad], mining.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, mining.lr, total_steps=mining.epochs * len(loader))
    network.eval()
    best, kept, since = math.inf, None, 0
    for epoch in range(mining.epochs):
        sampler.epoch = epoch
        for batch in progress(loader, f"step {step + 1}, epoch {epoch + 1}", len(loader)):
            optimizer.zero_grad()
            torch.stack(list(losses(network, before, batch, masks, mining, device).values())).sum().backward()
            optimizer.step()
            schedule.step()
        if watched:
            loss = watched_loss(network, watched, mining, device)
            since = 0 if loss < best else since + 1
            if not since:
                best, kept = loss, copy.deepcopy(network.state_dict())
            if since >= mining.patience:
                break
    if kept:
        network.load_state_dict(kept)


def losses(
    network: ClassMaps, before: ClassMaps, batch: Batch, masks: Masks | None, mining: Mining,
    device: str,
) -> dict[str, Tensor]:  # fmt: skip
    """The classification loss, with the first images erased, and what keeps the features of the others (eq. 6)."""
    images, present = batch.images.to(device), batch.present.to(device)
    some = max(1, round(mining.erased * len(images))) if mining.erased else 0
    count = len(images) if mining.keep == "none" else some
    features = network.features(images)
    maps = network.weights(features[-1])
    logits = network.logits(maps, None if masks is None else masks_of(batch, count, maps, masks))
    found = {"class": classification_loss(logits, present)}
    if mining.keep == "features" and count < len(images):
        # Of the whole batch, as above: a batch of another size rounds differently, and a gradient has length 1 there.
        with torch.no_grad():
            old = before.features(images)
            old.append(before.logits(before.weights(old[-1])))
        wanted, own = ([part[count:] for part in each] for each in (old, [*features, logits]))
        part = {"all": slice(None), "maps": slice(-1), "logits": slice(-1, None)}[mining.layers]
        found["preservation"] = mining.weight * preservation_loss(wanted[part], own[part])
    return found


def masks_of(batch: Batch, count: int, maps: Tensor, masks: Masks) -> Tensor:
    """[B, classes, h, w] bool; False in what was erased of the first images."""
    found = torch.ones_like(maps, dtype=torch.bool)
    for row, index in enumerate(batch.index[:count].tolist()):
        for label in batch.present[row].nonzero()[:, 0].tolist():
            left = np.unpackbits(masks[index, label], axis=1, count=maps.shape[3]).astype(bool)
            found[row, label] = torch.from_numpy(left).to(maps.device)
    return found
