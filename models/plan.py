"""Where to cut a backbone, and what each part costs, before anything is trained.

The splits of DarkNet-53 in Wang & Farrahi, arXiv 2311.12704, are not published; the nested rule is our reading.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.backbone import Backbone
from models.heads import Shape
from utils.errors import UserError


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, BatchNorm's affine ones included, its statistics not."""
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class SubModule:
    """One row of the plan, for one image.

    Attributes:
        start, stop: blocks[start:stop], from 0.
        macs: multiply-accumulates of its convolutions.
        activations: numbers that its convolutions put out.
        shape: channels, height, width of its output.
        stem: whether it opens with the layers before the first residual block.
    """

    start: int
    stop: int
    convolutions: int
    parameters: int
    macs: int
    activations: int
    shape: Shape
    stem: bool = False

    @property
    def blocks(self) -> str:
        """As in `b12–b19`."""
        first, last = f"b{self.start + 1}", f"b{self.stop}"
        return first if first == last else f"{first}–{last}"


def training_bytes(part: SubModule, batch: int) -> int:
    """What a sub-module takes only while it learns, in fp32.

    Of each number that a convolution puts out, itself and what BatchNorm and activation make of it, for every image;
    of each weight, its gradient, AdamW's two moments and its average.
    """
    return 8 * batch * part.activations + 16 * part.parameters


# What the balanced plans share out evenly, at so many images a step.
BALANCES: dict[str, Callable[[SubModule, int], int]] = {
    "flops": lambda block, batch: block.macs,
    "memory": training_bytes,
}


def split_blocks(backbone: Backbone, k: int, balance: str = "stage", costs: Sequence[int] | None = None) -> list[int]:
    """Number of blocks in each of k sub-modules.

    Args:
        balance: `stage` for the nested rule, `flops` or `memory` for the most even shares of costs.
        costs: of each block; the nested rule does not look at them.

    Raises:
        UserError: k is outside 1…number of blocks, or there is no such balance.
    """
    count = len(backbone.blocks)
    if not 1 <= k <= count:
        raise UserError(
            f"{k} sub-modules", where="--cl-splits", hint=f"give 1 (end to end) to {count}, or 0 to skip pre-training"
        )
    if balance == "stage":
        return split_nested(backbone, k)
    if balance not in BALANCES:
        raise UserError(f"no balance {balance!r}", where="--balance", hint=f"give stage, {' or '.join(BALANCES)}")
    if costs is None or len(costs) != count:
        raise ValueError(f"{balance} wants the cost of each of {count} blocks")
    return split_evenly(costs, k)


def split_nested(backbone: Backbone, k: int) -> list[int]:
    """Number of blocks in each of k sub-modules, by a nested rule: the cuts of k − 1 are among those of k.

    Start with one sub-module. Until there are k: take the one that spans a down-sampling, if any, with most
    blocks (ties: most parameters) and cut it at the stage boundary nearest its middle; if none spans one, cut
    that with most blocks (ties: most parameters) in half. For DarkNet-53, k = 3 lands on the detector's taps.
    """
    boundaries = set(accumulate(backbone.stages))
    sizes = [parameter_count(block) for block in backbone.blocks]
    cuts = {0, len(sizes)}
    while len(cuts) <= k:
        pieces = [(start, end) for start, end in pairwise(sorted(cuts)) if end - start > 1]
        spanning = [piece for piece in pieces if boundaries & set(range(piece[0] + 1, piece[1]))]
        start, end = max(spanning or pieces, key=lambda piece: (piece[1] - piece[0], sum(sizes[slice(*piece)])))
        middle = (start + end) / 2
        inner = range(start + 1, end)
        cuts.add(min((cut for cut in inner if not spanning or cut in boundaries), key=lambda cut: abs(cut - middle)))
    return [end - start for start, end in pairwise(sorted(cuts))]


def split_evenly(costs: Sequence[int], k: int) -> list[int]:
    """Number of neighbours in each of k groups whose costs, largest first, are lexicographically smallest.

    So the largest group is as small as can be, then the second largest, and so on; ties: the earliest cuts. Exact,
    by dynamic programming: whichever of two splits of a beginning is the better one stays so when a group is added.
    """
    before = [0, *accumulate(costs)]
    # best[end]: group costs, largest first, and ends of the groups, for the first `end` costs in so many groups.
    best = {end: ([before[end]], [end]) for end in range(1, len(before))}
    for groups in range(2, k + 1):
        best = {
            end: min(
                (sorted([*best[cut][0], before[end] - before[cut]], reverse=True), [*best[cut][1], end])
                for cut in range(groups - 1, end)
            )
            for end in range(groups, len(before))
        }
    return [end - start for start, end in pairwise([0, *best[len(costs)][1]])]


def make_plan(backbone: Backbone, k: int, imgsz: int, balance: str = "stage", *, batch: int = 1) -> list[SubModule]:
    """The k sub-modules with their cost at an input of imgsz × imgsz.

    Args:
        balance: `stage`, `flops` (even multiply-accumulates) or `memory` (even training_bytes).
        batch: images per step; only `memory` looks at it.

    Raises:
        UserError: k is out of range, or there is no such balance.
    """
    blocks = block_costs(backbone, imgsz)
    costs = [BALANCES[balance](block, batch) for block in blocks] if balance in BALANCES else None
    ends = accumulate(split_blocks(backbone, k, balance, costs), initial=0)
    return [joined(blocks[start:stop]) for start, stop in pairwise(ends)]


def block_costs(backbone: Backbone, imgsz: int) -> list[SubModule]:
    """Each block as a sub-module of its own, at an input of imgsz × imgsz.

    Raises:
        UserError: a block cannot take what images of this size become.
    """
    rows = []
    x = torch.empty(1, backbone.in_channels, imgsz, imgsz, device="meta")
    for start, block in enumerate(backbone.blocks):
        try:
            x, macs, outputs = measured(block, x)
        except Exception as error:  # networks of one size refuse others in many ways
            reason = (str(error) or type(error).__name__).splitlines()[0]
            what = f"b{start + 1} cannot take images of {imgsz} px ({reason})"
            raise UserError(what, where="--imgsz, --pretrain-imgsz", hint="give the size of the network") from error
        shape = (x.shape[1], x.shape[2], x.shape[3])
        stem = start == 0 and hasattr(block, "stem")
        count = parameter_count(block)
        rows.append(SubModule(start, start + 1, len(outputs), count, macs, sum(outputs), shape, stem))
    return rows


def shapes_at(backbone: Backbone, size_hw: tuple[int, int]) -> list[Shape]:
    """Channels, height, width of what each block makes of images of this size; what fails, fails as in the block."""
    shapes, x = [], torch.empty(1, backbone.in_channels, *size_hw, device="meta")
    for block in backbone.blocks:
        x, _, _ = measured(block, x)
        shapes.append((x.shape[1], x.shape[2], x.shape[3]))
    return shapes


def joined(blocks: list[SubModule]) -> SubModule:
    """Neighbours as one sub-module."""
    first, last = blocks[0], blocks[-1]
    return SubModule(
        start=first.start,
        stop=last.stop,
        convolutions=sum(block.convolutions for block in blocks),
        parameters=sum(block.parameters for block in blocks),
        macs=sum(block.macs for block in blocks),
        activations=sum(block.activations for block in blocks),
        shape=last.shape,
        stem=first.stem,
    )


def measured(part: nn.Module, x: Tensor) -> tuple[Tensor, int, list[int]]:
    """Run part on the meta device: no arithmetic, only shapes.

    Returns:
        What comes out; multiply-accumulates of all convolutions and matrix products, those of attention too, as torch
        counts them; values that each convolution and linear layer puts out.
    """
    outputs: list[int] = []
    tensors = {name: tensor.to("meta") for name, tensor in (*part.named_parameters(), *part.named_buffers())}
    layers = [module for module in part.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda _, __, output: outputs.append(output.numel())) for layer in layers]
    try:
        with torch.no_grad(), evaluating(part), shapes_only(part), FlopCounterMode(display=False) as counter:
            x = torch.func.functional_call(part, tensors, (x,))
    finally:
        for hook in hooks:
            hook.remove()
    return x, counter.get_total_flops() // 2, outputs


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def shapes_only(module: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm and rectifiers pass on what they are given.

    Of its shape alone torch makes a hundred operations in Python.
    """
    passing = [part for part in module.modules() if type(part) in PASSING and "forward" not in vars(part)]
    for part in passing:
        part.forward = partial(PASSING[type(part)], part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in passing:
            del part.forward


def passed_by_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """The same, if it has as many channels as a norm, and in training more than one value in each.

    Raises:
        ValueError: it has not.
    """
    if x.shape[1] != norm.num_features:
        raise ValueError(f"BatchNorm of {norm.num_features} channels is given {x.shape[1]}")
    if norm.training and x.numel() == x.shape[1]:
        raise ValueError("BatchNorm is given a single value in each channel to learn from")
    return x


def passed(_: nn.Module, x: Tensor) -> Tensor:
    """The same."""
    return x


PASSING = {nn.BatchNorm2d: passed_by_norm, nn.LeakyReLU: passed, nn.ReLU: passed}


def head_macs(head: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of a head's convolutions and linear layers on one image's features of this shape."""
    _, macs, _ = measured(head, torch.empty(1, *shape, device="meta"))
    return macs


def plan_table(plan: list[SubModule], taps: tuple[int, ...]) -> str:
    """The plan as aligned text: what each sub-module holds and costs, with shares of the whole in per cent."""
    costs = [(part.parameters, part.macs, part.activations) for part in plan]
    totals = [sum(column) for column in zip(*costs, strict=True)]
    rows = [("blocks", "convs", "parameters", "%", "MACs", "%", "activations %", "output")]
    for part, cost in zip(plan, costs, strict=True):
        parameters, macs, activations = (f"{100 * own / total:.1f}" for own, total in zip(cost, totals, strict=True))
        blocks = f"stem, {part.blocks}" if part.stem else part.blocks
        shape = "×".join(map(str, part.shape)) + (" tap" if part.stop in taps else "")
        convolutions = str(part.convolutions)
        rows.append(
            (blocks, convolutions, f"{part.parameters:,}", parameters, f"{part.macs:,}", macs, activations, shape)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(aligned)
