"""Cascade learning: where to cut a backbone, the plan in numbers, and one stage as a network.

Deep Cascade Learning, Marquez et al., TNNLS 29(11), 2018; on DarkNet-53: Wang & Farrahi, arXiv 2311.12704, §3.4.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor, nn

from models.darknet import DarkNet
from models.heads import ClassifierHead
from utils.errors import UserError


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, BatchNorm's affine ones included, its statistics not."""
    return sum(parameter.numel() for parameter in module.parameters())


def split_blocks(backbone: DarkNet, k: int) -> list[int]:
    """Number of blocks in each of k sub-modules, by a nested rule: the cuts of k − 1 are among those of k.

    Start with one sub-module. Until there are k: take the one that spans a down-sampling, if any, with most
    blocks (ties: most parameters) and cut it at the stage boundary nearest its middle; if none spans one, cut
    that with most blocks (ties: most parameters) in half. For DarkNet-53, k = 3 lands on the detector's taps.

    Raises:
        UserError: k is outside 1…number of blocks.
    """
    count = len(backbone.blocks)
    if not 1 <= k <= count:
        raise UserError(
            f"{k} sub-modules", where="--cl-splits", mend=f"give 1 (end to end) to {count}, or 0 to skip pre-training"
        )
    boundaries = set(accumulate(backbone.stages))
    sizes = [parameter_count(block) for block in backbone.blocks]
    cuts = {0, count}
    while len(cuts) <= k:
        pieces = [(start, end) for start, end in pairwise(sorted(cuts)) if end - start > 1]
        spanning = [piece for piece in pieces if boundaries & set(range(piece[0] + 1, piece[1]))]
        start, end = max(spanning or pieces, key=lambda piece: (piece[1] - piece[0], sum(sizes[slice(*piece)])))
        middle = (start + end) / 2
        inner = range(start + 1, end)
        cuts.add(min((cut for cut in inner if not spanning or cut in boundaries), key=lambda cut: abs(cut - middle)))
    return [end - start for start, end in pairwise(sorted(cuts))]


@dataclass(frozen=True)
class SubModule:
    """One row of the plan, for one image.

    Attributes:
        start, stop: blocks[start:stop], from 0.
        macs: multiply-accumulates of its convolutions.
        activations: numbers that its convolutions put out.
        shape: channels, height, width of its output.
    """

    start: int
    stop: int
    convolutions: int
    parameters: int
    macs: int
    activations: int
    shape: tuple[int, int, int]

    @property
    def blocks(self) -> str:
        """As in `b12–b19`."""
        first, last = f"b{self.start + 1}", f"b{self.stop}"
        return first if first == last else f"{first}–{last}"


def make_plan(backbone: DarkNet, k: int, imgsz: int) -> list[SubModule]:
    """The k sub-modules with their cost at an input of imgsz × imgsz.

    Raises:
        UserError: k is out of range.
    """
    rows, start = [], 0
    with torch.device("meta"):
        x = torch.empty(1, 3, imgsz, imgsz)
    for size in split_blocks(backbone, k):
        part = nn.Sequential(*backbone.blocks[start : start + size])
        outputs: list[tuple[int, int]] = []
        x = measured(part, x, outputs)
        macs, activations = (sum(column) for column in zip(*outputs, strict=True))
        rows.append(
            SubModule(start, start + size, len(outputs), parameter_count(part), macs, activations, tuple(x.shape[1:]))  # type: ignore[arg-type]
        )
        start += size
    return rows


def measured(part: nn.Module, x: Tensor, outputs: list[tuple[int, int]]) -> Tensor:
    """Run part on the meta device: no arithmetic, only shapes; notes (MACs, activations) of each convolution."""

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append((output.numel() * module.weight[0].numel(), output.numel()))

    parameters = {name: tensor.to("meta") for name, tensor in part.state_dict().items()}
    hooks = [module.register_forward_hook(note) for module in part.modules() if isinstance(module, nn.Conv2d)]
    try:
        with torch.no_grad():
            return torch.func.functional_call(part.eval(), parameters, (x,))
    finally:
        part.train()
        for hook in hooks:
            hook.remove()


def plan_table(plan: list[SubModule], taps: tuple[int, ...]) -> str:
    """The plan as aligned text: what each sub-module holds and costs, with shares of the whole in per cent."""
    costs = [(part.parameters, part.macs, part.activations) for part in plan]
    totals = [sum(column) for column in zip(*costs, strict=True)]
    rows = [("blocks", "convs", "parameters", "%", "MACs", "%", "activations %", "output")]
    for part, cost in zip(plan, costs, strict=True):
        parameters, macs, activations = (f"{100 * own / total:.1f}" for own, total in zip(cost, totals, strict=True))
        blocks = f"stem, {part.blocks}" if part.start == 0 else part.blocks
        shape = "×".join(map(str, part.shape)) + (" tap" if part.stop in taps else "")
        convolutions = str(part.convolutions)
        rows.append(
            (blocks, convolutions, f"{part.parameters:,}", parameters, f"{part.macs:,}", macs, activations, shape)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(aligned)


class CascadeStage(nn.Module):
    """Frozen prefix, the sub-module in training, and its head: images [B, 3, H, W] → logits [B, classes].

    The prefix neither gets gradients nor changes its BatchNorm statistics, whatever mode the stage is in.
    """

    def __init__(self, backbone: DarkNet, start: int, stop: int, classes: int) -> None:
        super().__init__()
        self.prefix = nn.Sequential(*backbone.blocks[:start]).requires_grad_(False)
        self.part = nn.Sequential(*backbone.blocks[start:stop]).requires_grad_(True)
        self.head = ClassifierHead(backbone.channels[stop - 1], classes)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the prefix."""
        super().train(mode)
        self.prefix.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.prefix(images)
        return self.head(self.part(features))
