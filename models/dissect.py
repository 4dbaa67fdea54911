"""Taking a network apart by watching it: which of its modules hand their output, as it is, to the next one.

A network is a chain where each module's output is the very object that the next one is given, unchanged in between.
Containers and stages that are such chains fall into their parts; a residual block, whose input also goes around it,
does not. What is done between the modules of a network, such as adding positions to tokens, ends a chain; in front of
it, the network itself with the chain taken out does that part.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = (nn.Sequential, nn.ModuleList)
MATRICES = (nn.Conv2d, nn.Linear)


@dataclass
class Call:
    """One run of a module.

    Attributes:
        path: the module's name in the network, '' for the network itself.
        given, versions: what it was given, and how often that had been changed in place before and at its end.
        beside: names of what else it was given that is not its default.
        output: what it put out, and how often that had been changed.
        calls: those that it made, in their order.
    """

    module: nn.Module
    path: str
    given: Any
    version: int
    beside: list[str]
    output: Any = None
    output_version: int = 0
    calls: list["Call"] = field(default_factory=list)

    @property
    def matrices(self) -> int:
        """Convolutions and linear layers in the module."""
        return sum(isinstance(part, MATRICES) for part in self.module.modules())


def version(value: Any) -> int:
    """How often a tensor was changed in place; of all tensors of a list together."""
    if isinstance(value, Tensor):
        return value._version
    return sum(map(version, value)) if isinstance(value, list | tuple) else 0


def extra(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Names of the arguments behind the first that a call gave other values than their defaults."""
    try:
        signature = inspect.signature(module.forward)
        given = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return ["arguments that cannot be named"]
    names = list(given)[1:]
    defaults = {name: own.default for name, own in signature.parameters.items()}
    return [name for name in names if given[name] is not defaults[name] and not unfilled(given[name])]


def unfilled(value: Any) -> bool:
    """Whether it is what `*args` or `**kwargs` leave where there are none."""
    return isinstance(value, tuple | dict) and not value


def watched(network: nn.Module, run: Callable[[], Any], images: Tensor) -> Call:
    """Run a network, and note which modules ran, what they were given and what they put out."""
    paths = {id(module): name for name, module in network.named_modules()}
    root = Call(network, "", images, version(images), [])
    stack, hooks = [root], []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        call = Call(module, paths[id(module)], given, version(given), extra(module, args, kwargs))
        stack[-1].calls.append(call)
        stack.append(call)

    def end(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        call = stack.pop()
        call.output, call.output_version = output, version(output)

    for module in network.modules():
        if module is not network:
            hooks += [module.register_forward_pre_hook(begin, with_kwargs=True), module.register_forward_hook(end)]
    try:
        with torch.no_grad():
            root.output = run()
    finally:
        for hook in hooks:
            hook.remove()
    root.output_version = version(root.output)
    return root


def linked(one: Call, two: Call) -> bool:
    """Whether the second is given what the first put out, untouched, and nothing else."""
    return two.given is one.output and two.version == one.output_version and not two.beside


def is_chain(call: Call) -> bool:
    """Whether a module did nothing but run its parts one after another."""
    if not call.calls:
        return False
    first, last = call.calls[0], call.calls[-1]
    begun = first.given is call.given and first.version == call.version and not first.beside
    ended = last.output is call.output and last.output_version == call.output_version
    return begun and ended and all(linked(*pair) for pair in pairwise(call.calls))


def every(call: Call) -> Iterator[Call]:
    """A call and all that it made, at any depth."""
    yield call
    for own in call.calls:
        yield from every(own)


class Opener:
    """Decides which modules of a network fall into their parts.

    A container does, and a stage: a chain that holds a container or several modules of one class. Not one of a class
    whose others are no chains: an inverted residual without its shortcut is a block like those that have it. Nor what
    has one convolution or linear layer.
    """

    def __init__(self, root: Call) -> None:
        found = list(every(root))
        self.blocks = {type(own.module) for own in found if own.calls and not is_chain(own)} - set(CONTAINERS)

    def parts(self, call: Call) -> list[Call]:
        """What a call falls into; itself where it is one."""
        if not self.opens(call):
            return [call]
        return [part for own in call.calls for part in self.parts(own)]

    def opens(self, call: Call) -> bool:
        """Whether it falls into its parts."""
        if type(call.module) in self.blocks or call.matrices < 2 or not is_chain(call):
            return False
        if type(call.module) in CONTAINERS or len(call.calls) == 1:
            return True
        kinds = [type(own.module) for own in call.calls if own.calls and own.matrices > 1]
        held = [type(child) for child in call.module.children()]
        return len(kinds) > len(set(kinds)) or any(kind in CONTAINERS and kind in kinds for kind in held)


def chain_of(root: Call) -> tuple[list[Call], str]:
    """The last calls of a network that are linked up to its output, and why no earlier one is.

    All of them where the first is given the images; the reason is then empty.
    """
    calls = root.calls
    if not calls or calls[-1].output is not root.output or calls[-1].output_version != root.output_version:
        return [], f"what `{calls[-1].path if calls else '?'}` puts out is worked on once more"
    start = len(calls) - 1
    while start and linked(calls[start - 1], calls[start]):
        start -= 1
    first = calls[start]
    if start == 0 and first.given is root.given and first.version == root.version and not first.beside:
        return calls, ""
    return calls[start:] if not first.beside else calls[start + 1 :], why(calls, start)


def why(calls: list[Call], start: int) -> str:
    """What keeps a call from being linked to the one before it."""
    first = calls[start]
    if first.beside:
        return f"`{first.path}` is given {', '.join(first.beside)} beside features"
    before = f"behind `{calls[start - 1].path}`" if start else "with the images"
    return f"something is done {before} before `{first.path}`"


class Pass(nn.Module):
    """Its input, whatever else it is given."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return x


def without(module: nn.Module, paths: list[str]) -> nn.Module:
    """A copy of a module that shares all its parts but those of the paths, which pass on what they are given."""
    found = copy.copy(module)
    found._modules = dict(module._modules)
    for name in {path.partition(".")[0] for path in paths}:
        inner = [path.partition(".")[2] for path in paths if path.partition(".")[0] == name]
        child = module._modules[name]
        assert child is not None
        found._modules[name] = Pass() if "" in inner else without(child, inner)
    return found
