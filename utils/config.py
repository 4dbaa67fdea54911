"""The recipe of a training run: what is trained on what, and how. Unknown keys are errors."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_RECIPE = ROOT / "configs" / "sample.yaml"
PRESETS = {path.stem: path for path in sorted((ROOT / "configs" / "presets").glob("*.yaml"))}

INIT = "init"  # method of a backbone whose weights are from elsewhere, with classifiers trained here
SOURCES = ("timm", "torchvision")  # whose own weights a run may begin with

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Baseline = Literal["e2e", "e2e_compute", "finetuned", "probed"]


def words(text: str) -> list[str]:
    """What commas are between, without the blanks around it; none of an empty text."""
    return [word.strip() for word in text.split(",")] if text else []


Listed = BeforeValidator(lambda value: words(value) if isinstance(value, str) else value)
Baselines = Annotated[tuple[Baseline, ...], Listed]


def as_rates(value: object) -> object:
    """A flag's `b1=0,backbone=0.1` as a mapping."""
    if not isinstance(value, str):
        return value
    return dict(pair.strip().partition("=")[::2] for pair in value.split(",") if pair.strip())


Rates = Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(as_rates)]


class Section(BaseModel):
    """Part of a recipe; frozen, strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def nothing_is_none(cls, value: object, info: ValidationInfo) -> object:
        """A flag without a text, as `--init ''`, takes back what a recipe gives where that may be nothing."""
        optional = info.field_name and cls.model_fields[info.field_name].default is None
        return None if value == "" and optional else value


class Phase(Section):
    """How a network is trained: the same keys for a cascade stage and for the detector."""

    epochs: int = Field(100, ge=1, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images per step")
    optimizer: Literal["sgd", "nesterov", "adamw"] = Field("adamw", description="SGD, with Nesterov's step, or AdamW")
    lr: Positive = Field(1e-3, description="highest learning rate")
    schedule: Literal["cosine", "linear", "steps", "plateau"] = Field(
        "cosine",
        description="how the rate falls; steps: a tenth at 0.8 and 0.9 of the way, plateau: when validation stalls",
    )
    nominal_batch: int | None = Field(
        None, ge=1, description="images behind an update: gradients of several steps are added up to it [--batch-size]"
    )
    lr_final: Share = Field(0.01, description="last learning rate of cosine and linear as a fraction of lr")
    warmup: Share = Field(0.05, description="fraction of all steps in which the rate rises from 0")
    momentum: Share = Field(0.9, description="momentum, or AdamW's beta1")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on the weights")
    decay_all: bool = Field(False, description="weight decay on biases and BatchNorm too")
    clip: Positive = Field(10.0, description="largest gradient norm; inf for none")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the weight average at each update; 0 for none")
    ema_every: int = Field(
        10, ge=1, description="updates that the average takes in at a time; one at first, and the rest to validate"
    )
    val_every: int = Field(1, ge=1, description="epochs between validations; the last epoch always has one")
    freeze_epochs: Share = Field(
        0.0, description="fraction of the epochs in which blocks with weights from elsewhere are fixed; then they learn"
    )
    rates: Rates = Field(
        {},
        description="factors on the learning rate by layer, as in backbone=0.1,b1=0: blocks, or other parts",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without a better one; plateau: epochs before a verdict"
    )

    @property
    def batches(self) -> int:
        """How many go into an update: those whose images come closest to nominal_batch."""
        return max(1, round((self.nominal_batch or 0) / self.batch_size))

    @model_validator(mode="after")
    def _plateau_has_patience(self) -> Self:
        if self.schedule == "plateau" and (self.patience is None or self.val_every != 1):
            raise ValueError("a plateau is judged on every epoch: give patience, and val_every 1")
        return self


class Pretrain(Phase):
    """A cascade stage, or the network end to end; each starts afresh with these."""

    data: Path | None = Field(None, description="data yaml that the backbone learns on [--data]")
    source: Literal["auto", "objects", "pictures"] = Field(
        "auto", description="what is a picture: an object, cut out, or all; auto: objects where boxes state the classes"
    )
    context: float = Field(0.5, ge=0, le=10, description="surroundings of an object, as a fraction of its longer side")
    jitter: Share = Field(0.2, description="an object's window moves and grows by up to this fraction")
    epochs: int | None = Field(None, ge=1, description="passes of the first stage [as many as --epochs]")  # type: ignore[assignment]
    epochs_step: int = Field(0, ge=0, description="passes that every further stage gets on top")
    val_every: int = Field(5, ge=1, description="epochs between validations; the last epoch always has one")
    imgsz: int | None = Field(
        None, ge=32, multiple_of=32, description="side of what it learns from, pixels [--imgsz; of objects, half of it]"
    )
    crop: Share = Field(
        0.08, description="pictures: smallest fraction of one that a random crop keeps; 1 for whole ones"
    )
    crop_labels: bool = Field(True, description="labels from boxes follow the crop")
    view: Literal["letterbox", "center"] = Field(
        "letterbox", description="pictures are validated on whole, or on their middle scaled by 256/224"
    )
    head: str = Field("author", description="classifier of a stage")
    head_convs: int = Field(1, ge=0, le=1, description="convolutions in the author head")
    bn_mode: Literal["frozen", "author"] = Field(
        "frozen", description="BatchNorm before the sub-module: fixed, or drifting as in the authors' code"
    )
    holdout: Share | None = Field(
        None,
        lt=1,
        description="fraction of the training images to validate on [0.1 with patience or no val split, else 0]",
    )
    auxiliary: float = Field(
        0.0, ge=0, description="weight of the losses of GoogLeNet's two auxiliary classifiers, its paper's 0.3; 0: none"
    )
    stop_accuracy: Share | None = Field(None, description="stop a stage that is this accurate on its training images")


class Loss(Section):
    """Weights and thresholds of the YOLOv3 criterion."""

    regression: Literal["darknet", "ciou"] = Field("darknet", description="box term: darknet's, or complete IoU")
    box: float = Field(1.0, ge=0, description="weight of the box term")
    objectness: float = Field(1.0, ge=0, description="weight of the objectness term")
    classes: float = Field(1.0, ge=0, description="weight of the class term")
    balance_classes: bool = Field(False, description="the class term of rare classes counts more: by 1 / their boxes")
    ignore_thresh: Share = Field(
        0.5, description="IoU with a true box above which a prediction adds no objectness loss"
    )
    anchor_iou: Share = Field(1.0, description="shape IoU above which further anchors are positives; 1 for none")


class Augment(Section):
    """Random changes to training images; probabilities."""

    fliplr: Share = Field(0.5, description="mirror left and right")
    crop: Share = Field(0.5, description="crop that keeps a minimal overlap with the boxes (SSD)")
    photometric: Share = Field(0.5, description="brightness, contrast, saturation, hue")
    zoom_out: Share = Field(
        0.0, description="image on a grey canvas up to three times as wide (SSD); detector and segmenter"
    )
    mosaic: Share = Field(0.0, description="four images in one (YOLOv4); detector only")
    mixup: Share = Field(0.0, description="two images on top of each other; detector only")
    pca: float = Field(
        0.0,
        ge=0,
        le=10,
        description="a colour along the axes on which those of ImageNet vary, standard deviation; AlexNet's 0.1",
    )
    noise: Share = Field(0.0, description="Gaussian noise on every value, standard deviation; 1 is from black to white")
    erasing: Share = Field(0.0, description="a black rectangle over up to a third of the image (arXiv 1708.04896)")
    closing: Share = Field(0.1, description="last fraction of the detector's epochs without mosaic and mixup")


AUGMENTS = ("fliplr", "photometric", "pca", "noise", "erasing")  # of these, what pre-training draws too


class Recipe(Section):
    """Everything that decides the outcome of a training run."""

    data: Path = Field(ROOT / "data" / "sample.yaml", description="data yaml")
    imports: tuple[Path, ...] = Field((), description="python files that add to what there is (docs/extending.md)")
    backbone: str = Field("darknet53", description="network to split, pre-train and detect with")
    width: Annotated[float, Field(gt=0, le=4)] = Field(1.0, description="factor on all channel counts")
    detector: str = Field("yolov3", description="what finds boxes on the backbone")
    task: Literal["detect", "segment"] = Field(
        "detect", description="what is trained on the backbone: a detector, or a class for every pixel"
    )
    fcn: str = Field("fcn8s", description="how --task segment makes a class of every pixel from the backbone's taps")
    cl_splits: int = Field(3, description="sub-modules of cascade pre-training; 1 end to end, 0 none")
    balance: Literal["stage", "flops", "memory"] = Field(
        "stage", description="where to cut: at the resolutions, or into equal work or training memory"
    )
    baselines: Baselines = Field(
        (), description="also train, comma-separated: e2e, e2e_compute (equal epochs, equal work), finetuned, probed"
    )
    baseline_heads: Literal["all", "last"] = Field(
        "all", description="classifiers on a baseline: at every cut of the cascade, or at its end alone"
    )
    pretrain_only: bool = Field(False, description="stop before the detector")
    cache: Literal["auto", "off", "ram", "disk"] = Field(
        "auto", description="keep what the frozen blocks put out instead of computing it in every epoch"
    )
    cache_images: Literal["off", "ram", "disk"] = Field("off", description="decode images once and keep their pixels")
    cache_views: int = Field(
        0, ge=0, description="frozen random views of each image from stage 2 on; 0: a new one in every epoch, uncached"
    )
    recompute: bool = Field(False, description="save memory: the first sub-module's activations are computed twice")
    weights: Path | None = Field(
        None,
        description="backbone to reuse instead of pre-training; darknet's (.conv.74) and torchvision's (.pth) too",
    )
    init: Literal["timm", "torchvision"] | Path | None = Field(
        None,
        description="weights to begin with: timm's or torchvision's own for this backbone, or a file of theirs, of "
        "darknet or of a run [random]",
    )
    init_freeze: bool = Field(False, description="these weights stay: only classifiers learn, at the cuts")
    reuse_upto: Annotated[str, Field(pattern=r"^b[1-9][0-9]*$")] | None = Field(
        None, description="last block that keeps its pre-trained weights, as in b11 [the last one]"
    )
    freeze: bool = Field(False, description="keep the reused blocks fixed while the detector trains")
    imgsz: int = Field(416, ge=32, multiple_of=32, description="side of the square network input, pixels")
    multi_scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="the size of the detector's batches varies by up to this fraction of imgsz, at random"
    )
    anchors: Annotated[list[tuple[Positive, Positive]], Field(min_length=9, max_length=9)] | Literal["auto"] | None = (
        Field(
            None,
            description="nine [width, height] in input pixels, in any order, or auto: from the data [COCO's, scaled]",
        )
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 where it is faster")
    compile: bool = Field(
        False, description="torch.compile the detector; it takes minutes and may pay in runs of many thousand steps"
    )
    device: str = Field("auto", description="auto takes a GPU where there is one; cpu, cuda, mps")
    devices: int = Field(1, ge=1, description="processes on each machine, one for each GPU; torchrun's number wins")
    num_nodes: int = Field(1, ge=1, description="machines; torchrun's number wins")
    workers: int = Field(1, ge=0, description="processes that read images, for each device")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    logger: Annotated[tuple[str, ...], Listed] = Field(
        ("tensorboard",), description="where figures go besides the CSV files, comma-separated"
    )
    strict: bool = Field(False, description="damaged images or labels stop the run instead of being left out")
    pretrain: Pretrain = Pretrain()
    train: Phase = Phase()
    loss: Loss = Loss()
    augment: Augment = Augment()

    @field_validator("anchors")
    @classmethod
    def _small_to_large(cls, value: Any) -> Any:
        """The first three anchors are those of the finest map, the last three of the coarsest."""
        return sorted(value, key=lambda own: own[0] * own[1]) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.baselines and (self.cl_splits < 1 or self.weights):
            raise ValueError("baselines are compared with a cascade of the same run: give cl_splits, and no weights")
        if self.baseline_heads == "last" and "probed" in self.baselines:
            raise ValueError("probed asks for classifiers at every cut: leave baseline_heads out")
        if self.pretrain.bn_mode == "author" and (self.cache_views or self.cache in ("ram", "disk")):
            raise ValueError("with drifting BatchNorm nothing can be cached: leave cache and cache_views out")
        if self.init and self.weights:
            raise ValueError("init is where training begins, weights take its place: give one of them")
        if self.init_freeze and (not self.init or self.cl_splits < 1 or self.baselines):
            raise ValueError("init_freeze puts classifiers on fixed weights: give init and cl_splits, and no baselines")
        if self.freeze and not (self.weights or self.init) and self.cl_splits == 0:
            raise ValueError("freeze would fix random weights; give weights, init or cl_splits")
        if self.train.freeze_epochs and (self.freeze or not (self.weights or self.init or self.cl_splits)):
            raise ValueError("freeze_epochs is for weights from elsewhere: give weights, init or cl_splits, no freeze")
        if self.pretrain.freeze_epochs and (not self.init or self.init_freeze):
            raise ValueError("pretrain.freeze_epochs is for weights that init gives, without init_freeze")
        return self

    @property
    def stage(self) -> Pretrain:
        """The pre-training section with what it leaves open taken from the detector's: epochs and size."""
        half = max(32, self.imgsz // 2 // 32 * 32)  # an object cut out needs fewer pixels than the picture around it
        imgsz = self.pretrain.imgsz or (half if self.pretrain.source == "objects" else self.imgsz)
        return self.pretrain.model_copy(update={"epochs": self.pretrain.epochs or self.train.epochs, "imgsz": imgsz})

    @property
    def longest(self) -> int:
        """Epochs of the last stage, which has most."""
        return (self.stage.epochs or 0) + self.pretrain.epochs_step * (self.cl_splits - 1)

    @property
    def sides(self) -> range:
        """Sides of the detector's batches in pixels: multiples of 32 within multi_scale of imgsz."""
        share = self.multi_scale
        smallest = max(32, math.ceil(self.imgsz * (1 - share) / 32) * 32)
        return range(smallest, math.floor(self.imgsz * (1 + share)) + 1, 32)

    @property
    def pretrains(self) -> bool:
        """Whether the run trains a backbone, instead of taking one or starting from random weights."""
        return self.weights is None and self.cl_splits != 0

    @property
    def backbones(self) -> list[str]:
        """What pre-training leaves, each in weights/backbone_<name>.pt."""
        cascade = f"cl{self.cl_splits}"
        if not self.pretrains:
            return []
        if self.init_freeze:
            return [INIT]
        others = [f"{cascade}_{name}" if name == "finetuned" else name for name in self.baselines if name != "probed"]
        probed = [f"{name}_probed" for name in (cascade, *others)] if "probed" in self.baselines else []
        return [cascade, *others, *probed]

    @property
    def augments(self) -> bool:
        """Whether pre-training draws its images at random."""
        moves = self.pretrain.jitter > 0 if self.pretrain.source == "objects" else self.pretrain.crop < 1
        return moves or any(getattr(self.augment, key) > 0 for key in AUGMENTS)

    @property
    def views(self) -> int:
        """Frozen views of each image from the second stage on; 0 for a new one in every epoch."""
        return (self.cache_views or 0) if self.augments else 1

    @property
    def caching(self) -> bool:
        """Whether anything could read cached features: a second sub-module, or heads that see each image one way."""
        stages = self.cl_splits > 1 and not self.init_freeze
        heads = not self.augments and (bool(self.baselines) or self.init_freeze)
        return self.pretrains and (stages or heads)

    @property
    def caches(self) -> bool:
        """Whether stages read cached features, as far as there is room for them."""
        return self.cache != "off" and self.views > 0 and self.pretrain.bn_mode == "frozen"
