"""Families of backbones: the networks of timm and of torchvision, by their names there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from models.anatomy import Anatomy, Dissected, assembled, studied
from models.layers import HALF, IMAGENET_MEAN, IMAGENET_STD, Normalise
from utils.errors import UserError

# What lets a network of timm take images of more sizes than one, of those that have such an argument.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
SIDE = 224
HEAD = ("avgpool", "classifier", "fc", "head", "heads")  # parts of torchvision's networks behind their features


@cache
def timm_names() -> list[str]:
    """Networks of timm, and behind them those that name certain weights, as resnet18.a1_in1k."""
    import timm

    return [*timm.list_models(), *timm.list_pretrained()]


@cache
def torchvision_names() -> list[str]:
    """Classifiers of torchvision."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def timm_features(network: nn.Module, images: Tensor) -> Tensor:
    """Features of a network of timm before its pool."""
    return network.forward_features(images)  # type: ignore[operator,no-any-return]


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """What build gives; on the CPU where it computes with values, which the meta device has not."""
    try:
        return build()
    except NotImplementedError:
        with torch.device("cpu"):
            return build()


def timm_network(model: str) -> nn.Module:
    """A freshly initialised network of timm without classifier, for images of as many sizes as it can take.

    Raises:
        UserError: it cannot be made with three channels.
    """
    import timm

    fault: Exception | None = None
    for options in ANY_SIZE:
        try:
            return made(partial(timm.create_model, model, num_classes=0, **options))
        except (TypeError, AssertionError, RuntimeError) as error:  # it has no such argument
            fault = error
    what = f"timm/{model} cannot be made ({str(fault).splitlines()[0]})"
    raise UserError(what, where="--backbone", hint="take another model") from fault


@contextmanager
def aside() -> Iterator[None]:
    """Networks made in here have no values, and leave random numbers as they were; whatever mode torch is in."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.device("meta"):
        yield


def timm_backbone(model: str) -> Dissected:
    """A network of timm, taken apart; images are normalised by its own mean and standard deviation."""
    anatomy = timm_anatomy(model)
    network = timm_network(model)
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    normalise = Normalise(config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD))
    return assembled(network, anatomy, normalise, timm_features)


@lru_cache(maxsize=64)
def timm_anatomy(model: str) -> Anatomy:
    """The blocks of a network of timm, found on the meta device.

    Raises:
        UserError: it cannot be taken apart; names the part.
    """
    with aside():
        return timm_blocks(timm_network(model).to("meta").eval(), f"timm/{model}")


def timm_blocks(network: nn.Module, name: str) -> Anatomy:
    """The blocks of a network of timm.

    Raises:
        UserError: it cannot be taken apart; names the part.
    """
    if hasattr(network, "reroll"):
        what = f"{name} cannot be taken apart: `unroll` takes its tokens out of the order of the image"
        raise UserError(what, where="--backbone", hint="take another model")
    channels, side, _ = network.pretrained_cfg.get("input_size", (3, SIDE, SIDE))  # type: ignore[union-attr,operator]
    if channels != 3:
        what = f"{name} takes images of {channels} channels"
        raise UserError(what, where="--backbone", hint="take one for colour pictures")
    prefix = getattr(network, "num_prefix_tokens", 0)
    return studied(network, lambda images: timm_features(network, images), side, name, prefix=prefix)


def torchvision_network(model: str, width: float = 1.0) -> nn.Module:
    """A freshly initialised classifier of torchvision with channel counts times width."""
    import torchvision

    builder = torchvision.models.get_model_builder(model)
    options: dict[str, Any] = {} if width == 1 else {"width_mult": width}
    if model in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    return made(partial(builder, weights=None, **options))


def scales(model: str) -> bool:
    """Whether a network of torchvision comes in several widths."""
    return model in ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def torchvision_backbone(model: str, width: float = 1.0) -> Dissected:
    """A network of torchvision up to its pool, taken apart; images are normalised as for its newest weights."""
    anatomy, network = torchvision_anatomy(model, width), torchvision_network(model, width)
    return assembled(network, anatomy, torchvision_normalise(model), lambda network, images: network(images))


def torchvision_normalise(model: str) -> Normalise:
    """As torchvision's newest weights of a model want it.

    Its GoogLeNet and Inception V3 come from TensorFlow: with weights they turn ImageNet's mean and deviation into 0.5
    (`transform_input`).
    """
    from torchvision.models import get_model_weights

    if model in ("googlenet", "inception_v3"):
        return Normalise(HALF, HALF)
    weights: Any = get_model_weights(model)
    if not len(weights):
        return Normalise()
    wanted = weights.DEFAULT.transforms()
    return Normalise(wanted.mean, wanted.std)


@lru_cache(maxsize=64)
def torchvision_anatomy(model: str, width: float) -> Anatomy:
    """The blocks of a network of torchvision, found on the meta device.

    Raises:
        UserError: it cannot be taken apart; names the part.
    """
    with aside():
        network = torchvision_network(model, width).to("meta").eval()
        side = 299 if model == "inception_v3" else SIDE
        return studied(network, network, side, f"torchvision/{model}", head=HEAD)
