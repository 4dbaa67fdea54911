"""Classifiers whose linear layers are convolutions: scores of every window of a larger picture, in one pass.

OverFeat (Sermanet et al., arXiv 1312.6229, §3.5); Long et al., arXiv 1411.4038, §3.1. On a larger picture neighbouring
windows share all that the convolutions compute. Scores are those of the windows cut out one by one where no convolution
pads; where some do, a window sees its surroundings in the place of zeros.
"""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torch.nn.functional import adaptive_avg_pool2d, unfold

from utils.errors import UserError

Side = tuple[int, int]
# These behave alike on vectors and on maps.
KEPT = (nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.SiLU, nn.GELU)
KEPT_FUNCTIONS = (functional.relu, functional.leaky_relu, functional.silu, functional.gelu, torch.relu, "relu")
IDLE = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)  # these do nothing in evaluation mode


def convolutionize(model: nn.Module, size: Side, channels: int = 3) -> fx.GraphModule:
    """A copy in evaluation mode that gives [B, classes, h, w]: the scores of every window, where it gave [B, classes].

    The first linear layer becomes a convolution over all cells that it is given at this size, further ones 1×1
    convolutions; an adaptive average pool before it goes into its kernel; a mean over all cells slides; BatchNorm and
    non-linearities stay; dropout does nothing. An image of this size has one window.

    Args:
        model: images [B, 3, H, W] → [B, classes]; its features are flattened once.
        size: height and width of the images that it was made for.
        channels: of what it is given, where that is features instead.

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
    return [len(shape_of(own)) for own in (*node.all_input_nodes[:1], node)] == [4, 2]


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Of what a step puts out; () where that is no tensor."""
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


def cells_before(node: fx.Node) -> Side:
    """Height and width of what a step is given."""
    height, width = shape_of(node.all_input_nodes[0])[2:]
    return int(height), int(width)


def averages(node: fx.Node) -> bool:
    """Whether a step is the mean of each channel of a map."""
    if (node.op, node.target) not in (("call_method", "mean"), ("call_function", torch.mean)):
        return False
    places: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    known = len(shape_of(node.all_input_nodes[0])) == 4 and isinstance(places, list | tuple)
    return known and sorted(own % 4 for own in places) == [2, 3]


def idles(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a step does nothing in evaluation mode, as dropout does."""
    if node.target in (functional.dropout, functional.dropout2d):
        return not node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
    return isinstance(module, IDLE)


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
        for node in self.graph.graph.nodes:
            if idles(node, self.module(node)):
                self.leave_out(node)
        nodes = list(self.graph.graph.nodes)
        last = max(index for index, node in enumerate(nodes) if flattens(node))
        for node in nodes[:last]:
            if self.sees_all(node):
                self.pool(node, before=nodes[last])
        self.begin(nodes[last])
        for node in nodes[last + 1 :]:
            if node.op == "call_module":
                self.replace(node, self.module(node))
            elif node.op != "output" and node.target not in KEPT_FUNCTIONS:
                raise stuck(f"`{node.name}` comes after its features")

    def module(self, node: fx.Node) -> nn.Module | None:
        """What a step calls, if it is a module."""
        return self.graph.get_submodule(str(node.target)) if node.op == "call_module" else None

    def called(self, node: fx.Node) -> str:
        """The kind of module, or the function, that a step calls, in small letters."""
        what = node.target if (module := self.module(node)) is None else type(module)
        return getattr(what, "__name__", str(what)).lower()

    def sees_all(self, node: fx.Node) -> bool:
        """Whether a step pools cells of which the size of the picture says how many: all of them, mostly."""
        name = self.called(node)
        return "adaptive" in name or averages(node) or ("pool" in name and len(node.all_input_nodes) > 1)

    def put(self, node: fx.Node, module: nn.Module) -> None:
        """A module in the place of what a step calls, on the first tensor that it is given."""
        if node.op != "call_module":
            node.op, node.target = "call_module", f"{node.name}_of_cells"
            node.args, node.kwargs = tuple(node.all_input_nodes[:1]), {}
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.graph.get_submodule(parent), name, module)

    def leave_out(self, node: fx.Node) -> None:
        """What a step was given in the place of what it put out."""
        node.replace_all_uses_with(node.all_input_nodes[0])
        self.graph.graph.erase_node(node)

    def pool(self, node: fx.Node, before: fx.Node) -> None:
        """A pool to one cell slides; one to more cells waits for the linear layer behind it."""
        if before not in node.users:
            raise stuck(f"`{node.name}` pools the whole picture amid the features")
        own, cells, name = cells_before(node), shape_of(node)[2:], self.called(node)
        if cells == (1, 1):
            self.put(node, (nn.MaxPool2d if "max" in name else nn.AvgPool2d)(own, stride=1))
        elif name.replace("_", "").startswith("adaptiveavg"):
            self.cells, self.pools, self.pooled = own, (cells[0], cells[1]), True
            self.put(node, nn.Identity())
        else:
            raise stuck(f"`{node.name}` pools to more than one cell, and not by an adaptive mean")

    def begin(self, node: fx.Node) -> None:
        """Leave the step out that flattens; without a pool before it the linear layer looks at all cells.

        A mean that flattens slides.
        """
        if averages(node):
            self.put(node, nn.AvgPool2d(cells_before(node), stride=1))
            return
        if math.prod(shape_of(node)) != math.prod(shape_of(node.all_input_nodes[0])):
            raise stuck(f"`{node.name}` makes vectors of maps, and neither flattens nor averages")
        if not self.pooled:
            self.cells = self.pools = cells_before(node)
        self.leave_out(node)

    def replace(self, node: fx.Node, module: nn.Module | None) -> None:
        """A layer behind the features as one of maps."""
        if isinstance(module, nn.Linear):
            self.put(node, as_convolution(module, self.cells, self.pools))
            self.cells = self.pools = (1, 1)
        elif isinstance(module, nn.BatchNorm1d):
            self.put(node, as_norm(module))
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
