"""The recipe of a training run: what is trained on what, and how. Unknown keys are errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from utils.errors import UserError
from utils.files import write_text

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_RECIPE = ROOT / "configs" / "sample.yaml"
PATHS = ("data", "weights")
M = TypeVar("M", bound=BaseModel)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Size = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Part of a recipe; frozen, strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Phase(Section):
    """How a network is trained: the same keys for a cascade stage and for the detector."""

    epochs: int = Field(100, ge=1, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum, or AdamW")
    lr: Positive = Field(1e-3, description="highest learning rate")
    lr_final: Share = Field(0.01, description="last learning rate as a share of lr")
    warmup: Share = Field(0.05, description="share of all steps in which the rate rises from 0")
    momentum: Share = Field(0.9, description="momentum, or AdamW's beta1")
    weight_decay: float = Field(5e-4, ge=0, description="not applied to biases and BatchNorm")
    clip: Positive = Field(10.0, description="largest gradient norm")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the weight average; 0 for none")
    val_every: int = Field(1, ge=1, description="epochs between validations; the last epoch always has one")


class Pretrain(Phase):
    """A cascade stage; every stage starts afresh with these."""

    epochs: int | None = Field(None, ge=1, description="passes per stage [as many as --epochs]")  # type: ignore[assignment]
    val_every: int = Field(5, ge=1, description="epochs between validations; the last epoch always has one")
    imgsz: int | None = Field(None, ge=64, multiple_of=32, description="side of the crops it learns from [--imgsz]")
    crop: Share = Field(0.08, description="least share of the image in a random crop; 1 for whole images")


class Loss(Section):
    """Weights and thresholds of the YOLOv3 criterion."""

    box: float = Field(1.0, ge=0, description="weight of the box term")
    objectness: float = Field(1.0, ge=0, description="weight of the objectness term")
    classes: float = Field(1.0, ge=0, description="weight of the class term")
    ignore_thresh: Share = Field(0.5, description="IoU with a true box above which a prediction is not blamed")
    anchor_iou: Share = Field(1.0, description="shape IoU above which further anchors are positives; 1 for none")


class Augment(Section):
    """Random changes to training images; probabilities."""

    fliplr: Share = Field(0.5, description="mirror left and right")
    crop: Share = Field(0.5, description="crop that keeps a minimal overlap with the boxes (SSD)")
    photometric: Share = Field(0.5, description="brightness, contrast, saturation, hue")


class Recipe(Section):
    """Everything that decides the outcome of a training run."""

    data: Path = Field(ROOT / "data" / "sample.yaml", description="data yaml")
    backbone: Literal["darknet53"] = Field("darknet53", description="network to split, pre-train and detect with")
    width: Annotated[float, Field(gt=0, le=4)] = Field(1.0, description="factor on all channel counts")
    cl_splits: int = Field(3, description="sub-modules of cascade pre-training; 1 end to end, 0 none")
    weights: Path | None = Field(None, description="backbone checkpoint to reuse instead of pre-training")
    reuse_upto: Literal["b11", "b19", "b23"] = Field("b23", description="last block that keeps its pre-trained weights")
    freeze: bool = Field(False, description="keep the reused blocks fixed while the detector trains")
    imgsz: int = Field(416, ge=64, multiple_of=32, description="side of the square network input, pixels")
    anchors: list[tuple[Size, Size]] | None = Field(
        None, min_length=9, max_length=9, description="nine [width, height] in input pixels [COCO's, scaled to imgsz]"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 where it is faster")
    device: str = Field("auto", description="auto, cpu, cuda, mps")
    workers: int = Field(1, ge=0, description="processes that read images")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    strict: bool = Field(False, description="damaged images or labels stop the run instead of being left out")
    pretrain: Pretrain = Pretrain()
    train: Phase = Phase()
    loss: Loss = Loss()
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _reuse_or_pretrain(self) -> "Recipe":
        if self.freeze and self.weights is None and self.cl_splits == 0:
            raise ValueError("freeze without pre-trained weights would fix random ones; give weights or cl_splits")
        return self

    @property
    def stage(self) -> Pretrain:
        """The pre-training section with what it leaves open taken from the detector's: epochs and size."""
        epochs, imgsz = self.pretrain.epochs or self.train.epochs, self.pretrain.imgsz or self.imgsz
        return self.pretrain.model_copy(update={"epochs": epochs, "imgsz": imgsz})

    @property
    def reuse_blocks(self) -> int:
        """reuse_upto as a number of blocks."""
        return int(self.reuse_upto.removeprefix("b"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict; numbers such as 1e-4 are numbers to pydantic.

    Raises:
        UserError: missing, not yaml, not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, mend="check the path; `ls data/*.yaml configs/*.yaml`") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise UserError("is not valid yaml", where=where, mend="mend the syntax there") from error
    if not isinstance(content, dict):
        raise UserError("holds no key: value pairs", where=path, mend="see data/sample.yaml or configs/sample.yaml")
    return content


def build(model: type[M], values: dict[str, Any], where: str | Path, spelt: Mapping[str, str] | None = None) -> M:
    """Validate values that come from a file, or, for the keys in `spelt`, from the flags named there.

    Raises:
        UserError: the first fault, in one line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"]) or "values"
        where = (spelt or {}).get(key, where)
        if fault["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise UserError(f"unknown key `{key}`", where=where, mend=f"known keys: {known}") from None
        if fault["type"] == "missing":
            raise UserError(f"key `{key}` is missing", where=where, mend=f"add `{key}:`") from None
        message = fault["msg"].removeprefix("Value error, ")
        raise UserError(f"`{key}` is {fault['input']!r}", where=where, mend=message) from None


def load_recipe(path: Path | None, given: Mapping[str, str], spelt: Mapping[str, str] | None = None) -> Recipe:
    """Recipe file, if any, with given values laid over it; relative paths in the file start at the file.

    Args:
        given: `key` or `section.key` to value.
        spelt: the same keys to the flags that they were given with, for error messages.
    """
    values = read_yaml(path) if path else {}
    anchor_paths(values, path.parent if path else Path())
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            what, mend = f"`{section}` is not a section", f"write `{section}:` and its keys"
            raise UserError(what, where=path or "recipe", mend=mend)
        target[key] = yaml.safe_load(value) if key == "anchors" else value
    anchor_paths(values, Path())
    return build(
        Recipe, values, path or "recipe", {name: flag for name, flag in (spelt or {}).items() if name in given}
    )


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the recipe's relative paths absolute, in place: a run must be found again from any folder."""
    for key in PATHS:
        if isinstance(values.get(key), str):
            values[key] = (folder / values[key]).resolve()


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the merged recipe, ready for load_recipe."""
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
