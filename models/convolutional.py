"""Classifiers whose linear layers are convolutions: scores of every window of a larger picture, in one pass.

OverFeat (Sermanet et al., arXiv 1312.6229, §3.5); Long et al., arXiv 1411.4038, §3.1. On a larger picture neighbouring
windows share all that the convolutions compute. Scores are those of the windows cut out one by one where no convolution
pads; where some do, a window sees its surroundings in the place of zeros.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.functional import adaptive_avg_pool2d, unfold

from utils.errors import UserError

Side = tuple[int, int]
KEPT = (nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.Identity)  # behave alike on vectors and on maps


def convolutionize(model: nn.Module, size: Side, channels: int = 3) -> fx.GraphModule:
    """A copy in evaluation mode that gives [B, classes, h, w]: the scores of every window, where it gave [B, classes].

    The first linear layer becomes a convolution over all cells that it is given at this size, further ones 1×1
    convolutions; an adaptive average pool before it goes into its kernel; BatchNorm and non-linearities stay; dropout
    does nothing. An image of this size has one window.

    Args:
        model: images [B, 3, H, W] → [B, classes]; its features are flattened once.
        size: height and width of the images that it was made for.
        channels: of what it is given, where it stands on features instead.

    Raises:
        UserError: it cannot be traced, or does something else between features and scores; names the part.
    """
    try:
        graph = fx.symbolic_trace(deepcopy(model).eval())
        parameter = next(graph.parameters())
        with torch.no_grad():
            ShapeProp(graph).propagate(torch.zeros(1, channels, *size, device=parameter.device))
    except Exception as error:  # tracing and other people's networks fail in their own ways
        raise stuck(f"it cannot be followed ({(str(error) or repr(error)).splitlines()[0][:160]})") from error
    if not any(flattens(node) for node in graph.graph.nodes):
        raise stuck("it does not flatten its features")
    Rewriter(graph).run()
    graph.graph.lint()
    graph.recompile()
    return graph


def stuck(what: str) -> UserError:
    """The error for a network that cannot be made convolutional."""
    return UserError(f"no convolution takes the place of a linear layer: {what}", where="convolutionize",
                     hint="take a classifier of convolutions, a pool and linear layers")  # fmt: skip


def flattens(node: fx.Node) -> bool:
    """Whether a step makes vectors of maps."""
    shapes = [own.meta["tensor_meta"].shape for own in (*node.all_input_nodes[:1], node) if "tensor_meta" in own.meta]
    return len(shapes) == 2 and len(shapes[0]) == 4 and len(shapes[1]) == 2


def cells_before(node: fx.Node) -> Side:
    """Height and width of what a step is given."""
    height, width = node.all_input_nodes[0].meta["tensor_meta"].shape[2:]
    return int(height), int(width)


ADAPTIVE = nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d


class Rewriter:
    """Goes through the steps of a traced classifier, from the pool before its linear layers to its scores.

    Attributes:
        cells: that the next linear layer is to look at; 1 × 1 behind the first.
        pools: to how many cells an adaptive average pool before it brings them.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph, self.cells, self.pools, self.pooled = graph, (1, 1), (1, 1), False

    def run(self) -> None:
        """Rewrite all steps in place."""
        nodes = list(self.graph.graph.nodes)
        last = max(index for index, node in enumerate(nodes) if flattens(node))
        for node in nodes[:last]:
            if "adaptive" in str(node.target) or isinstance(self.module(node), ADAPTIVE):
                self.pool(node, self.module(node), before=nodes[last])
        self.begin(nodes[last])
        for node in nodes[last + 1 :]:
            if node.op == "call_module":
                self.replace(node, self.module(node))
            elif node.op != "output" and node.target is not nn.functional.relu:
                raise stuck(f"`{node.name}` comes after its features")

    def module(self, node: fx.Node) -> nn.Module | None:
        """What a step calls, if it is a module."""
        return self.graph.get_submodule(str(node.target)) if node.op == "call_module" else None

    def put(self, node: fx.Node, module: nn.Module) -> None:
        """Another module in the place of a step's."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.graph.get_submodule(parent), name, module)

    def pool(self, node: fx.Node, module: nn.Module | None, before: fx.Node) -> None:
        """A pool to one cell slides; one to more cells waits for the linear layer behind it."""
        own = cells_before(node)
        height, width = node.meta["tensor_meta"].shape[2:]
        if not isinstance(module, ADAPTIVE) or before not in node.users:
            raise stuck(f"`{node.name}` pools the whole picture amid the features")
        if (height, width) == (1, 1):
            kind = nn.AvgPool2d if isinstance(module, nn.AdaptiveAvgPool2d) else nn.MaxPool2d
            self.put(node, kind(own, stride=1))
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            self.cells, self.pools, self.pooled = own, (int(height), int(width)), True
            self.put(node, nn.Identity())
        else:
            raise stuck(f"`{node.target}` pools by the maximum to more than one cell")

    def begin(self, node: fx.Node) -> None:
        """Leave the step out that flattens; without a pool before it the linear layer looks at all cells."""
        (given,) = node.all_input_nodes
        if not self.pooled:
            self.cells = self.pools = cells_before(node)
        node.replace_all_uses_with(given)
        self.graph.graph.erase_node(node)

    def replace(self, node: fx.Node, module: nn.Module | None) -> None:
        """A layer behind the features as one of maps."""
        if isinstance(module, nn.Linear):
            self.put(node, as_convolution(module, self.cells, self.pools))
            self.cells = self.pools = (1, 1)
        elif isinstance(module, nn.BatchNorm1d):
            self.put(node, as_norm(module))
        elif isinstance(module, nn.Dropout):
            self.put(node, nn.Identity())
        elif not isinstance(module, KEPT):
            raise stuck(f"`{node.target}` ({type(module).__name__}) comes after its features")


class Windows(nn.Conv2d):
    """A convolution without stride and padding as one matrix product over all windows.

    Kernels of many cells and channels are quicker so than as torch's own convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = (side - own + 1 for side, own in zip(x.shape[2:], self.kernel_size, strict=True))
        found = self.weight.flatten(1) @ unfold(x, self.kernel_size)
        return (found if self.bias is None else found + self.bias[:, None]).unflatten(2, (height, width))


def as_convolution(linear: nn.Linear, cells: Side, pools: Side) -> nn.Conv2d:
    """The same sums over `cells` of each channel, which a pool may bring to `pools` first."""
    channels = linear.in_features // (pools[0] * pools[1])
    weight = linear.weight.detach().view(linear.out_features, channels, *pools)
    if cells != pools:
        weight = torch.einsum(
            "ocij,iy,jx->ocyx", weight, *(shares(own, to) for own, to in zip(cells, pools, strict=True))
        )
    found = Windows(channels, linear.out_features, cells, bias=linear.bias is not None)
    with torch.no_grad():
        found.weight.copy_(weight)
        if linear.bias is not None and found.bias is not None:
            found.bias.copy_(linear.bias)
    return found.to(linear.weight.device).eval()


def shares(cells: int, to: int) -> Tensor:
    """[to, cells] how much each cell counts in each cell of an adaptive average pool."""
    return adaptive_avg_pool2d(torch.eye(cells)[:, None, :, None], (to, 1))[:, 0, :, 0].T


def as_norm(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    """The same norm for maps."""
    found = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    state: dict[str, Any] = norm.state_dict()
    found.load_state_dict(state)
    return found.eval()
