"""What is explained of a detector: each class of each image, or each true box; and which of its answers is meant."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou

from data.loader import Batch, DetectionSet, InOrder, make_loader
from data.records import Record
from data.views import View
from maps.cases import Cases
from maps.detector_network import Answers, score_logits
from maps.overlap import box_mask
from models.decode import Thresholds, kept
from utils.boxes import xyxy_to_cxcywh
from utils.console import progress

OVERLAP = 0.5  # IoU from which on a predicted box belongs to a true one, as in mAP50
TOUCH = 0.1  # IoU below which a detection has nothing to do with a true box (Bolya et al., arXiv 2008.08115)


@dataclass(frozen=True)
class Ignored:
    """Boxes of an image that are neither demanded nor blamed: difficult ones, and crowds.

    Attributes:
        boxes_xyxy: [m, 4] pixels of the input.
        labels: [m].
        crowd: [m] bool.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor

    @classmethod
    def of(cls, record: Record, view: View) -> "Ignored | None":
        """Those of a picture, as it is shown; None where there are none, which is nearly always so."""
        left = ~record.asked
        if not left.any():
            return None
        blank = tv_tensors.Image(torch.zeros(1, *record.size_hw, dtype=torch.uint8).expand(3, -1, -1))
        boxes = tv_tensors.BoundingBoxes(record.boxes_xyxy[left], format="XYXY", canvas_size=record.size_hw)  # type: ignore[call-overload]
        _, shown = view.transform()(blank, boxes)
        crowd = np.zeros(len(left), bool) if record.crowd is None else record.crowd
        labels = torch.from_numpy(record.labels[left])
        return cls(shown.as_subclass(Tensor), labels, torch.from_numpy(crowd[left]))

    def holds(self, box_xyxy: Tensor, label: int) -> bool:
        """Whether a detection is on one of its class: by an IoU of OVERLAP, or so much of itself in a crowd."""
        mine = self.labels == label
        others, crowd = self.boxes_xyxy[mine].to(box_xyxy), self.crowd[mine].to(box_xyxy.device)
        inner = torch.minimum(others[:, 2:], box_xyxy[2:]) - torch.maximum(others[:, :2], box_xyxy[:2])
        within = inner.clamp(min=0).prod(1) / (box_xyxy[2:] - box_xyxy[:2]).prod()
        share = torch.where(crowd, within, box_iou(box_xyxy[None], others)[0])
        return bool((share >= OVERLAP).any())


@dataclass(frozen=True)
class Scene:
    """All true boxes of an image that are asked for: boxes_xyxy [m, 4] pixels of the input, labels [m]; and others."""

    boxes_xyxy: Tensor
    labels: Tensor
    ignored: Ignored | None = None


@dataclass(frozen=True)
class BoxCases(Cases):
    """Cases that know the rest of their image.

    Attributes:
        scenes: the image's true boxes, of each case.
        own: indices of the case's own boxes among them.
    """

    scenes: list[Scene]
    own: list[np.ndarray]

    def at(self, indices: Sequence[int]) -> "BoxCases":
        few = super().at(indices)
        return BoxCases(**vars(few), scenes=[self.scenes[i] for i in indices], own=[self.own[i] for i in indices])

    def by_image(self) -> list[list[int]]:
        """The rows of each image."""
        return [np.flatnonzero(self.record == index).tolist() for index in dict.fromkeys(self.record.tolist())]


@dataclass(frozen=True)
class Targets:
    """Which answer is explained in each case.

    Attributes:
        prediction: [n] in the flat order; −1 where there is none: the detector has not found the box.
        labels: [n] whose class's score it is.
        boxes_xyxy: [n, 4] the box that D-RISE looks for.
        classes: [n, classes] the class probabilities that it looks for.
    """

    prediction: Tensor
    labels: Tensor
    boxes_xyxy: Tensor
    classes: Tensor

    def logits(self, answers: Answers) -> Tensor:
        """[n] logit of each score, to be explained; that of some answer where there is none."""
        rows = torch.arange(len(self.prediction), device=self.prediction.device)
        at = self.prediction.clamp(min=0)
        return score_logits(answers.objectness[rows, at], answers.classes[rows, at, self.labels])


Choose = Callable[[Answers, BoxCases], Targets]


def detector_cases(
    records: list[Record], view: View, batch_size: int, title: str, *, by_box: bool
) -> Iterator[BoxCases]:
    """The cases of records, about as many at a time as images in a batch; those of an image stay together.

    Args:
        by_box: a case for each true box, else for each class of an image, with all boxes of it.
    """
    dataset = DetectionSet(records, view.transform(), seed=0)
    loader = make_loader(dataset, InOrder(len(dataset)), batch_size, workers=0)
    for batch in progress(loader, title, len(loader)):
        ignored = [Ignored.of(records[index], view) for index in batch.index.tolist()]
        cases, part = boxes_of(batch, by_box, ignored), list[int]()
        for rows in cases.by_image():
            if part and len(part) + len(rows) > batch_size:
                yield cases.at(part)
                part = []
            part += rows
        if part:
            yield cases.at(part)


def boxes_of(batch: Batch, by_box: bool, ignored: Sequence[Ignored | None]) -> BoxCases:
    """The cases of a batch, whose images have such boxes besides."""
    truth, (height, width) = batch.truth, batch.images.shape[2:]
    samples, scenes, own = [], [], []
    for sample in range(len(batch.images)):
        mine = truth.sample == sample
        scene = Scene(truth.boxes_xyxy[mine], truth.labels[mine], ignored[sample])
        groups = range(len(scene.labels)) if by_box else torch.unique(scene.labels).tolist()
        for group in groups:
            wanted = np.array([group]) if by_box else (scene.labels == group).nonzero()[:, 0].numpy()
            samples.append(sample)
            scenes.append(scene)
            own.append(wanted)
    boxes = [scene.boxes_xyxy[one].numpy() for scene, one in zip(scenes, own, strict=True)]
    masks = [box_mask(one, height, width) for one in boxes]
    masked = np.stack(masks) if masks else np.zeros((0, height, width), bool)
    labels = torch.tensor([int(scene.labels[one[0]]) for scene, one in zip(scenes, own, strict=True)], dtype=torch.long)
    return BoxCases(batch.images[samples], labels, masked, boxes, batch.index[samples].numpy(), scenes, own)


@torch.no_grad()
def best_assigned(answers: Answers, cases: BoxCases) -> Targets:
    """For each case the highest score of its class among the predictions that its true boxes can claim.

    Those are the predictions whose box overlaps one of them by OVERLAP or more, and for each the one that overlaps it
    most. D-RISE looks for the true box that the prediction overlaps most, with nothing but its class, as its authors do
    for true boxes. No prediction that overlaps at all: none.
    """
    rows = [claimed(answers, row, cases) for row in range(len(cases))]
    device = answers.boxes_xyxy.device
    boxes = torch.stack([box for _, box in rows]).to(device) if rows else torch.zeros(0, 4, device=device)
    labels = cases.labels.to(device)
    classes = torch.nn.functional.one_hot(labels, answers.classes.shape[2]).float()
    return Targets(torch.tensor([best for best, _ in rows], dtype=torch.long, device=device), labels, boxes, classes)


def claimed(answers: Answers, row: int, cases: BoxCases) -> tuple[int, Tensor]:
    """Index of the prediction, −1 for none, and the true box of one case."""
    own = cases.scenes[row].boxes_xyxy[cases.own[row]].to(answers.boxes_xyxy)
    overlap = box_iou(answers.boxes_xyxy[row], own)  # [N, m]
    free = overlap >= OVERLAP
    free[overlap.argmax(0), torch.arange(len(own))] = True
    free &= overlap > 0
    if not free.any():
        return -1, own[0]
    logits = score_logits(answers.objectness[row], answers.classes[row, :, int(cases.labels[row])])
    best = int(logits.masked_fill(~free.any(1), -torch.inf).argmax())
    return best, own[int(overlap[best].argmax())]


@dataclass(frozen=True)
class Outcome:
    """What a detection is: `hit`, `duplicate`, `wrong class`, `poorly placed` or `background`.

    Attributes:
        prediction, label, score: its index in the flat order, its class, its score.
        box_xyxy: [4] pixels of the input.
        truth: index of the true box that it hits, or overlaps most; −1 where it touches none.
        overlap: IoU with it.
    """

    prediction: int
    label: int
    score: float
    box_xyxy: Tensor
    kind: str
    truth: int
    overlap: float


OUTCOMES = ("hit", "duplicate", "poorly placed", "wrong class", "background")


@torch.no_grad()
def outcomes(answers: Answers, row: int, scene: Scene, thresholds: Thresholds) -> list[Outcome]:
    """All detections of one image, best first, each with what it is.

    As in COCO's matching each takes, the surest first, the true box of its class that it overlaps most and that is not
    taken yet, by OVERLAP or more. Of the others a `duplicate` has a taken one, a `wrong class` one of another
    class; what overlaps one of its class by TOUCH or more is `poorly placed`, all else `background`. What hits nothing
    and is on a difficult box, or in a crowd, of its class is left out.
    """
    boxes, scores = answers.boxes_xyxy[row], answers.scores[row]
    index, labels = kept(xyxy_to_cxcywh(boxes), scores, thresholds)
    overlap = box_iou(boxes[index], scene.boxes_xyxy.to(boxes)).cpu()
    taken: set[int] = set()
    found = []
    for place, (prediction, label) in enumerate(zip(index.tolist(), labels.tolist(), strict=True)):
        kind, truth = named(overlap[place], scene.labels == label, taken)
        if kind != "hit" and scene.ignored and scene.ignored.holds(boxes[prediction], label):
            continue
        taken |= {truth} if kind == "hit" else set()
        own = float(overlap[place, truth]) if truth >= 0 else 0.0
        score = float(scores[prediction, label])
        found.append(Outcome(prediction, label, score, boxes[prediction], kind, truth, own))
    return found


def named(overlap: Tensor, same: Tensor, taken: set[int]) -> tuple[str, int]:
    """What a detection is, and the index of its true box; of its IoU [m] with all true boxes and which are its class's.

    −1 where it has nothing to do with any.
    """
    if not len(overlap):
        return "background", -1
    alike, other = overlap.masked_fill(~same, 0), overlap.masked_fill(same, 0)
    open_ = alike.clone()
    open_[list(taken)] = 0
    for kind, values, least in (
        ("hit", open_, OVERLAP),
        ("duplicate", alike, OVERLAP),
        ("wrong class", other, OVERLAP),
        ("poorly placed", alike, TOUCH),
    ):
        if values.max() >= least:
            return kind, int(values.argmax())
    return "background", -1


def detected(thresholds: Thresholds) -> Choose:
    """For each true box the detection that hits it; none where the detector has missed it.

    D-RISE looks for the detection's own box and class probabilities.
    """

    def choose(answers: Answers, cases: BoxCases) -> Targets:
        prediction = torch.full((len(cases),), -1, device=answers.boxes_xyxy.device)
        for rows in cases.by_image():
            hits = {o.truth: o.prediction for o in outcomes(answers, rows[0], cases.scenes[rows[0]], thresholds)
                    if o.kind == "hit"}  # fmt: skip
            for row in rows:
                prediction[row] = hits.get(int(cases.own[row][0]), -1)
        return of_predictions(answers, prediction, cases.labels)

    return choose


@torch.no_grad()
def of_predictions(answers: Answers, prediction: Tensor, labels: Tensor) -> Targets:
    """Targets of given predictions [n], −1 for none, and classes [n], a row each."""
    rows, at = torch.arange(len(prediction), device=prediction.device), prediction.clamp(min=0)
    own = answers.probabilities[rows, at]
    return Targets(prediction, labels.to(prediction.device), answers.boxes_xyxy[rows, at], own)
