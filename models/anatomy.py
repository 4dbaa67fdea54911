"""What blocks a network has, and a backbone made of them.

The blocks are the network's own modules, run one after another. A block begins where a module with several convolutions
or linear layers does; what comes before it, such as a stem or a down-sampling, belongs to it, a norm or non-linearity
behind it too. In a network without such modules, as VGG, a block is a convolution with what follows it, pool included.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.dissect import Call, Opener, chain_of, watched, without
from models.layers import Normalise, Steps
from models.layouts import Adapted, Layout, Size, layout_of
from models.plan import shapes_at
from utils.errors import UserError

STEM = ""  # the network itself, up to its first block
STRIDES = (8, 16, 32)  # that the detector reads at
PROBED: tuple[Size, ...] = ((192, 256), (96, 64))  # sizes at which the strides must come out


@dataclass(frozen=True)
class Anatomy:
    """How a network falls into blocks.

    Attributes:
        groups: the modules of each block, by their names in the network; STEM first where the network does that part.
        replaced: modules that the stem leaves to the blocks.
        layouts: of the images, and behind each block.
    """

    groups: list[list[str]]
    replaced: list[str]
    layouts: list[Layout]


def studied(
    network: nn.Module,
    run: Callable[[Tensor], object],
    side: int,
    name: str,
    *,
    prefix: int = 0,
    head: Sequence[str] = (),
) -> Anatomy:
    """Watch a network on an image of side × side, and find its blocks.

    Args:
        run: what gives its features; the network, which may be on the meta device, is in evaluation mode.
        prefix: tokens without a place.
        head: names of the parts that are no features any more, where it runs them too.

    Raises:
        UserError: it cannot be taken apart; names the part.
    """
    with torch.device("meta"):
        images = torch.empty(1, 3, side, side)
    try:
        root = before(watched(network, lambda: run(images), images), head)
    except Exception as error:  # other people's networks fail in their own ways
        raise whole(name, f"it does not run on {side} px ({(str(error) or repr(error)).splitlines()[0]})") from error
    chain, reason = chain_of(root)
    opener = Opener(root)
    parts = [part for call in chain for part in opener.parts(call)]
    inside = sum(part.matrices for part in parts)
    if reason and 2 * inside < root.matrices:
        raise whole(name, reason)
    groups = joined(grouped(parts), prefix)
    if len(groups) < 2:
        raise whole(name, reason or f"`{parts[0].path if parts else '?'}` is all there is")
    refuse_shared(groups, name)
    layouts = [Layout("map", side, 3)]
    for group in groups:
        found = layout_of(group[-1].output, prefix)
        if found is None:
            raise whole(name, f"`{group[-1].path}` puts out no map, and no tokens that make one")
        layouts.append(found)
    paths = [[part.path for part in group] for group in groups]
    if not reason:
        return Anatomy(paths, [], layouts)
    paths[0].insert(0, STEM)
    return Anatomy(paths, [*(part.path for part in parts), *idle(root)], layouts)


def idle(root: Call) -> list[str]:
    """Parts of a network that have weights and did not run, such as a norm behind its pool."""
    ran = {call.path.partition(".")[0] for call in root.calls}
    return [name for name, own in root.module.named_children() if name not in ran and [*own.parameters()]]


def before(root: Call, head: Sequence[str]) -> Call:
    """What a network did up to the first of some parts."""
    ends = [index for index, call in enumerate(root.calls) if index and call.path in head]
    if ends:
        root.calls = root.calls[: ends[0]]
        root.output, root.output_version = root.calls[-1].output, root.calls[-1].output_version
    return root


def whole(name: str, reason: str) -> UserError:
    """The error for a network that cannot be taken apart."""
    return UserError(f"{name} cannot be taken apart: {reason}", where="--backbone", hint="take another model")


def grouped(parts: Sequence[Call]) -> list[list[Call]]:
    """The parts of a chain as blocks."""
    plain = not any(part.matrices > 1 for part in parts)
    groups: list[list[Call]] = [[]]
    waits = True  # the last block has nothing yet that makes it one
    for part in parts:
        trims = part.matrices == 0 and (plain or not resizes(part))
        if not waits and not trims:
            groups.append([])
            waits = True
        groups[-1].append(part)
        waits = waits and part.matrices < (1 if plain else 2)
    if waits and len(groups) > 1:
        last = groups.pop()
        groups[-1] += last
    return groups


def resizes(part: Call) -> bool:
    """Whether a part changes height and width."""
    sizes = [value.shape[2:] if isinstance(value, Tensor) else None for value in (part.given, part.output)]
    return sizes[0] != sizes[1]


def joined(groups: list[list[Call]], prefix: int) -> list[list[Call]]:
    """The blocks, each joined with the next where no map can be made of what it puts out."""
    found: list[list[Call]] = []
    waits = False
    for group in groups:
        if waits:
            found[-1] += group
        else:
            found.append(list(group))
        waits = layout_of(group[-1].output, prefix) is None
    return found


def refuse_shared(groups: list[list[Call]], name: str) -> None:
    """Refuse a network that uses a weight twice: a block could not be fixed while another learns.

    Raises:
        UserError: there is such a weight; names its module.
    """
    seen: set[int] = set()
    for part in (part for group in groups for part in group):
        own = {id(parameter) for parameter in part.module.parameters()}
        if own & seen:
            raise whole(name, f"`{part.path}` shares weights with an earlier part")
        seen |= own


class Stem(nn.Module):
    """A network without its blocks: images → what the first block is given."""

    def __init__(self, network: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.network, images)


class Dissected(Backbone):
    """A backbone made of another network's modules.

    Attributes:
        names: name of each weight → its name in that network.
    """

    names: dict[str, str]


def assembled(
    network: nn.Module, anatomy: Anatomy, normalise: Normalise, run: Callable[[nn.Module, Tensor], Tensor]
) -> Dissected:
    """The backbone of a network's modules.

    Args:
        run: features of a network, for the stem.
    """
    blocks: list[nn.Module] = []
    for group, (enter, leave) in zip(anatomy.groups, pairwise(anatomy.layouts), strict=True):
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        if not blocks:
            steps["normalise"] = normalise
        for path in group:
            step = Stem(without(network, anatomy.replaced), run) if path == STEM else network.get_submodule(path)
            steps[unused(path.replace(".", "_") or "stem", steps)] = step
        plain = enter.kind == leave.kind == "map"
        blocks.append(Steps(steps) if plain else Adapted(nn.Sequential(steps), enter, leave))
    stages = tuple(len(list(own)) for _, own in groupby(layout.side for layout in anatomy.layouts[1:]))
    backbone = Dissected(blocks, [layout.width for layout in anatomy.layouts[1:]], stages, ())
    backbone.taps = taps_of(backbone)
    theirs = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    backbone.names = {name: theirs[id(tensor)] for name, tensor in backbone.state_dict(keep_vars=True).items()}
    return backbone


def unused(name: str, taken: OrderedDict[str, nn.Module]) -> str:
    """The name, with underscores behind it until it is free: a non-linearity may run several times."""
    while name in taken:
        name += "_"
    return name


def taps_of(backbone: Backbone) -> tuple[int, ...]:
    """The last block at each of the strides 8, 16 and 32; empty where there is none at one of them.

    A stride counts only if images of any sides that are multiples of 32 come out divided by it.
    """
    try:
        shapes = [[shape[1:] for shape in shapes_at(backbone, size)] for size in PROBED]
    except Exception:  # a network of fixed size fails in its own way
        return ()
    strides = [
        {image[axis] / size[axis] for image, size in zip(PROBED, sizes, strict=True) for axis in (0, 1)}
        for sizes in zip(*shapes, strict=True)
    ]
    last = {stride: number for number, own in enumerate(strides, start=1) for stride in STRIDES if own == {stride}}
    return tuple(last[stride] for stride in STRIDES) if len(last) == len(STRIDES) else ()
