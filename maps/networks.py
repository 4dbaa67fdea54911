"""The networks of a study: those of the files, and for each of their architectures some that learnt nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from evaluation.accuracy import BackboneFile, line_names, load_backbone_and_heads
from maps.cells import structure_of
from maps.explained import Explained
from maps.plan import Plan
from models.backbone import Backbone
from models.backbones import make_backbone
from models.heads import make_head
from models.inference import fold_batchnorm
from utils.seed import seed_process

UNTRAINED = "untrained"  # how the name of a line of such networks begins


@dataclass(frozen=True)
class Named:
    """A network that is explained.

    Attributes:
        line: its name in reports, which those of several seeds share.
        file: what it is like.
        untrained: the line of the networks that are like it and learnt nothing.
    """

    line: str
    seed: int
    file: BackboneFile
    network: Explained
    untrained: str

    def coarse(self, plan: Plan, *, pooled: bool = False) -> frozenset[int]:
        """Cuts whose maps, of activations or of what is pooled of them, have too few cells to be judged."""
        return plan.coarse(structure_of(self.file), pooled=pooled) & frozenset(self.file.cuts)

    def blank(self, plan: Plan) -> frozenset[int]:
        """Cuts that are not judged because a classifier of a file there learnt nothing."""
        return frozenset() if is_untrained(self.line) else plan.blank & frozenset(self.file.cuts)


def trained_networks(plan: Plan) -> list[Named]:
    """Those of the files."""
    beside = {architecture(file): line for line, file in untrained_files(plan.files)}
    return [
        Named(line, file.seed, file, load_explained(file, plan), beside[architecture(file)])
        for file, line in zip(plan.files, line_names(plan.files), strict=True)
    ]


def untrained_networks(plan: Plan) -> list[Named]:
    """The architecture of each file with new weights, drawn with several seeds, the same in every run."""
    return [
        Named(line, seed, file, ready(file, *new_layers(file, seed), plan), line)
        for line, file in untrained_files(plan.files)
        for seed in range(plan.untrained)
    ]


def architecture(file: BackboneFile) -> tuple[str, ...]:
    """What an untrained network has in common with a file: all its settings but its weights."""
    return replace(file, init="").settings


def untrained_files(files: Sequence[BackboneFile]) -> list[tuple[str, BackboneFile]]:
    """A line and a description for each architecture among files, with classifiers at all cuts that any of them has."""
    alike: dict[tuple[str, ...], list[BackboneFile]] = {}
    for file in files:
        alike.setdefault(architecture(file), []).append(file)
    found = []
    for own in alike.values():
        shapes = {cut: shape for file in own for cut, shape in zip(file.cuts, file.shapes, strict=True)}
        cuts = sorted(shapes)
        found.append(replace(own[0], method=UNTRAINED, init="", cuts=cuts, shapes=[shapes[cut] for cut in cuts]))
    return list(zip(line_names(found), found, strict=True))


def is_untrained(line: str) -> bool:
    """Whether a line is of such networks, by its name."""
    return line == UNTRAINED or line.startswith(f"{UNTRAINED}, ")


def load_explained(file: BackboneFile, plan: Plan) -> Explained:
    """The network of a file with its classifiers, ready to be explained."""
    return ready(file, *load_backbone_and_heads(file), plan)


def new_layers(file: BackboneFile, seed: int) -> tuple[Backbone, list[nn.Module]]:
    """A backbone and classifiers like those of a file, with new weights."""
    seed_process(seed)
    heads = [make_head(file.head, shape, len(file.names), convs=file.convs) for shape in file.shapes]
    return make_backbone(file.backbone, file.width, file.in_channels), heads


def ready(file: BackboneFile, backbone: Backbone, heads: Sequence[nn.Module], plan: Plan) -> Explained:
    """A network where it computes, in the order of memory that suits convolutions, BatchNorm folded into them."""
    fold_batchnorm(backbone)
    network = Explained(backbone, file.cuts, heads, aligned=not plan.stretched, single_label=file.single_label)
    return network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
