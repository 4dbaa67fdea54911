"""Pictures of some cases with the maps of every line at every cut, for the report."""

from collections.abc import Sequence

import numpy as np

from maps.boxes_from_maps import RULES, boxes_from_maps
from maps.cases import Cases
from maps.evidence import NO_INFLUENCE, NOT_FOUND, Evidence
from maps.gradient_maps import smoothed
from maps.kinds import MAPS
from maps.lime_pictures import lime_strips
from maps.localise import BASELINE, Column, Study
from maps.measures import Measured, Rule
from maps.networks import is_untrained
from maps.overlap import region_iou
from maps.overlay import FOUND, as_uri, greyed, masked, outlined, overlaid, picture, written
from maps.shown import Exhibit, Group, Strip
from maps.summary import Summary

EACH = 3  # cases of a group
ABSENT = {NO_INFLUENCE: "no influence", NOT_FOUND: "not found"}
SMALLEST, LIME = "The smallest boxes", "LIME"
MAPS_ABOUT = (
    "Maps of each network after a block; red is the box around what is above a fifth of the way from the map's minimum "
    "to its maximum."
)
MASKS_ABOUT = (
    "What is measured: the highest pixels of each map, the rest dark, and the IoU of that region with the boxes."
)
LIME_ABOUT = (
    "The superpixels that add most to the probability of the class, the rest dark, with the IoU of that region."
)


def choose(summary: Summary) -> dict[str, list[int]]:
    """Title → indices of cases: best and worst for the first pair, the smallest boxes, and some drawn at random.

    There are no best and worst ones where no case has a map of both sides.
    """
    chosen: dict[str, list[int]] = {}
    drawn = np.random.default_rng(summary.study.plan.rule.seed).permutation(len(summary.study.cases))[:EACH]
    pairs = [pair for pair in summary.pairs if pair.first.chosen is None]
    if pairs:
        pair = pairs[0]
        one, other = pair.ious(pair.cuts[-1])
        order = np.argsort(other - one, kind="stable")
        order = order[~np.isnan((other - one)[order])]
        names = f"{pair.first.name} above {pair.second.name}"
        chosen[f"Best for {pair.first.name}: largest difference of the IoU after b{pair.cuts[-1]}, {names}"] = order[
            :EACH
        ].tolist()
        chosen[f"Worst for {pair.first.name}"] = order[::-1][:EACH].tolist()
    chosen[SMALLEST] = np.argsort(summary.study.shares, kind="stable")[:EACH].tolist()
    chosen["Drawn at random"] = np.sort(drawn).tolist()
    return {title: own for title, own in chosen.items() if own}


def galleries(summary: Summary) -> list[Group]:
    """Explain the chosen cases again and draw them; of several seeds, the first."""
    study, chosen = summary.study, choose(summary)
    columns = shown_columns(study.columns)
    indices = sorted({index for own in chosen.values() for index in own})
    again = study.again(indices, "pictures")
    makers = dict.fromkeys(column.explain for column in columns if column.explain)
    groups = []
    for title, own in chosen.items():
        draw, about = (mask_strip, MASKS_ABOUT) if title == SMALLEST else (strip, MAPS_ABOUT)
        exhibits = []
        for index in own:
            case = again[index]
            found = {make: make(case) for make in makers}  # all kinds of maps of a network at once
            strips = [
                draw(column, case, found[column.explain][column.kind], study.plan.rule)
                for column in columns
                if column.explain
            ]
            exhibits.append(exhibit(study, index, case, strips))
        groups.append(Group(title, about, exhibits))
    explained = [exhibit(study, own.index, own.case, lime_strips(own)) for own in study.lime]
    return [*groups, Group(LIME, LIME_ABOUT, explained)] if explained else groups


def exhibit(study: Study, index: int, case: Cases, strips: list[Strip]) -> Exhibit:
    """One case with its maps."""
    names = study.plan.split.description.names
    label = names[int(case.labels[0])] if study.plan.explain is None else ""
    return Exhibit(as_uri(with_boxes(picture(case.images[0]), case)), label, float(study.shares[index]), strips)


def shown_columns(columns: Sequence[Column]) -> list[Column]:
    """The first seed of each trained line, the kinds of map of one line beside each other."""
    found: dict[tuple[str, str], Column] = {}
    for column in sorted(columns, key=lambda own: own.seed):
        if column.explain and not is_untrained(column.line) and column.kind != BASELINE:
            found.setdefault((column.line, column.kind), column)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def strip(column: Column, case: Cases, found: Sequence[Evidence], rule: Rule) -> Strip:
    """The maps of a column over the picture, grey if not judged; saliency is smoothed as in the paper's figure 2."""
    image, ious, pictures = picture(case.images[0]), [], []
    for cut, one in zip(column.cuts, found, strict=True):
        own = Measured(one, case.truth, case.boxes, rule)
        ious.append(iou_of(own))
        drawn = laid_over(image, one, column.kind, case, grey=cut in column.coarse)
        boxed = with_boxes(drawn, case, own)
        pictures.append(written(boxed, reason(one)) if is_absent(one) else boxed)
    return Strip(column.line, column.kind, column.cuts, ious, as_uri(np.concatenate(pictures, 1)), column.coarse)


def mask_strip(column: Column, case: Cases, found: Sequence[Evidence], rule: Rule) -> Strip:
    """The regions that are measured, with their IoU (figure 8)."""
    image, ious, pictures = picture(case.images[0]), [], []
    for cut, one in zip(column.cuts, found, strict=True):
        own = Measured(one, case.truth, case.boxes, rule)
        ious.append(iou_of(own))
        absent, shown = is_absent(one), greyed(image, cut in column.coarse)
        drawn = laid_over(image, one, column.kind, case) if absent else masked(shown, own.region[0])
        pictures.append(written(with_boxes(drawn, case), reason(one) if absent else f"IoU {ious[-1]:.2f}"))
    return Strip(column.line, column.kind, column.cuts, ious, as_uri(np.concatenate(pictures, 1)), column.coarse)


def is_absent(one: Evidence) -> bool:
    """Whether there is no map of the first case."""
    return one.absent is not None and bool(one.absent[0])


def reason(one: Evidence) -> str:
    """Why there is no map of the first case."""
    assert one.absent is not None
    return ABSENT[int(one.absent[0])]


def iou_of(own: Measured) -> float:
    """Of the first case; NaN where there is no map."""
    if is_absent(own.evidence):
        return float("nan")
    return 0.0 if own.broken[0] else float(region_iou(own.region, own.truth)[0])


def laid_over(picture: np.ndarray, one: Evidence, kind: str, case: Cases, *, grey: bool = False) -> np.ndarray:
    """A map over a picture; where there is none, the picture in grey."""
    if not is_absent(one):
        return overlaid(picture, shown_map(one, kind, case), "gray" if grey else "inferno")
    return greyed(picture, True)


def shown_map(evidence: Evidence, kind: str, case: Cases) -> np.ndarray:
    """[H, W] of a map at the size of the image."""
    height, width = case.truth.shape[1:]
    sized = evidence.at(height, width).maps
    return (smoothed(sized) if kind in MAPS and MAPS[kind].smooth else sized)[0].float().cpu().numpy()


def with_boxes(image: np.ndarray, case: Cases, own: Measured | None = None) -> np.ndarray:
    """The picture with the true boxes of the first case, and the one made from a map of it, if there is one."""
    height = case.truth.shape[1]
    found = outlined(image, case.boxes[0], height)
    if own is None or is_absent(own.evidence) or own.broken[0]:
        return found
    box = boxes_from_maps(own.maps, RULES["cam20"])[0]
    return found if box is None else outlined(found, np.array([box]), height, FOUND)
