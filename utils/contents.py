"""What a checkpoint may hold: its keys are validated like a recipe before anything is made of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from utils.errors import UserError
from utils.plain_yaml import in_short

ANOTHER = "use a file that this project wrote, copied whole"
DEEPEST = 8  # dicts and lists in each other that hold tensors
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="allow")


class Origin(BaseModel):
    """What is asked of the recipe in a checkpoint."""

    model_config = STRICT
    data: str
    seed: int = 0


class Within(BaseModel):
    """What is asked of a position: training.loop.Position."""

    model_config = ConfigDict(strict=True, extra="forbid")
    epoch: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=0)] = 0
    unaveraged: Annotated[int, Field(ge=0)] = 0
    lost: Annotated[int, Field(ge=0)] = 0
    totals: dict[str, float] = {}
    history: list[float] = []
    metrics: dict[str, float] = {}
    over: bool = False


class Position(BaseModel):
    """Of a training."""

    model_config = STRICT
    task: str
    within: Within


class HeadKind(BaseModel):
    """Of a backbone's classifiers."""

    model_config = STRICT
    name: str
    convs: Annotated[int, Field(ge=0)]


class Lesson(BaseModel):
    """Of what a detector or a segmenter was put on: evaluation/learnt.py."""

    model_config = STRICT
    judged_by: Literal["accuracy", "auc"]


Text = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, lt=1e6)]
Pair = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Side = Annotated[int, Field(ge=32, le=2**16, multiple_of=32)]
Figures = dict[str, float | None]
Weights = dict[str, Tensor]
COMMON: dict[str, Any] = {
    "backbone": Text,
    "width": Annotated[float, Field(gt=0, le=4)],
    "in_channels": Literal[1, 3],
    "names": Annotated[list[str], Field(min_length=1)],
    "recipe": Origin,
    "model": Weights,
    "commit": str,
    "trained_on": Tensor,
    "lesson": Lesson,
    "data_identity": dict[str, dict[str, str]],
}
DETECTOR: dict[str, Any] = {
    "anchors": Annotated[list[Pair], Field(min_length=9, max_length=9)],
    "detector": Text,
    "decode": str,
    "imgsz": Side,
}
BACKBONE: dict[str, Any] = {
    "method": Text,
    "splits": Annotated[list[Annotated[list[Count], Field(min_length=2, max_length=2)]], Field(min_length=1)],
    "heads": list[Weights],
    "head": HeadKind,
    "shapes": list[Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=3, max_length=3)]],
    "single_label": bool,
    "view": dict[str, Any],
    "detector_imgsz": Side,
    "metrics": list[Figures],
}
TRAINING: dict[str, Any] = {
    "position": Position,
    "average": Weights | None,
    "optimizer": dict[str, Any],
    "fcn": Text,
    "seconds": Annotated[float, Field(ge=0)],
}
KINDS: dict[str, dict[str, Any]] = {
    "detector": COMMON | DETECTOR | {"metrics": Figures},
    "segmenter": COMMON | {"imgsz": Side, "fcn": Text, "metrics": Figures},
    "backbone": COMMON | BACKBONE,
    "stage": COMMON | {"metrics": Figures},
    "training": COMMON | DETECTOR | TRAINING,
}


class Content(dict[str, Any]):
    """What a checkpoint holds; a key that is not there is the user's to correct."""

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        hint = "train again, or use a file that this project wrote"
        raise UserError(f"has no `{key}`: an older version wrote it", where=self.path, hint=hint)


def checked(content: Mapping[str, Any], kind: str, path: Path) -> Content:
    """The content of a checkpoint of a kind, if what is there of its keys is fit to use.

    Raises:
        UserError: a value is of another type or out of its range, or a weight is not finite; says which.
    """
    for key, wanted in KINDS.get(kind, {}).items():
        if key in content:
            check_field(key, content[key], wanted, path)
    for name, tensor in tensors_in(content):
        check_tensor(name, tensor, path)
    counts = {key: len(content[key]) for key in ("splits", "heads", "shapes", "metrics") if key in content}
    if kind == "backbone" and len(set(counts.values())) > 1:
        held = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise UserError(f"holds {held}", where=path, hint=ANOTHER)
    return Content(content, path)


def check_field(key: str, value: object, wanted: Any, path: Path) -> None:
    """Refuse a value that is not what its key asks for.

    Raises:
        UserError: it is not.
    """
    config = None if isinstance(wanted, type) and issubclass(wanted, BaseModel) else STRICT
    try:
        TypeAdapter(wanted, config=config).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join([key, *map(str, fault["loc"])])[:200]
        what = f"`{place}` is {in_short(fault['input'])} ({fault['msg']})"
        raise UserError(what, where=path, hint=ANOTHER) from None


def check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse numbers that no training leaves, and a tensor that is larger than what is stored of it.

    Raises:
        UserError: it is no plain tensor, or holds numbers that are not finite.
    """
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"`{name}` is no plain tensor", where=path, hint=ANOTHER)
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        hint = "use an earlier checkpoint, or train again with a lower --lr"
        raise UserError(f"`{name}` holds numbers that are not finite", where=path, hint=hint)


def tensors_in(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Each tensor in dicts and lists, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple) and depth < DEEPEST:
        for key, own in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors_in(own, f"{name}.{key}".lstrip("."), depth + 1)
