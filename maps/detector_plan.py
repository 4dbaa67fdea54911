"""What is explained of which detectors: their files, the images and boxes, and what cannot be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.formats import read_training
from data.parsing import class_index
from data.records import Record, Split
from data.views import View
from evaluation.accuracy import line_names
from evaluation.learnt import nothing_learnt
from maps.cases import Cases, batches, boxed
from maps.cells import Cells, coarse_cuts, short_sides
from maps.defaults import MASKS
from maps.defaults import Answers as Explained
from maps.detector_cases import BoxCases, Choose, best_assigned, detected, detector_cases
from maps.detector_kinds import DETECTOR_MAPS
from maps.measures import Rule
from maps.plan import Plan
from maps.prepare import NO_MEAN_BOX, TRAINING_IMAGES, aimed_at, sample
from maps.seen import explained_images, seen_by
from models.darknet_weights import is_darknet
from models.decode import Thresholds
from models.trained import TrainedDetector, load_trained
from utils import checkpoint
from utils.config import INIT
from utils.errors import UserError

SURE = Thresholds(0.25, 0.45, multi_label=False)  # of detections that somebody looks at
LITTLE = 0.01  # mAP50 on its own validation images below which a detector has learnt nothing to speak of


@dataclass(frozen=True)
class DetectorFile:
    """A trained detector, and what its file says of its training.

    Attributes:
        method: the pre-training: `cl3`, `e2e`, `init from timm` …; the name of the file where it does not say.
        map50: on the validation images of its training, if the file records it.
    """

    path: Path
    method: str
    seed: int
    map50: float | None
    detector: TrainedDetector

    @classmethod
    def read(cls, path: Path) -> "DetectorFile":
        """A checkpoint of this project, or a weight file of darknet.

        Raises:
            UserError: it is neither.
        """
        detector = load_trained(path)
        content = {"metrics": {}} if is_darknet(path) else checkpoint.load(path, "detector")
        recipe, map50 = detector.recipe, content["metrics"].get("map50")
        method = method_of(recipe) or path.stem
        return cls(path, method, recipe.get("seed", 0), map50, detector)

    @property
    def learnt(self) -> frozenset[int] | None:
        """Numbers of the pictures that it has learnt from (data/seen.py); None where the file does not say."""
        return self.detector.learnt

    @property
    def data(self) -> Path | None:
        """The data yaml that it was trained on, if the file records it."""
        return self.detector.data

    @property
    def trained(self) -> dict[str, Any]:
        """What of the recipe holds images out of its training: nothing."""
        return {}

    @property
    def settings(self) -> tuple[str, ...]:
        """What may differ between files besides method and seed, in the words of a legend."""
        recipe = self.detector.recipe
        return (recipe.get("backbone", "darknet53"), f"width {recipe.get('width', 1):g}", self.detector.entry.name)


def method_of(recipe: dict[str, Any]) -> str | None:
    """How the backbone was pre-trained: by other weights (their name), in k stages, end to end, or not at all.

    Then where it began, if not at random, and whether it stayed fixed in the detector.
    """
    if not recipe:
        return None
    stages, init, frozen = recipe["cl_splits"], recipe.get("init"), " frozen" if recipe.get("freeze") else ""
    if weights := recipe.get("weights"):
        upto = f" up to {recipe['reuse_upto']}" if recipe.get("reuse_upto") else ""
        return name_of(weights) + upto + frozen
    if init and (stages == 0 or recipe.get("init_freeze")):
        return f"{INIT} from {name_of(init)}{frozen}"
    own = {0: "scratch", 1: "e2e"}.get(stages, f"cl{stages}")
    return own + (f" from {name_of(init)}" if init else "") + frozen


def name_of(weights: str) -> str:
    """A file of weights, or a library that has some, as methods are named after it."""
    return Path(weights).stem.removeprefix("backbone_")


def are_detectors(paths: Sequence[Path]) -> bool:
    """Whether files are detectors, and no backbones; what is neither is left to whoever reads it.

    Raises:
        UserError: some are and some are not.
    """
    for path in paths:
        if path.suffix.lower() == ".onnx":
            hint = "give the checkpoint that it was exported from"
            raise UserError("ONNX files give no gradients to explain with", where=path, hint=hint)
    own = [is_darknet(path) or checkpoint.load_tensors(path).get("kind") == "detector" for path in paths]
    if any(own) and not all(own):
        what = f"is no detector, but {paths[own.index(True)]} is one"
        raise UserError(what, where=paths[own.index(False)], hint="explain detectors and backbones one after the other")
    return any(own)


def read_detectors(paths: Sequence[Path]) -> list[DetectorFile]:
    """Detectors that can be compared.

    Raises:
        UserError: they know other classes, want images of other sizes, or are of one method and seed.
    """
    files = [DetectorFile.read(path) for path in paths]
    first = files[0]
    for file in files[1:]:
        for key, word in (("names", "classes"), ("imgsz", "an input of")):
            own, other = getattr(file.detector, key), getattr(first.detector, key)
            if own != other:
                what = f"{word} {own}, but {other} in {first.path}"
                raise UserError(what, where=file.path, hint="compare detectors of the same classes and input size")
    seen: dict[tuple[str, int], Path] = {}
    for line, file in zip(line_names(files), files, strict=True):
        if (line, file.seed) in seen:
            what = f"{line} with seed {file.seed}, as {seen[line, file.seed]}"
            raise UserError(what, where=file.path, hint="give one file for each method and seed")
        seen[line, file.seed] = file.path
    return files


@dataclass(frozen=True)
class DetectorPlan(Plan):
    """What is explained of detectors; `files` is empty, `kinds` are of DETECTOR_MAPS.

    Attributes:
        explain_boxes: `true`: each class of each image, by the best answer that its true boxes can claim; `detections`:
            each true box, by the detection that hits it.
        masks: of D-RISE, for each image.
        unboxed: images that are left out because they have no box.
        thresholds: what counts as a detection.
    """

    detectors: Sequence[DetectorFile] = ()
    explain_boxes: Explained = "true"
    masks: int = MASKS
    unboxed: int = 0
    thresholds: Thresholds = field(default_factory=lambda: SURE)

    @property
    def view(self) -> View:
        """How images are shown: in the detector's letterbox."""
        return View("pictures", self.detectors[0].detector.imgsz)

    @property
    def choose(self) -> Choose:
        """Which answer is explained."""
        return best_assigned if self.explain_boxes == "true" else detected(self.thresholds)

    @property
    def about(self) -> str:
        case = "image and class" if self.explain_boxes == "true" else "true box"
        return f"({case}) of {len(self.split.records)} images, shown as {self.view.about}"

    @property
    def asked(self) -> int:
        every = sum(int(record.asked.sum()) for record in self.split.records)
        return every if self.explain_boxes == "detections" else super().asked

    def coarse_taps(self, cells: Mapping[int, Cells]) -> frozenset[int]:
        """The taps that have too few cells inside most pictures to be judged."""
        return coarse_cuts(cells, short_sides(self.view, self.split.records), self.view.imgsz)

    def doubts(self) -> list[str]:
        poor = [file for file in self.detectors if file.map50 is not None and file.map50 < LITTLE]
        return [f"{file.method}, seed {file.seed}: found next to nothing (mAP50 {file.map50:.3f})" for file in poor]

    def untaught(self) -> str | None:
        poor = next(iter(self.doubts()), None)
        return poor or nothing_learnt(*(file.detector.lesson for file in self.detectors))

    def cases(self, records: Sequence[Record], title: str, batch_size: int | None = None) -> Iterator[BoxCases]:
        by_box = self.explain_boxes == "detections"
        return detector_cases(list(records), self.view, batch_size or self.batch_size, title, by_box=by_box)

    def images(self, records: Sequence[Record], title: str) -> Iterator[Cases]:
        return batches(list(records), self.view, self.batch_size, 0, title)


def prepare_detectors(
    files: Sequence[DetectorFile],
    split: Split,
    *,
    kinds: Sequence[str] = ("gradcam", "layercam"),
    percentile: int = 80,
    targets: Sequence[str] = (),
    images: int | None = None,
    explain_boxes: Explained = "true",
    masks: int = MASKS,
    thresholds: Thresholds = SURE,
    stretched: bool = False,
    untrained: int = 3,
    device: str = "cpu",
    batch_size: int = 16,
) -> DetectorPlan:
    """Settle what is explained; arguments as of `maps.prepare.prepare` and of DetectorPlan.

    Raises:
        UserError: no such kind of map or class; no image has a box.
    """
    for kind in kinds:
        DETECTOR_MAPS.pick(kind)
    own = split.description
    aims = [class_index(name, own.names, "--targets") for name in targets]
    if aims:
        thresholds = replace(thresholds, classes=tuple(aims))
    boxes = boxed(aimed_at(split, aims))
    known, notes = explained_images(replace(split, records=boxes), seen_by(files))
    few = replace(split, records=sample(known, images))
    training: list[Record] = []
    if split.name != "train" and "train" in own.splits:
        shown = [record for record in aimed_at(read_training(own, split.name), aims).records if record.asked.any()]
        training = sample(shown, TRAINING_IMAGES)
    return DetectorPlan(
        files=(), split=few, kinds=tuple(dict.fromkeys(kinds)), rule=Rule(percentile), device=device,
        batch_size=batch_size, stretched=stretched, detectors=tuple(files), explain_boxes=explain_boxes, masks=masks,
        unboxed=len(split.records) - len(boxes), thresholds=thresholds, untrained=untrained, training=training,
        notes=notes if training else (*notes, NO_MEAN_BOX),
    )  # fmt: skip
