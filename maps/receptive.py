"""Where the cells of a network's maps look, measured: which pixels each depends on, by a backward pass.

The network itself runs, whatever it is made of, but every operation becomes an even mixture of what it could see:
windows have equal weights, activations and norms change nothing. What is left of its gradient is exactly its structure.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from maps.frame import Frame

Run = Callable[[Tensor], Sequence[Tensor]]
"""Images [B, 3, H, W] → maps [B, C, h, w] at each layer."""

LENGTHS = (512, 1024, 2048, 4096)  # pixels, at least; a cell's field must end inside
PERIOD = 256  # lengths differ from the image's side by multiples: padding that depends on the size stays as it is
NARROW = (16, 64)  # pixels across, the first that its windows fit in, else as the image
TOGETHER = 4  # layers that are asked about in one pass
NOWHERE, UNEVEN = "its cells depend on no pixel", "its cells are not spaced evenly"
CELLS = (0, 1, 3)  # from the middle on; their centres must be spaced evenly
OF_ALL = vars(nn.Module()).keys()  # attributes of every module: weights, parts, hooks, mode
UNNAMED = " at 0x"  # in the text of what is known by its address only, which another may have later
MEASURED: dict[tuple[str, int, int], list[Frame | str]] = {}  # by structure, height and width
OF_NETWORK: WeakKeyDictionary[nn.Module, dict[tuple[int, int], list[Frame | str]]] = WeakKeyDictionary()


def frames(run: Run, height: int, width: int, device: torch.device | str = "cpu") -> list[Frame | str]:
    """The frame of each layer for images of a size, or why it has none.

    There is none where a cell depends on the whole image, where cells are not spaced evenly, or differently in the two
    directions. A factor that is pooled from the whole image, as in squeeze-and-excitation, scales what a
    cell says and does not move where it looks: it does not count.

    Args:
        run: must not change the network.
        height, width: pixels of the images that the layers are asked about.
    """
    with torch.inference_mode(False), torch.enable_grad():
        rows = along(run, height, width, device)
        columns = along(lambda images: [own.mT for own in run(images.mT.contiguous())], width, height, device)
    return [agreed(one, other) for one, other in zip(rows, columns, strict=True)]


def frames_like(
    network: nn.Module, run: Run, size: Sequence[int], device: torch.device | str = "cpu"
) -> list[Frame | str]:
    """`frames` of a network that stays as it is, once for all of this process that differ in their weights only.

    Args:
        size: height and width of the images.
    """
    own, (height, width) = OF_NETWORK.setdefault(network, {}), size
    if (height, width) not in own:
        key = (structure(network), height, width)
        found = MEASURED.get(key) or frames(run, height, width, device)
        if UNNAMED not in key[0]:
            MEASURED[key] = found
        own[height, width] = found
    return own[height, width]


def structure(network: nn.Module) -> str:
    """What of a network is not learnt: its modules, the settings of each, and the shapes of its weights."""
    lines = []
    for name, module in network.named_modules():
        settings = {key: own for key, own in vars(module).items() if key not in OF_ALL}
        settings |= dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        shown = {key: tuple(own.shape) if isinstance(own, Tensor) else own for key, own in settings.items()}
        lines.append(f"{name} {type(module).__module__}.{type(module).__qualname__} {shown}")
    return "\n".join(lines)


def agreed(rows: Frame | str, columns: Frame | str) -> Frame | str:
    """The frame of both directions."""
    if isinstance(rows, Frame) and isinstance(columns, Frame) and rows != columns:
        return f"its rows are at {rows.about}, its columns at {columns.about}"
    return columns if isinstance(rows, Frame) else rows


def along(run: Run, length: int, across: int, device: torch.device | str) -> list[Frame | str]:
    """The frame of each layer in the first direction, from images as long as their fields need and no wider."""
    found: list[Frame | str] = []
    for least in LENGTHS:
        long = length + PERIOD * max(0, -(-(least - length) // PERIOD))
        try:
            found = measured(run, found, (long, across), device)
        except Exception:  # of the network, which takes no image of this size
            return found or at_one_size(run, (length, across), device)
        if all(map(is_settled, found)):
            break
    return found


def measured(
    run: Run, known: Sequence[Frame | str], size: tuple[int, int], device: torch.device | str
) -> list[Frame | str]:
    """The frames at one length; those that are known stay."""
    length, across = size
    for wide in sorted({min(own, across) for own in (*NARROW, across)}):
        try:
            count = len(evenly(run, 1, (length, wide), device)[1])
            break
        except Exception:  # too narrow for its windows
            if wide == across:
                raise
    found = list(known) or [""] * count
    asked = [layer for layer, own in enumerate(found) if not is_settled(own)]
    for start in range(0, len(asked), TOGETHER):
        layers = asked[start : start + TOGETHER]
        for layer, own in zip(layers, frames_of(run, layers, (length, wide), device), strict=True):
            found[layer] = own
    return found


def is_settled(own: Frame | str) -> bool:
    """Whether a longer image would change nothing."""
    return isinstance(own, Frame) or own in (NOWHERE, UNEVEN)


def at_one_size(run: Run, size: tuple[int, int], device: torch.device | str) -> list[Frame | str]:
    """The frames from images as they are, where a network takes no others."""
    try:
        return measured(run, (), size, device)
    except Exception as error:
        why = f"its structure cannot be followed ({type(error).__name__}: {str(error).partition(chr(10))[0][:80]})"
        with torch.no_grad():
            return [why] * len(run(torch.zeros(1, 3, *size, device=device)))


def evenly(run: Run, count: int, size: tuple[int, int], device: torch.device | str) -> tuple[Tensor, Sequence[Tensor]]:
    """So many images, and what the even network makes of them."""
    images = torch.ones(count, 3, *size, dtype=torch.float64, device=device, requires_grad=True)
    with Even():
        return images, run(images)


def frames_of(
    run: Run, layers: Sequence[int], size: tuple[int, int], device: torch.device | str
) -> Iterator[Frame | str]:
    """The frames of some layers from one pass: each cell that is asked about has an image of its own."""
    images, maps = evenly(run, len(layers) * len(CELLS), size, device)
    scores, asked = [], []
    for place, layer in enumerate(layers):
        height, width = maps[layer].shape[2:]
        cells = [min(height // 2 + cell, height - 1) for cell in CELLS]
        own = thin(maps[layer], 1)[place * len(CELLS) :]
        scores += [own[number, 0, cell, width // 2] for number, cell in enumerate(cells)]
        asked.append(cells)
    (gradient,) = torch.autograd.grad(torch.stack(scores).sum(), images, allow_unused=True)
    seen = (torch.zeros_like(images) if gradient is None else gradient).abs().sum((1, 3)) > 0
    for cells, rows in zip(asked, seen.split(len(CELLS)), strict=True):
        yield frame_through(cells, [row.nonzero()[:, 0].tolist() for row in rows], size[0])


def frame_through(cells: Sequence[int], seen: Sequence[list[int]], length: int) -> Frame | str:
    """The frame of some cells, by the rows that they depend on, of images with so many."""
    if len(set(cells)) < len(cells):
        return f"an image of {length} px has too few cells to say"
    if not all(seen):
        return NOWHERE
    if any(rows[0] == 0 or rows[-1] == length - 1 for rows in seen):
        return f"its cells look as far as the edge of an image of {length} px"
    middles = [(rows[0] + rows[-1]) / 2 for rows in seen]
    steps = {(b - a) / (k - j) for j, k, a, b in zip(cells, cells[1:], middles, middles[1:], strict=False)}
    if len(steps) > 1 or min(steps) <= 0:
        return UNEVEN
    return Frame(min(steps), middles[0] - min(steps) * cells[0])


class Even(TorchFunctionMode):
    """Inside, whatever an operation could see counts evenly in what it puts out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = RULES.get(getattr(func, "__name__", ""), func)
        return rule(*args, **(kwargs or {}))


def wide(one: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor that is the same in some dimensions, and remembers what it is made from: most need only one channel."""
    found = one.expand(*shape)
    found.thin = one  # type: ignore[attr-defined]
    return found


def thin(x: Tensor, dim: int) -> Tensor:
    """The mean over the channels, in that dimension."""
    own: Tensor = getattr(x, "thin", x)
    return own if own.shape[dim] == 1 else own.mean(dim, keepdim=True)


def convolution(x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                groups: int = 1) -> Tensor:  # fmt: skip
    """The mean over window and channels."""
    own = thin(x, -3)
    kernel = own.new_full((1, 1, *weight.shape[2:]), 1 / prod(weight.shape[2:]))
    found = F.conv2d(own, kernel, None, stride, padding, dilation)
    return wide(found, (*found.shape[:-3], len(weight), *found.shape[-2:]))


def linear(x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """The mean over the channels."""
    return wide(thin(x, -1), (*x.shape[:-1], len(weight)))


def on_thin(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A pool that works on each channel by itself, on one where all are the same."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        own = pool(getattr(x, "thin", x), *args, **kwargs)
        return wide(own, (*x.shape[:-2], *own.shape[-2:]))

    return rule


def padded(x: Tensor, pad: Sequence[int], *args: Any, **kwargs: Any) -> Tensor:
    """With a border; of one channel where all are the same and get no others."""
    if len(pad) > 4:
        return F.pad(x, pad, *args, **kwargs)
    own = F.pad(getattr(x, "thin", x), pad, *args, **kwargs)
    return wide(own, (*x.shape[:-2], *own.shape[-2:]))


def greatest(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Tensor:  # fmt: skip
    """The mean over the window of a maximum."""
    if dilation in (1, (1, 1), [1, 1]):
        return F.avg_pool2d(x, kernel_size, stride or kernel_size, padding, ceil_mode)
    sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
    return convolution(x, x.new_empty(x.shape[-3], 1, *sides), None, stride or kernel_size, padding, dilation)


def pooled_to(x: Tensor, output_size: Any, *_: Any, **__: Any) -> Tensor:
    """The mean of parts; of the whole image it does not count."""
    found = F.adaptive_avg_pool2d(x, output_size)
    return found.detach() if found.shape[-2:] == (1, 1) else found


def over_image(name: str) -> Callable[..., Any]:
    """A mean, a norm and the like; of the whole image it does not count."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = getattr(x, name)(*args, **kwargs)
        return found.detach() if isinstance(found, Tensor) and is_over_image(found, args, kwargs) else found

    return rule


def is_over_image(found: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether what was found is of several dimensions at once, or of all."""
    several = (isinstance(own, tuple | list) and len(own) > 1 for own in (*args, *kwargs.values()))
    return found.dim() == 0 or any(several)


def permute(x: Tensor, *dims: Any) -> Tensor:
    """Another order of the dimensions."""
    found = x.permute(*dims)
    return wide(x.thin.permute(*dims), found.shape) if hasattr(x, "thin") else found


def reshaped(x: Tensor, *shape: Any) -> Tensor:
    """Another shape, whatever the order of memory is."""
    return x.view(*shape) if isinstance(shape[0], torch.dtype) else x.reshape(*shape)


def together(operation: Callable[..., Tensor], x: Any, other: Any) -> Tensor:
    """A sum or a product, never in place; of one channel where all are the same."""
    if not isinstance(x, Tensor) or not isinstance(other, Tensor):
        one, number = (x, other) if isinstance(x, Tensor) else (other, x)
        return wide(operation(getattr(one, "thin", one), number), one.shape)
    shape = torch.broadcast_shapes(x.shape, other.shape)
    return wide(operation(getattr(x, "thin", x), getattr(other, "thin", other)), shape)


def times(x: Any, other: Any, **_: Any) -> Any:
    """A product; a learned factor, which may be zero, changes nothing."""
    if isinstance(other, nn.Parameter):
        return x
    return other if isinstance(x, nn.Parameter) else together(torch.mul, x, other)


def plus(x: Any, other: Any, **_: Any) -> Any:
    """A sum."""
    return together(torch.add, x, other)


def scaled_sum(x: Any, one: Any, other: Any, **_: Any) -> Any:
    """A sum with a product."""
    return plus(x, times(one, other))


def unchanged(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """What an activation or a norm is given."""
    return x


RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "elu", "elu_", "celu", "selu",
         "gelu", "silu", "silu_", "mish", "hardswish", "hardsigmoid", "softplus", "prelu", "rrelu", "sigmoid",
         "sigmoid_", "tanh", "tanh_", "clamp", "clamp_", "batch_norm", "layer_norm", "group_norm", "instance_norm",
         "rms_norm", "dropout", "dropout_", "dropout2d"),
        unchanged,
    ),
    **dict.fromkeys(("mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"), times),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), plus),
    **dict.fromkeys(("max_pool2d", "_max_pool2d"), on_thin(greatest)),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), on_thin(pooled_to)),
    **dict.fromkeys(("view", "reshape"), reshaped),
    "avg_pool2d": on_thin(F.avg_pool2d),
    "pad": padded,
    "conv2d": convolution,
    "linear": linear,
    **{name: over_image(name) for name in ("mean", "norm", "amax", "var", "std")},
    "addcmul": scaled_sum,
    "permute": permute,
}  # fmt: skip
