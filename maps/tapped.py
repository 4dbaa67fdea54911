"""Any classifier, its layers tapped by name: what `explain` makes maps of."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from maps.evidence import Evidence, signed
from maps.explained import Gradients, chosen
from maps.frame import Frame
from maps.receptive import frames
from utils.errors import UserError
from utils.tables import near


class Reached(Exception):  # noqa: N818
    """All layers have been passed: what comes behind is not needed."""


class Tapped:
    """A classifier, used as it is: nothing of it is changed, no hook stays.

    Layers put out maps [B, C, h, w], maps with channels last, or tokens [B, n, C] of square images.

    Args:
        model: images → logits [B, classes].
        layers: names of its modules, as `model.named_modules()` gives them, in any order.
        aligned: maps know where their cells are in the image; else they are stretched over it.
        single_label: whether the classes exclude each other.
        prepare: images in 0–1 → what the model takes.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        *,
        aligned: bool = True,
        single_label: bool = True,
        prepare: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> None:
        self.model, self.layers, self.prepare = model, tuple(layers), prepare
        self.aligned, self.single_label = aligned, single_label
        self.device = next((own.device for own in model.parameters()), torch.device("cpu"))
        modules = dict(model.named_modules())
        for name in self.layers:
            if not name or name not in modules:
                hint = f"{near(name, modules)}see model.named_modules()"
                raise UserError(f"no layer `{name}` in {type(model).__name__}", where="layers", hint=hint)
        self._modules = [modules[name] for name in self.layers]
        self._frames: dict[tuple[int, ...], list[Frame | str]] = {}
        self.channels = 3  # of the images, once it has seen some
        self._last: dict[int, bool] = {}  # layer → whether its channels come last

    @property
    def layer_count(self) -> int:
        """The layers that are named."""
        return len(self.layers)

    @property
    def classifier_count(self) -> int:
        """The one that there is."""
        return 1

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The logits [B, classes], of the one classifier that there is."""
        self.channels = images.shape[1]
        with still(self.model):
            return [self._logits(images)]

    def _logits(self, images: Tensor) -> Tensor:
        found = self.model(self.prepare(images))
        found = getattr(found, "logits", found)
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(images):
            what = f"puts out {about(found)}, not logits [images, classes]"
            raise UserError(what, where=type(self.model).__name__, hint="wrap it in a module that does")
        return found

    def checked(self, images: Tensor) -> Tensor:
        """The logits [B, classes] of the first images, once each layer is known to have one map of each.

        Raises:
            UserError: images do not pass a layer, or pass it several times, or it puts out no maps.
        """
        self.channels = images.shape[1]
        with torch.no_grad(), still(self.model), self._caught(images) as caught:
            found = self._logits(images)
        for layer, own in enumerate(self._complete(caught)):
            self._as_map(layer, own, images)
        return found

    def logits_for(self, layer: int, images: Tensor) -> Tensor:
        """The logits: all layers are explained by the same classifier."""
        return self(images)[0]

    def activations(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each layer, in their order; what comes behind the last is not computed."""
        return [self._as_map(layer, own, images) for layer, own in enumerate(self._raw(images))]

    def _raw(self, images: Tensor) -> list[Tensor]:
        """What the layers put out."""
        with still(self.model), self._caught(images, stop=True) as caught, contextlib.suppress(Reached):
            self.model(self.prepare(images))
        return self._complete(caught)

    def _complete(self, caught: dict[int, Tensor]) -> list[Tensor]:
        """What was caught, in the order of the layers."""
        for layer, name in enumerate(self.layers):
            if layer not in caught:
                raise UserError("is not passed by these images", where=f"layer {name}", hint="leave it out")
        return [caught[layer] for layer in range(len(self.layers))]

    @contextlib.contextmanager
    def _caught(self, images: Tensor, *, stop: bool = False) -> Iterator[dict[int, Tensor]]:
        """Inside, what the layers put out is kept, by their number."""
        caught: dict[int, Tensor] = {}

        def catch(layer: int) -> Callable[..., Tensor]:
            def hook(_: nn.Module, __: object, output: object) -> Tensor:
                if not isinstance(output, Tensor) or output.dim() not in (3, 4):
                    what = f"puts out {about(output)}, no maps"
                    raise UserError(what, where=f"layer {self.layers[layer]}", hint="name one in front of the pool")
                if layer in caught:
                    what = "is passed several times by an image, and puts out a map each time"
                    raise UserError(what, where=f"layer {self.layers[layer]}", hint="name a module that is passed once")
                own = output
                if torch.is_grad_enabled() and not own.requires_grad:
                    own = own.detach().requires_grad_()
                caught[layer] = own
                if stop and len(caught) == len(self.layers):
                    raise Reached
                # What follows may work in place, on a copy.
                return own.clone() if not hasattr(own, "thin") else own

            return hook

        hooks = [module.register_forward_hook(catch(layer)) for layer, module in enumerate(self._modules)]
        try:
            yield caught
        finally:
            for hook in hooks:
                hook.remove()

    def _as_map(self, layer: int, own: Tensor, images: Tensor) -> Tensor:
        """[B, C, h, w] of what a layer puts out."""
        height, width = images.shape[2:]
        if own.dim() == 3:
            return tokens(own, height, width, self.model, self.layers[layer])
        # Settled by the first images: those that frames are measured on are of odd shapes.
        if self._last.setdefault(layer, channels_last(own, height, width)):
            own = own.permute(0, 3, 1, 2)
        if own.shape[2:] == (1, 1):
            what = "has one cell for the whole image"
            raise UserError(what, where=f"layer {self.layers[layer]}", hint="name one in front of the pool")
        return own

    def frame(self, layer: int, size: Sequence[int]) -> Frame:
        """Where the cells of a layer are in images of height and width, measured once for each size.

        Raises:
            UserError: they are not spaced evenly, or look everywhere.
        """
        height, width = key = tuple(size)
        if key not in self._frames:
            if not self._last:
                with torch.no_grad():
                    self.activations(torch.zeros(1, self.channels, height, width, device=self.device))
            run = lambda images: self.activations(images[:, : self.channels])  # noqa: E731
            self._frames[key] = frames(run, height, width, self.device)
        found = self._frames[key][layer]
        if isinstance(found, str):
            hint = "stretch the maps over the image (aligned=False), or name an earlier layer"
            raise UserError(found, where=f"layer {self.layers[layer]}", hint=hint)
        return found

    def evidence(self, raw: Tensor, layer: int, size: Sequence[int]) -> Evidence:
        """What is positive of a map [B, h, w] made of a layer's activations, of images of height and width."""
        return signed(raw, self.frame(layer, size) if self.aligned else None)

    def by_layer(self, images: Tensor, labels: Tensor) -> list[Gradients]:
        """Activations and gradients at each layer, from one forward and one backward pass."""
        return self._by(images, labels, pixels=False)[0]

    def by_image(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """[B, 3, H, W] of the one classifier."""
        pixels = images.detach().requires_grad_()
        with torch.enable_grad(), still(self.model):
            return list(torch.autograd.grad(chosen(self._logits(pixels), labels), pixels))

    def by_both(self, images: Tensor, labels: Tensor) -> tuple[list[Gradients], list[Tensor]]:
        """Both of them."""
        return self._by(images, labels, pixels=True)

    def _by(self, images: Tensor, labels: Tensor, *, pixels: bool) -> tuple[list[Gradients], list[Tensor]]:
        """Gradients by the layers, and by the pixels if they are asked for."""
        own = images.detach().requires_grad_(pixels)
        with torch.enable_grad(), still(self.model), self._caught(own) as caught:
            score = chosen(self._logits(own), labels)
        raw = self._complete(caught)
        found = torch.autograd.grad(score, [*raw, own] if pixels else raw, allow_unused=True)
        by_layer = []
        for layer, (activations, gradient) in enumerate(zip(raw, found, strict=False)):
            gradient = torch.zeros_like(activations) if gradient is None else gradient
            by_layer.append(tuple(self._as_map(layer, part, images) for part in (activations.detach(), gradient)))
        return by_layer, list(found[len(raw) :])  # type: ignore[return-value]


@contextlib.contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Inside, a model evaluates: no dropout, no new statistics."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def about(output: object) -> str:
    """What something is, for messages."""
    return str(list(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def channels_last(own: Tensor, height: int, width: int) -> bool:
    """Whether maps [B, …] have their channels behind the cells: cells are shaped like the image, channels are not."""
    first, last = (abs(a * width - b * height) for a, b in (own.shape[2:], own.shape[1:3]))
    return last < first and own.shape[1] <= height and own.shape[2] <= width


def tokens(own: Tensor, height: int, width: int, model: nn.Module, name: str) -> Tensor:
    """[B, C, h, w] of tokens [B, n, C], cells row by row behind a class token and the like.

    Raises:
        UserError: they are not as many as such cells are.
    """
    extra = next((own.num_prefix_tokens for own in model.modules() if hasattr(own, "num_prefix_tokens")), 1)
    for more in (int(extra), 0):  # type: ignore[arg-type]
        cells = own.shape[1] - more
        rows = round((cells * height / width) ** 0.5) if cells > 0 else 0
        if rows and cells % rows == 0 and rows * width == cells // rows * height:
            return own[:, more:].mT.unflatten(2, (rows, cells // rows))
    what = f"puts out {list(own.shape)}, tokens that are no grid over {height}×{width} pixels"
    raise UserError(what, where=f"layer {name}", hint="name a layer with maps")
