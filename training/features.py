"""What a cascade stage reads: images through the fixed blocks before it, or those blocks' cached output."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from data.loader import DetectionSet, InOrder, lone_last, make_loader
from data.objects import Window, cut_ahead
from data.records import Record
from data.views import View, training_view
from models.backbone import Backbone
from models.cascade import PooledTaps, Prefix, Taps
from models.heads import HEADS, first_pool
from models.plan import SubModule
from training.cache import (
    NEW_VIEWS,
    CacheKey,
    FeatureBatch,
    FeatureCache,
    choose_place,
    hash_split,
    unchanged,
)
from training.job import Job
from training.ranks import agree
from utils.checkpoint import hash_weights
from utils.config import Recipe
from utils.console import console, progress
from utils.errors import Stopped

SIDES = ("train", "val")


@dataclass(frozen=True)
class Feed:
    """Batches to train and to validate on, what makes a network's input of them, and whether they come from a cache."""

    train: DataLoader[Any]
    val: DataLoader[Any]
    inputs: Callable[[Any], Any]
    cached: bool = False


class FixedPass:
    """A fixed module on batches of one size, without gradient.

    A convolution may round differently for another number of images: the last, short batch is therefore filled up.
    What comes out for an image does not depend on the batch that it is in, and the cache is exact.
    """

    def __init__(self, module: nn.Module, rows: int, fabric: Any) -> None:
        self.module = module.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rows, self.fabric = rows, fabric

    def __call__(self, x: Tensor) -> Any:
        count, x = len(x), x.to(self.fabric.device)
        if count < self.rows:
            x = torch.cat([x, x[-1:].expand(self.rows - count, *x.shape[1:])])
        with torch.no_grad(), self.fabric.autocast():
            found = self.module(x.contiguous(memory_format=torch.channels_last))
        return found[:count] if isinstance(found, Tensor) else [part[:count] for part in found]


def batch_images(batch: Any) -> Tensor:
    """The images of a batch, in the layout that convolutions like."""
    images: Tensor = batch.images
    return images.contiguous(memory_format=torch.channels_last)


def cached_loader(cache: FeatureCache, order: Sampler[tuple[int, int]], rows: int) -> DataLoader[Any]:
    """Batches of cached features."""
    return DataLoader(cache, rows, sampler=order, collate_fn=unchanged, drop_last=lone_last(order, rows))


def batch_features(batch: FeatureBatch) -> Tensor:
    """The features of a cached batch, which are in that layout already."""
    return batch.features


def kept_pools(recipe: Recipe, heads: Sequence[nn.Module]) -> list[nn.Module]:
    """The pools to a fixed size that heads on a fixed network begin with, whose output is computed once.

    Returns:
        None of them where a head begins otherwise, epochs show different pictures, or nothing is cached.
    """
    pools = [pool for head in heads if (pool := first_pool(head))]
    return pools if recipe.caches and not recipe.augments and len(pools) == len(heads) else []


class Feeder:
    """Feeds the stages of one cascade, in their order; keeps at most two cuts' features at a time."""

    def __init__(self, job: Job, backbone: Backbone) -> None:
        self.job, self.backbone, self.phase = job, backbone, job.recipe.stage
        self.rows = job.rank_batch(self.phase)
        self.splits = job.pretrain_splits
        self.cut = 0
        self.caches: list[FeatureCache] = []
        self.digests: list[str] = []

    def images(self, seed: int) -> Feed:
        """Images as they are, a new view in every epoch."""
        train, val = self._sets(seed)
        return Feed(self.job.images(train, self.phase, seed), self._in_order(val), batch_images)

    def stage(self, part: SubModule, seed: int, *, drifting: bool) -> Feed:
        """Input of a sub-module: its prefix' features; images for the first, and where the prefix drifts."""
        if part.start == 0 or drifting:
            return self.images(seed)
        if self._caching and self._advance(part):
            return self._cached(seed, batch_features)
        prefix = FixedPass(Prefix(self.backbone, part.start), self.rows, self.job.fabric)
        train_set, val_set = self._sets(self.job.recipe.seed if self.job.recipe.views else seed)
        loader = self.job.images(train_set, self.phase, seed, self.job.recipe.views)
        return Feed(loader, self._in_order(val_set), lambda batch: prefix(batch.images))

    def probes(self, name: str, cuts: Sequence[int], heads: Sequence[nn.Module], seed: int) -> Feed:
        """Pooled features at several cuts of the fixed backbone, computed once; images where that cannot be."""
        if not (pools := kept_pools(self.job.recipe, heads)):
            return self.images(seed)
        module = PooledTaps(Taps(self.backbone, cuts), pools)
        keys = self._keys(self._sets(seed), max(cuts), module, ", pooled after " + ", ".join(map(str, cuts)))
        if not self._keep(keys, name, FixedPass(module, self.rows, self.job.fabric)):
            return self.images(seed)
        console.print(f"{name}: read pooled features from a cache")
        return self._cached(seed, lambda batch: module.parted(batch.features))

    def _cached(self, seed: int, inputs: Callable[[Any], Any]) -> Feed:
        """The caches at hand, the training features in an order drawn from the seed."""
        train, val = self.caches
        order = self.job.order(len(train), seed, self.job.recipe.views)
        rows = InOrder(len(val), self._own_rows(len(val)))
        return Feed(cached_loader(train, order, self.rows), cached_loader(val, rows, self.rows), inputs, cached=True)

    def close(self) -> None:
        """Free the caches."""
        for cache in self.caches:
            cache.delete()
        self.caches = []

    def _made_of_one(self, module: nn.Module) -> Tensor:
        """What the precision makes of one image in a fixed module; only its shape and its type are of interest."""
        side, channels = self.job.view.imgsz, self.backbone.in_channels
        found: Tensor = FixedPass(module, 1, self.job.fabric)(torch.zeros(1, channels, side, side))
        return found

    def _prefix_hash(self, cut: int) -> str:
        """Of so many blocks; each is hashed once, since none changes any more."""
        self.digests += [hash_weights(block) for block in self.backbone.blocks[len(self.digests) : cut]]
        return hashlib.sha256(" ".join(self.digests[:cut]).encode()).hexdigest()

    @cached_property
    def _hashes(self) -> list[str]:
        return [hash_split(split) for split in self.splits]

    def _sets(self, seed: int) -> tuple[DetectionSet, DetectionSet]:
        """Training images as the recipe augments them, validation images as they are judged."""
        train, (own, others) = training_view(self.phase, self.job.recipe.augment), self._records
        classes, follow = len(self.job.lesson.names), self.phase.crop_labels
        return DetectionSet(own, train, seed, classes, follow=follow), self._judged_as(self.job.view, others)

    def _judged_as(self, view: View, records: list[Record]) -> DetectionSet:
        """Validation images as a view shows them."""
        classes, follow = len(self.job.lesson.names), self.phase.crop_labels
        return DetectionSet(records, view.transform(), 0, classes, follow=follow)

    @cached_property
    def _records(self) -> list[list[Record]]:
        """Of the training and of the validation images; objects with the pixels around them, where there is room."""
        job, ranks = self.job, self.job.fabric.world_size // self.job.recipe.num_nodes
        if job.view.source == "pictures":
            return [split.records for split in self.splits]
        windows = [Window(job.view.context, jitter) for jitter in (self.phase.jitter, 0.0)]
        return [cut_ahead(split.records, own, ranks) for split, own in zip(self.splits, windows, strict=True)]

    def at_detector_size(self, start: int) -> Feed | None:
        """Validation images at the detector's size through so many fixed blocks; None if that is the size already.

        Nor if the head takes one size.
        """
        side = self.job.recipe.imgsz
        if side == self.job.view.imgsz or HEADS.pick(self.phase.head).one_size:
            return None
        loader = self._in_order(self._judged_as(replace(self.job.view, imgsz=side), self._records[1]))
        if start == 0:
            return Feed(loader, loader, batch_images)
        prefix = FixedPass(Prefix(self.backbone, start), self.rows, self.job.fabric)
        return Feed(loader, loader, lambda batch: prefix(batch.images))

    def _own_rows(self, count: int) -> Sequence[int]:
        """This rank's share of so many rows."""
        return range(self.job.fabric.global_rank, count, self.job.fabric.world_size)

    def _in_order(self, dataset: DetectionSet) -> DataLoader[Any]:
        """This rank's fraction of a data set, once and in order."""
        return make_loader(dataset, InOrder(len(dataset), self._own_rows(len(dataset))), self.rows, workers=0)

    @cached_property
    def _caching(self) -> bool:
        """Whether stages read cached features; says why not, where `auto` decides so."""
        recipe = self.job.recipe
        if recipe.cache == "off" or recipe.caches:
            return recipe.caches
        console.print(f"no feature cache: {NEW_VIEWS}; --cache-views M would freeze M of them")
        return False

    def _keys(
        self, sets: tuple[DetectionSet, DetectionSet], cut: int, module: nn.Module, how: str = ""
    ) -> list[CacheKey]:
        """Of the training and of the validation features that a fixed module makes, of so many blocks."""
        recipe, weights, one = self.job.recipe, self._prefix_hash(cut) + how, self._made_of_one(module)
        dtype, keys = str(one.dtype).removeprefix("torch."), []
        for dataset, digest, views in zip(sets, self._hashes, (recipe.views, 1), strict=True):
            drawn = f"{dataset.transform}" + (f", seed {dataset.seed}" if recipe.augments else "")
            keys.append(CacheKey(weights, digest, drawn, dtype, tuple(one.shape[1:]), views, len(dataset)))
        return keys

    def _advance(self, part: SubModule) -> bool:
        """Have the caches in front of a sub-module, made from those before it; False if there is no room."""
        cut, start = part.start, self.cut if self.caches else 0
        keys = self._keys(self._sets(self.job.recipe.seed), cut, Prefix(self.backbone, cut))
        blocks = FixedPass(Prefix(self.backbone, cut, start), self.rows, self.job.fabric)
        if not self._keep(keys, f"b{cut}", blocks):
            return False
        self.cut = cut
        return True

    def _keep(self, keys: list[CacheKey], name: str, module: FixedPass) -> bool:
        """Have caches of these keys, made by a module from those at hand or from images; False if there is no room."""
        job, sets = self.job, self._sets(self.job.recipe.seed)
        ranks = job.fabric.world_size // job.recipe.num_nodes
        folders = [job.folder / "cache" / f"node{job.fabric.global_rank // ranks}" / f"{side}_{name}" for side in SIDES]
        needed = sum(sum(FeatureCache.nbytes(key, len(job.lesson.names))) for key in keys)
        place = choose_place(job.recipe.cache, needed, folders, ranks)
        room = place in ("ram", "disk")
        if agree(job.fabric, int(not room)):  # all or none, since all wait for one another below
            console.print(f"features of {name} are not cached: {'another machine has no room' if room else place}")
            return False
        caches = []
        for index, (key, dataset) in enumerate(zip(keys, sets, strict=True)):
            folder = folders[index] if place == "disk" else None
            with job.fabric.rank_zero_first(local=True):
                cache = FeatureCache(
                    folder, key, len(job.lesson.names), step=self.rows, shard=job.fabric.local_rank, shards=ranks
                )
            self._fill(cache, dataset, self.caches[index] if self.caches else None, module, name)
            caches.append(cache)
        job.fabric.barrier()
        self.close()
        self.caches = caches
        return True

    def _fill(
        self, cache: FeatureCache, dataset: DetectionSet, before: FeatureCache | None, module: FixedPass, name: str
    ) -> None:
        """Compute what a cache lacks, from the features of the former cut or from images."""
        order = InOrder(cache.key.images, cache.missing())
        if before is None:
            loader = make_loader(dataset, order, self.rows, self.job.recipe.workers)
        else:
            loader = cached_loader(before, order, self.rows)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in progress(loader, f"features of {name}", len(loader)):
                if self.job.stop.asked:
                    raise Stopped(self.job.stop.asked)
                yield module(batch.images if before is None else batch.features), batch.present

        with self.job.stop.deferred(), self.job.stop.readers(f"features of {name}"):
            cache.fill(batches())
