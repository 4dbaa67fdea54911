"""What detectors answered, beside their maps: at which heads, how surely, what they missed and what they made up."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from maps.detector_cases import BoxCases, Outcome, Targets, of_predictions, outcomes
from maps.detector_kinds import DETECTOR_MAPS, detector_explanations
from maps.detector_network import Answers, ExplainedDetector
from maps.detector_plan import DetectorFile, DetectorPlan
from maps.drise import Masks
from maps.localise import Row
from maps.measures import measure
from maps.overlap import box_mask
from utils.letterbox import Letterbox

OWN_BOX = ("pointing", "mass")  # measured of each detection against the box that it claims
MISSED = "missed"


@dataclass
class Audit:
    """What one detector answered.

    Attributes:
        strides: of its heads, pixels of a cell.
        answers: a row for each explained answer.
        detections: a row for each detection, and for each true box that was missed; only if detections are explained.
    """

    line: str
    seed: int
    map50: float | None
    strides: tuple[int, ...]
    answers: list[Row] = field(default_factory=list)
    detections: list[Row] = field(default_factory=list)

    @property
    def median_score(self) -> float | None:
        """Of the explained answers; None where there is none."""
        return float(np.median([float(row["score"]) for row in self.answers])) if self.answers else None

    def at_head(self, stride: int) -> int:
        """How many explained answers a head gave."""
        return sum(row["head"] == stride for row in self.answers)

    def of(self, outcome: str) -> list[Row]:
        """The rows of detections, or misses, of a kind."""
        return [row for row in self.detections if row["outcome"] == outcome]


def audit(plan: DetectorPlan, network: ExplainedDetector, line: str, file: DetectorFile) -> Audit:
    """Ask a detector once more for its answers; for maps only where detections are explained."""
    found = Audit(line, file.seed, file.map50, network.model.strides)
    for cases in plan.cases(plan.split.records, f"answers of {line}"):
        with torch.no_grad():
            answers: Answers = network(cases.images.to(plan.device))
        targets = plan.choose(answers, cases)
        found.answers += answer_rows(answers, targets)
        if plan.explain_boxes == "detections":
            named = Named(plan, cases)
            found.detections += [named.missed(row) for row in np.flatnonzero(targets.prediction.cpu() < 0).tolist()]
            found.detections += detection_rows(plan, network, answers, cases, named)
    return found


def answer_rows(answers: Answers, targets: Targets) -> list[Row]:
    """Head, score of the explained answers of some cases."""
    rows: list[Row] = []
    for case, (prediction, label) in enumerate(zip(targets.prediction.tolist(), targets.labels.tolist(), strict=True)):
        if prediction >= 0:
            score = float(answers.scores[case, prediction, label])
            rows.append({"head": int(answers.strides[prediction]), "score": score})
    return rows


@dataclass(frozen=True)
class Named:
    """Names and places of what is in the images of some cases, in their own pixels."""

    plan: DetectorPlan
    cases: BoxCases

    def box(self, record: int, box_xyxy: Tensor) -> Row:
        """Corners in pixels of the original image."""
        size_hw = self.plan.split.records[record].size_hw
        own = Letterbox.fit(size_hw, self.plan.view.imgsz).back(box_xyxy[None].cpu(), size_hw)[0]
        return dict(zip(("x1", "y1", "x2", "y2"), own.tolist(), strict=True))

    def missed(self, row: int) -> Row:
        """The true box of a case, not found."""
        record, name = int(self.cases.record[row]), self.name(int(self.cases.labels[row]))
        box = torch.from_numpy(self.cases.boxes[row][0])
        image = self.plan.split.records[record].image.name
        return {"image": image, "outcome": MISSED, "class": "", "true_class": name, **self.box(record, box)}

    def detection(self, record: int, own: Outcome, labels: Tensor) -> Row:
        """A detection with what it is."""
        true = self.name(int(labels[own.truth])) if own.truth >= 0 else ""
        image = self.plan.split.records[record].image.name
        about: Row = {"image": image, "outcome": own.kind, "class": self.name(own.label), "true_class": true}
        return {**about, **self.box(record, own.box_xyxy), "score": own.score, "iou": own.overlap}

    def name(self, label: int) -> str:
        """Of a class."""
        return self.plan.split.description.names[label]


def detection_rows(
    plan: DetectorPlan, network: ExplainedDetector, answers: Answers, cases: BoxCases, named: Named
) -> list[Row]:
    """Every detection in the images of some cases, with its maps at the taps measured against its own box."""
    rows, found, firsts = list[Row](), list[Outcome](), list[int]()
    for first in (own[0] for own in cases.by_image()):
        scene = cases.scenes[first]
        for one in outcomes(answers, first, scene, plan.thresholds):
            rows.append(named.detection(int(cases.record[first]), one, scene.labels))
            found.append(one)
            firsts.append(first)
    for start in range(0, len(found), plan.batch_size):
        part = slice(start, start + plan.batch_size)
        values = own_box_values(plan, network, claims(cases.at(firsts[part]), found[part]), found[part])
        for row, own in zip(rows[part], values, strict=True):
            row |= own
    return rows


def claims(cases: BoxCases, found: Sequence[Outcome]) -> BoxCases:
    """Detections as cases whose truth is the box that each claims."""
    boxes = [one.box_xyxy[None].cpu().numpy() for one in found]
    truth = np.stack([box_mask(own, *cases.truth.shape[1:]) for own in boxes])
    return replace(cases, labels=torch.tensor([one.label for one in found]), truth=truth, boxes=boxes)


def own_box_values(
    plan: DetectorPlan, network: ExplainedDetector, cases: BoxCases, found: Sequence[Outcome]
) -> list[Row]:
    """A row for each detection: measures of OWN_BOX of each kind of map at each tap; left out where none is there."""
    kinds = [kind for kind in plan.kinds if DETECTOR_MAPS[kind].at_taps]

    def choose(answers: Answers, cases: BoxCases) -> Targets:
        return of_predictions(answers, torch.tensor([one.prediction for one in found]).to(plan.device), cases.labels)

    evidence = detector_explanations(network, cases, kinds, choose, Masks.draw(1, 0), plan.device)
    rows: list[Row] = [{} for _ in found]
    for kind, own in evidence.items():
        for tap, one in zip(network.taps, own, strict=True):
            values = measure(one, cases.truth, cases.boxes, plan.rule)
            for row, number in zip(rows, range(len(found)), strict=True):
                measured = {f"{kind}_b{tap}_{name}": float(values[name][number]) for name in OWN_BOX}
                row |= {name: value for name, value in measured.items() if not np.isnan(value)}
    return rows
