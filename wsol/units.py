"""The units that weigh most for a class, and the patches of pictures that they fire on (arXiv 1512.04150, figure 13).

`python -m wsol.units --weights FILE --data YAML --pictures units.jpg` draws, for each class and unit, the held-out
images that the unit fires on most, dark outside of where it does. Where the data have boxes, it counts what is there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from data.parsing import class_index
from maps.kinds import Explained, is_mapped
from maps.networks import load_explained
from maps.overlay import masked, picture
from maps.plan import Plan
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from wsol.features import FEATURES, around, feature_maps, parsed, parser_of, planned
from wsol.patterns import UNITS, class_units

CLASSES, COLUMNS, TOP = 3, 5, 20
HIGH = 0.5  # of a unit's maximum in an image, above which it fires


@dataclass(frozen=True)
class Unit:
    """A unit of a class.

    Attributes:
        weight: of the class.
        images: held-out images that it fires on most, indices in falling order.
        fires_on: object at the highest point of its map → number of these images; nothing without boxes.
    """

    of: str
    unit: int
    weight: float
    images: list[int]
    fires_on: dict[str, int]


def firing(network: Explained, plan: Plan) -> np.ndarray:
    """[N, units] the highest value of each unit in each held-out image."""
    parts = plan.images([around(record) for record in plan.split.records], "units")
    found = [
        feature_maps(network, own.images.to(plan.device), FEATURES["gap"]).amax((2, 3)).cpu().numpy() for own in parts
    ]
    return np.concatenate(found)


def seen_by(network: Explained, plan: Plan, index: int, unit: int) -> tuple[Tensor, np.ndarray]:
    """An image [3, H, W] and where a unit fires in it, [H, W] at its size."""
    case = next(plan.images([around(plan.split.records[index])], "pictures"))
    images, size = case.images.to(plan.device), case.images.shape[2:]
    raw = feature_maps(network, images, FEATURES["gap"])[:, unit]
    return case.images[0], network.evidence(raw, -1, size, pooled=True).at(*size).maps[0].cpu().numpy()


def objects_at(network: Explained, plan: Plan, unit: int, images: Sequence[int]) -> dict[str, int]:
    """What is at the highest point of a unit's map in images: the class of the smallest box there."""
    names, found = plan.split.description.names, Counter[str]()
    for index in images:
        if not len(plan.split.records[index].labels):
            continue
        _, one = seen_by(network, plan, index, unit)
        y, x = np.unravel_index(one.argmax(), one.shape)
        hits = []
        for own in plan.cases([plan.split.records[index]], "objects"):
            for label, boxes in zip(own.labels.tolist(), own.boxes, strict=True):
                inside = ((boxes[:, :2] <= [x, y]) & (boxes[:, 2:] > [x, y])).all(1)
                hits += [((box[2:] - box[:2]).prod(), names[label]) for box in boxes[inside]]
        found[min(hits)[1] if hits else "nothing"] += 1
    return dict(found.most_common())


def units_of(network: Explained, plan: Plan, classes: Sequence[int]) -> list[Unit]:
    """The heaviest units of classes."""
    own, fires = class_units(network.heads[-1]), firing(network, plan)
    weights: Tensor = list(network.heads[-1].children())[-1].weight  # type: ignore[assignment]
    found = []
    for label in classes:
        for unit in own[label].tolist():
            images = np.argsort(-fires[:, unit], kind="stable")[:TOP].tolist()
            weight = round(float(weights[label, unit]), 4)
            name = plan.files[0].names[label]
            found.append(Unit(name, unit, weight, images, objects_at(network, plan, unit, images)))
    return found


def drawn(network: Explained, plan: Plan, units: Sequence[Unit]) -> tuple[list[np.ndarray], list[str]]:
    """A row for each unit: the images that it fires on most, dark outside of where it does; titles."""
    page, titles = list[np.ndarray](), list[str]()
    for own in units:
        row = own.images[:COLUMNS]
        for index in row:
            image, one = seen_by(network, plan, index, own.unit)
            page.append(masked(picture(image), one > HIGH * one.max()))
        titles += [f"{own.of}: unit {own.unit}", *[""] * (len(row) - 1)]
    return page, titles


def main() -> None:
    """Find the units, draw, print."""
    about, weights = "Units that weigh most for a class, and what they fire on.", "a backbone file with a pooled head"
    parser = parser_of(about, "the images that the units fire on", weights=weights)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help=f"of the network [the first {CLASSES}]")
    arguments = parsed(parser)
    plan = planned([arguments.weights], arguments.data, arguments.images, training=0, imgsz=arguments.imgsz)
    network, names = load_explained(plan.files[0], plan), plan.files[0].names
    if not is_mapped(network.heads[-1]):
        what, hint = "its classifier pools no units", "pre-train with --pretrain-head gap or gap1024"
        raise UserError(what, where=arguments.weights, hint=hint)
    asked = [class_index(name, names, "--classes") for name in arguments.classes or names[:CLASSES]]
    units = units_of(network, plan, asked)
    print(f"{'class':<24}{'unit':>6}{'weight':>9}  at its highest points")
    for own in units:
        counts = ", ".join(f"{name} {count}" for name, count in own.fires_on.items())
        print(f"{own.of:<24}{own.unit:>6}{own.weight:>9.3f}  {counts or '–'}")
    if arguments.pictures:
        page, titles = drawn(network, plan, units)
        columns = min(COLUMNS, len(plan.split.records))
        save_page(page, arguments.pictures, titles, columns=columns)
    if arguments.json:
        content = {"data": arguments.data.name, "units": [asdict(own) for own in units], "most": UNITS}
        write_text(arguments.json, json_text(content, indent=1))


if __name__ == "__main__":
    run_cli(main)
