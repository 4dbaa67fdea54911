"""Features with linear SVMs on whole images and on crops, and the boxes that were cropped to (Zhou et al., §4.1).

`python -m wsol.deep_features --weights FILE… --data YAML` classifies whole images, crops around maps and, where
there are boxes, crops around the true ones, each with a classifier of its own: table 4 and figure 7 of
arXiv 1512.04150 on any data.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

from data.description import load_description
from data.formats import read_training, read_unseen
from data.levels import with_levels
from data.records import Record, Split
from evaluation.learnt import groups_of
from maps.boxes_from_maps import above_share, best_ious, boxes_from_maps
from maps.cases import Cases
from maps.kinds import Explained
from maps.networks import load_explained
from maps.overlay import FOUND, outlined, overlaid, picture
from maps.plan import Plan
from maps.prepare import learning, prepare, sample
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from utils.flags import positive
from utils.limits import above_zero
from utils.parser import Parser
from wsol.features import (
    add_imgsz,
    add_outputs,
    add_training,
    around,
    evidence_of,
    files_of,
    learning_from,
    parsed,
    pooled_features,
)
from wsol.svm import LinearClasses, fit_svm, validated

SHARE = 0.2
CORRECT = 0.5  # IoU
KINDS = ("whole image", "crop by map", "crop by box")
KNOWN, GUESSED = "boxes, class known", "boxes, class guessed"
PICTURES, COLUMNS = 12, 6


@dataclass(frozen=True)
class Studied:
    """What one network's features are worth.

    Attributes:
        accuracies: kind of picture → fraction of the test images whose class an SVM, trained on such pictures,
            predicts; KNOWN and GUESSED → fraction of boxes around maps, of the true or of the predicted class, with an
            IoU of at least 0.5, where there are boxes.
        penalties: kind of picture → penalty of its SVM.
        whole: the SVM of whole images.
    """

    accuracies: dict[str, float]
    penalties: dict[str, float]
    whole: LinearClasses


def svm_maps(network: Explained, classes: LinearClasses, images: Tensor, labels: Tensor) -> np.ndarray:
    """[B, H, W] where the SVM of each image's class sees it, at the image's size; zero for a class unknown to it."""
    place = {int(own): index for index, own in enumerate(classes.classes)}
    nothing = np.zeros(classes.weights.shape[1])
    rows = [classes.weights[place[own]] if own in place else nothing for own in labels.tolist()]
    return evidence_of(network, np.stack(rows), images)


def cropped(cases: Cases, boxes: Sequence[np.ndarray | None]) -> Cases:
    """Each image cut to a box and brought to its old size; one without a box stays whole."""
    size = list(cases.images.shape[2:])
    images = []
    for image, box in zip(cases.images, boxes, strict=True):
        if box is None:
            images.append(image)
            continue
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        images.append(resized_crop(image, int(y1), int(x1), max(1, int(y2 - y1)), max(1, int(x2 - x1)), size))
    return Cases(torch.stack(images), cases.labels, cases.truth, cases.boxes, cases.record)


def largest_boxes(cases: Cases) -> list[np.ndarray | None]:
    """The largest true box of each."""
    return [own[np.argmax((own[:, 2:] - own[:, :2]).prod(1))] for own in cases.boxes]


def whole_images(split: Split) -> Split:
    """The same, each image's classes with a box around all of it, where the data set has no boxes."""
    if split.description.boxed:
        return split
    return replace(split, records=[around(record, record.stated) for record in split.records])


def noted(pictures: Iterator[Cases], records: list[np.ndarray]) -> Iterator[Cases]:
    """The same pictures; which image each is of is added to `records`."""
    for cases in pictures:
        records.append(cases.record)
        yield cases


@dataclass(frozen=True)
class Crops:
    """Pictures of each kind of a plan's images.

    Attributes:
        penalty: of the SVMs; None to choose it by cross-validation on the training pictures of each kind, those of one
            image, or of one group, in one fold.
    """

    plan: Plan
    network: Explained
    penalty: float | None = None

    def learn(self, pictures: Iterator[Cases]) -> tuple[LinearClasses, float]:
        """An SVM on pooled features of pictures, and its penalty."""
        if not self.plan.training:
            where = self.plan.split.description.yaml
            raise UserError("no training image has a box or a class", where=where, hint="give other data with --data")
        records: list[np.ndarray] = []
        features, labels = pooled_features(self.network, noted(pictures, records), self.plan.device)
        if self.penalty is not None:
            return fit_svm(features, labels, self.penalty), self.penalty
        groups = groups_of(self.plan.training)[np.concatenate(records)]
        penalty = validated(features, labels[:, None] == np.unique(labels), exclusive=True, groups=groups).penalty
        return fit_svm(features, labels, penalty), penalty

    def boxes(self, whole: LinearClasses, cases: Cases, labels: Tensor) -> list[np.ndarray | None]:
        """The box around what the SVM of each image's label sees most of."""
        maps = svm_maps(self.network, whole, cases.images.to(self.plan.device), labels)
        return boxes_from_maps(maps, above_share(SHARE))

    def guessed(self, whole: LinearClasses, cases: Cases) -> Tensor:
        """[N] the class that each image is held for."""
        return torch.from_numpy(whole.predict(pooled_features(self.network, [cases], self.plan.device)[0]))

    def pictures(self, records: Sequence[Record], kind: str, whole: LinearClasses, *, known: bool) -> Iterator[Cases]:
        """Pictures of one of KINDS; `known`: crops by map look at the true class."""
        for cases in self.plan.cases(records, kind):
            if kind == "crop by box":
                yield cropped(cases, largest_boxes(cases))
            elif kind == "crop by map":
                labels = cases.labels if known else self.guessed(whole, cases)
                yield cropped(cases, self.boxes(whole, cases, labels))
            else:
                yield cases

    def right(self, whole: LinearClasses) -> dict[str, float]:
        """Share of the boxes around maps that are right, of the true and of the predicted class."""
        hits: dict[str, list[np.ndarray]] = {KNOWN: [], GUESSED: []}
        for cases in self.plan.cases(self.plan.split.records, "boxes"):
            for name, labels in ((KNOWN, cases.labels), (GUESSED, self.guessed(whole, cases))):
                hits[name].append(best_ious(self.boxes(whole, cases, labels), cases.boxes) >= CORRECT)
        return {name: float(np.concatenate(own).mean()) for name, own in hits.items()}


def crop_accuracies(plan: Plan, network: Explained, penalty: float | None = None) -> Studied:
    """What SVMs make of each kind of picture.

    The class whose map is cropped to is the true one in training, and the one that the whole image is held for in the
    test.
    """
    crops, boxed = Crops(plan, network, penalty), plan.split.description.boxed
    whole, chosen = crops.learn(plan.cases(plan.training, KINDS[0]))
    found, penalties = {}, {KINDS[0]: chosen}
    for kind in KINDS if boxed else KINDS[:2]:
        classes = whole
        if kind != KINDS[0]:
            classes, penalties[kind] = crops.learn(crops.pictures(plan.training, kind, whole, known=True))
        test = crops.pictures(plan.split.records, kind, whole, known=False)
        features, labels = pooled_features(network, test, plan.device)
        found[kind] = float((classes.predict(features) == labels).mean())
    return Studied(found | (crops.right(whole) if boxed else {}), penalties, whole)


def save_boxes(plan: Plan, network: Explained, whole: LinearClasses, path: Path) -> None:
    """Test images with the box around the map of the class that each is held for in red, the true one in green."""
    crops, page, titles = Crops(plan, network), list[np.ndarray](), list[str]()
    records, names = sample(list(plan.split.records), PICTURES // 2), plan.split.description.names
    for cases in plan.cases(records, "pictures", batch_size=1):
        if len(page) == PICTURES:
            break
        labels, height = crops.guessed(whole, cases), cases.images.shape[2]
        maps = svm_maps(network, whole, cases.images.to(plan.device), labels)
        shown = picture(cases.images[0])
        drawn = outlined(shown, cases.boxes[0], height) if plan.split.description.boxed else shown
        if (box := crops.boxes(whole, cases, labels)[0]) is not None:
            drawn = outlined(drawn, box[None], height, FOUND)
        page += [drawn, overlaid(shown, maps[0])]
        titles += [names[int(cases.labels[0])], f"as {names[int(labels[0])]}"]
    save_page(page, path, titles, columns=min(COLUMNS, len(page)))


def unlearned_labels(plan: Plan) -> list[str]:
    """The classes that test images have boxes of, and no training image."""
    known, asked = (
        {int(label) for record in records for label in record.labels[record.asked]}
        for records in (plan.training, plan.split.records)
    )
    return [plan.split.description.names[label] for label in sorted(asked - known)]


def add_penalty(parser: argparse.ArgumentParser) -> None:
    """The flag for the SVMs' penalty."""
    parser.add_argument("--penalty", type=above_zero, metavar="C", help="of the SVMs [chosen by cross-validation]")


def main() -> None:
    """Classify whole images and crops with each file."""
    parser = Parser(description="Linear SVMs on pooled features of whole images and of crops.")
    parser.add_argument("--weights", nargs="+", type=Path, required=True, help="backbone files")
    parser.add_argument("--data", type=Path, required=True, help="data yaml")
    parser.add_argument("--images", type=positive, help="only so many test images, drawn at random [all]")
    add_training(parser)
    add_penalty(parser)
    add_imgsz(parser)
    add_outputs(parser, "maps and boxes of the first file")
    arguments = parsed(parser)
    files = files_of(arguments.weights, arguments.imgsz)
    description = with_levels(load_description(arguments.data), files[0].levels)
    split = whole_images(read_unseen(description))
    plan = prepare(files, split, images=arguments.images)
    known = learning(plan, 0) if description.boxed else whole_images(read_training(description, split.name)).records
    plan = replace(plan, training=learning_from(known, arguments.training))
    for note in plan.notes:
        print(note)
    rows, lost = [], unlearned_labels(plan)
    if lost:
        print(f"not learned, because no training image has it: {', '.join(lost)}; their images count as wrong")
    for file in files:
        network = load_explained(file, plan)
        own = crop_accuracies(plan, network, arguments.penalty)
        rows.append({"line": file.method, "seed": file.seed, **own.accuracies, "penalties": own.penalties})
        if arguments.pictures and len(rows) == 1:
            save_boxes(plan, network, own.whole, arguments.pictures)
    print_rows(rows)
    if arguments.json:
        about = {
            "data": arguments.data.name,
            "training": len(plan.training),
            "test": len(plan.split.records),
            "not_learned": lost,
        }
        write_text(arguments.json, json_text({**about, "rows": rows}, indent=1))


def print_rows(rows: Sequence[dict[str, object]]) -> None:
    """A line for each file."""
    kinds = [kind for kind in (*KINDS, KNOWN, GUESSED) if kind in rows[0]]
    print(f"{'features':<16}{'seed':>5}" + "".join(f"{kind:>22}" for kind in kinds))
    for row in rows:
        print(f"{row['line']:<16}{row['seed']:>5}" + "".join(f"{row[kind]:>22.3f}" for kind in kinds))


if __name__ == "__main__":
    run_cli(main)
