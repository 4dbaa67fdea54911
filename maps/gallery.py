"""Pictures of some cases with the maps of every line at every cut, for the report."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from maps.cases import Cases
from maps.evidence import NO_INFLUENCE, NOT_FOUND, Evidence
from maps.gradient_maps import smoothed
from maps.kinds import MAPS
from maps.localise import BASELINE, UNTRAINED, Column, Study
from maps.measures import Rule, measure
from maps.overlay import outlined, overlaid, picture
from maps.summary import Summary

EACH = 4  # cases of a group
ABSENT = {NO_INFLUENCE: "no influence", NOT_FOUND: "not found"}
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Strip:
    """Maps of a line at all cuts, side by side in one picture.

    Attributes:
        ious: IoU at each cut.
        picture: a data URI.
    """

    line: str
    kind: str
    cuts: tuple[int, ...]
    ious: list[float]
    picture: str


@dataclass(frozen=True)
class Exhibit:
    """One case: its picture with the boxes as a data URI, its class, and maps of it."""

    picture: str
    name: str
    share: float
    strips: list[Strip]


@dataclass(frozen=True)
class Group:
    """Cases that were chosen for a reason."""

    title: str
    exhibits: list[Exhibit]


def choose(summary: Summary) -> dict[str, list[int]]:
    """Title → indices of cases: best and worst for the first pair, the smallest boxes, and some drawn at random."""
    chosen: dict[str, list[int]] = {}
    drawn = np.random.default_rng(summary.study.plan.rule.seed).permutation(len(summary.study.cases))[:EACH]
    pairs = [pair for pair in summary.pairs if pair.first.chosen is None]
    if pairs:
        pair = pairs[0]
        one, other = pair.ious(pair.cuts[-1])
        order = np.argsort(other - one, kind="stable")
        order = order[~np.isnan((other - one)[order])]
        names = f"{pair.first.name} above {pair.second.name}"
        chosen[f"Best for {pair.first.name}: largest difference of the IoU, {names}"] = order[:EACH].tolist()
        chosen[f"Worst for {pair.first.name}"] = order[::-1][:EACH].tolist()
    chosen["The smallest boxes"] = np.argsort(summary.study.shares, kind="stable")[:EACH].tolist()
    chosen["Drawn at random"] = np.sort(drawn).tolist()
    return chosen


def galleries(summary: Summary) -> list[Group]:
    """Explain the chosen cases again and draw them; of several seeds, the first."""
    study, chosen = summary.study, choose(summary)
    columns = shown_columns(study.columns)
    indices = sorted({index for own in chosen.values() for index in own})
    drawn = {index: exhibit(study, index, case, columns) for index, case in study.again(indices, "pictures").items()}
    return [Group(title, [drawn[index] for index in own]) for title, own in chosen.items()]


def exhibit(study: Study, index: int, case: Cases, columns: Sequence[Column]) -> Exhibit:
    """One case with its maps."""
    names = study.plan.split.description.names
    label = names[int(case.labels[0])] if study.plan.explain is None else ""
    strips = [strip(column, case, study.plan.rule) for column in columns]
    return Exhibit(as_uri(with_boxes(picture_of(case), case)), label, float(study.shares[index]), strips)


def shown_columns(columns: Sequence[Column]) -> list[Column]:
    """The first seed of each trained line, the kinds of map of one line beside each other."""
    found: dict[tuple[str, str], Column] = {}
    for column in sorted(columns, key=lambda own: own.seed):
        if column.explain and column.line != UNTRAINED and column.kind != BASELINE:
            found.setdefault((column.line, column.kind), column)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def strip(column: Column, case: Cases, rule: Rule) -> Strip:
    """The maps of a column, over the picture and with the boxes; saliency is smoothed as in the paper's figure 2."""
    found = column.explain(case)[column.kind]  # type: ignore[misc]
    ious = [float(measure(one, case.truth, case.boxes, rule)["iou"][0]) for one in found]
    image = picture_of(case)
    pictures = [with_boxes(laid_over(image, one, column.kind, case), case) for one in found]
    return Strip(column.line, column.kind, column.cuts, ious, as_uri(np.concatenate(pictures, 1)))


def laid_over(picture: np.ndarray, one: Evidence, kind: str, case: Cases) -> np.ndarray:
    """A map over a picture; where there is none, the picture in grey, with the reason."""
    if one.absent is None or not one.absent[0]:
        return overlaid(picture, shown_map(one, kind, case))
    found = np.repeat(picture.mean(2, keepdims=True), 3, 2).round().astype(np.uint8)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):  # readable on light and dark
        cv2.putText(found, ABSENT[int(one.absent[0])], (6, len(found) - 8), FONT, 0.5, colour, thickness, cv2.LINE_AA)
    return found


def shown_map(evidence: Evidence, kind: str, case: Cases) -> np.ndarray:
    """[H, W] of a map at the size of the image."""
    height, width = case.truth.shape[1:]
    sized = evidence.at(height, width).maps
    return (smoothed(sized) if kind in MAPS and MAPS[kind].smooth else sized)[0].float().cpu().numpy()


def picture_of(case: Cases) -> np.ndarray:
    """[H, W, 3] uint8 RGB of the first case, enlarged by a whole number where it is small."""
    return picture(case.images[0])


def with_boxes(image: np.ndarray, case: Cases) -> np.ndarray:
    """The picture with the true boxes of the first case."""
    return outlined(image, case.boxes[0], case.truth.shape[1])


def as_uri(picture: np.ndarray) -> str:
    """A JPEG as a data URI."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
