"""What a network's last features know of tags, which units make its classes, and what lies under its maps.

`python -m wsol.concepts --weights FILE --data YAML` learns a detector of each tag from images that have it or
not, by hard negative mining, and judges it on held-out images (Zhou et al., arXiv 1512.04150, §4.2 and 4.3). Any data
will do whose images have classes or boxes.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from data.description import load_description
from data.formats import read_split
from data.levels import with_levels
from data.parsing import class_index
from data.records import Record
from evaluation.accuracy import read_backbones
from maps.kinds import Explained, cams, is_mapped
from maps.networks import load_explained
from maps.overlay import overlaid, picture
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES, prepare, sample
from utils.draw import save_page
from utils.errors import run_cli
from utils.files import json_text, write_text
from wsol.deep_features import around, classes_of, feature_maps, pooled_features
from wsol.patterns import Concept, class_units, informative_objects, learn_concept

ROWS, COLUMNS = 8, 5  # of the page of pictures
ONE_BOX = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Finding:
    """What became of a tag.

    Attributes:
        training, held_out: images that have it.
        precision: average precision on held-out images; None where none has it.
        chance: that of a detector that guesses.
    """

    tag: str
    training: int
    held_out: int
    precision: float | None
    chance: float


def tagged(records: Sequence[Record], count: int) -> np.ndarray:
    """[N, count] bool: which images have which tags."""
    found = np.zeros((len(records), count), bool)
    for row, record in enumerate(records):
        found[row, classes_of(record)] = True
    return found


def described(network: Explained, plan: Plan, records: Sequence[Record], title: str) -> np.ndarray:
    """[N, D] pooled features of all images."""
    parts = plan.images([around(record, ONE_BOX) for record in records], title)
    return pooled_features(network, parts, plan.device)[0]


def judged(own: Concept, name: str, training: int, features: np.ndarray, true: np.ndarray) -> Finding:
    """A concept on images that it was not learned from."""
    scores = own.scores(features)
    precision = float(average_precision_score(true, scores)) if true.any() else None
    return Finding(name, training, int(true.sum()), precision, float(true.mean()))


def drawn(network: Explained, plan: Plan, own: Concept, features: np.ndarray) -> Iterator[np.ndarray]:
    """The held-out images that a concept is surest of, under what it sees in them."""
    for index in np.argsort(-own.scores(features))[:COLUMNS].tolist():
        case = next(plan.images([around(plan.split.records[index], ONE_BOX)], "pictures"))
        maps = feature_maps(network, case.images.to(plan.device))
        raw = torch.einsum("d,bdhw->bhw", torch.from_numpy(own.weights).to(maps), maps)
        size = case.images.shape[2:]
        seen = network.evidence(raw, -1, size, pooled=True).at(*size).maps
        yield overlaid(picture(case.images[0]), seen[0].cpu().numpy())


def objects_under_maps(network: Explained, plan: Plan) -> dict[int, list[tuple[int, float]]]:
    """Class that an image is held for → the objects that lie most under its maps."""

    def scenes() -> Iterator[tuple[int, np.ndarray, np.ndarray, Sequence[int]]]:
        for cases in plan.cases(plan.split.records, "objects"):
            images = cases.images.to(plan.device)
            with torch.no_grad():
                guesses = network(images)[-1].argmax(1)
            maps = cams(network, images, guesses)[-1].at(*images.shape[2:]).maps.cpu().numpy()
            own = zip(guesses.tolist(), maps, cases.boxes, cases.labels.tolist(), strict=True)
            yield from ((guess, one, boxes, [label] * len(boxes)) for guess, one, boxes, label in own)

    return informative_objects(scenes())


def learned(
    network: Explained, plan: Plan, tags: Sequence[int], names: Sequence[str], pictures: Path | None
) -> list[Finding]:
    """A concept for each tag; the first ones are drawn."""
    known, asked = (tagged(records, len(names)) for records in (plan.training, plan.split.records))
    features = described(network, plan, plan.training, "training")
    held_out = described(network, plan, plan.split.records, "held out")
    findings, page = [], []
    for place, tag in enumerate(tags):
        own = learn_concept(features, known[:, tag], names[tag])
        findings.append(judged(own, names[tag], int(known[:, tag].sum()), held_out, asked[:, tag]))
        if pictures and place < ROWS:
            page += list(drawn(network, plan, own, held_out))
    if pictures:
        titles = [name for tag in tags[:ROWS] for name in (names[tag], *[""] * (min(COLUMNS, len(held_out)) - 1))]
        save_page(page, pictures, titles, columns=min(COLUMNS, len(held_out)))
    return findings


def planned(weights: Path, data: Path, images: int | None) -> Plan:
    """All images of the data, whether they have boxes or not."""
    files = read_backbones([weights])
    description = with_levels(load_description(data), files[0].levels)
    training, held_out = (read_split(description, name) for name in ("train", description.held_out))
    records = sample(held_out.records, images)
    plan = prepare(files, replace(held_out, records=[around(own, ONE_BOX) for own in records]))
    return replace(plan, split=replace(held_out, records=records), training=sample(training.records, TRAINING_IMAGES))


def main() -> None:
    """Learn, judge, draw, print."""
    parser = argparse.ArgumentParser(description="Tags, units and objects behind a network's last features.")
    parser.add_argument("--weights", type=Path, required=True, help="a backbone file")
    parser.add_argument("--data", type=Path, required=True, help="data yaml; its classes are the tags")
    parser.add_argument("--tags", nargs="+", metavar="TAG", help="only these [all that some images have and some not]")
    parser.add_argument("--images", type=int, help="only so many held-out images, drawn at random [all]")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--pictures", type=Path, help="draw the images that a tag is surest in to this JPEG")
    arguments = parser.parse_args()
    plan = planned(arguments.weights, arguments.data, arguments.images)
    names, network = plan.split.description.names, load_explained(plan.files[0], plan)
    share = tagged(plan.training, len(names)).mean(0)
    every = np.flatnonzero((share > 0) & (share < 1)).tolist()
    tags = [class_index(tag, names, "--tags") for tag in arguments.tags] if arguments.tags else every
    findings = learned(network, plan, tags, names, arguments.pictures)
    print(f"{'tag':<24}{'training':>9}{'held out':>9}{'AP':>8}{'chance':>8}")
    for own in findings:
        precision = "–" if own.precision is None else f"{own.precision:.3f}"
        print(f"{own.tag:<24}{own.training:>9}{own.held_out:>9}{precision:>8}{own.chance:>8.3f}")
    numbers = {"data": arguments.data.name, "concepts": [asdict(own) for own in findings]}
    if is_mapped(network.heads[-1]):
        numbers |= leanings(network, plan, names)
    if arguments.json:
        write_text(arguments.json, json_text(numbers, indent=1))


def leanings(network: Explained, plan: Plan, objects: Sequence[str]) -> dict[str, object]:
    """Print and give the units of each class, and the objects under the maps of each, where there are boxes."""
    classes = plan.files[0].names
    units = dict(zip(classes, class_units(network.heads[-1]).tolist(), strict=True))
    print("\nheaviest units: " + "; ".join(f"{name} {', '.join(map(str, own))}" for name, own in units.items()))
    records = [record for record in plan.split.records if len(record.labels)]
    if not records:
        return {"units": units}
    under = objects_under_maps(network, replace(plan, split=replace(plan.split, records=records)))
    found = {
        classes[guess]: {objects[label]: round(covered, 4) for label, covered in own}
        for guess, own in sorted(under.items())
    }
    print("\nshare of an object under the map of the class that its image is held for:")
    for name, own in found.items():
        print(f"  {name}: " + ", ".join(f"{label} {covered:.2f}" for label, covered in own.items()))
    return {"units": units, "objects": found}


if __name__ == "__main__":
    run_cli(main)
