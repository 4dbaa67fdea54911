"""Pooled features with a linear SVM: accuracy, maps of its weights, and accuracy on crops (Zhou et al., §4).

`python -m wsol.deep_features --weights FILE… --data YAML` classifies whole images, crops around maps and, where
there are boxes, crops around the true ones, each with a classifier of its own: table 4 of arXiv 1512.04150 on any data.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

from data.description import load_description
from data.formats import read_split
from data.levels import with_levels
from data.records import Record, Split
from evaluation.accuracy import read_backbones
from maps.boxes_from_maps import above_share, boxes_from_maps
from maps.cases import Cases
from maps.kinds import Explained
from maps.networks import load_explained
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES, prepare, sample
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text

C, SHARE = 1.0, 0.2
KINDS = ("whole image", "crop by map", "crop by box")


@dataclass(frozen=True)
class LinearClasses:
    """One linear function of pooled features for each class that was seen: weights [classes, D], bias [classes]."""

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """[N, classes] of features [N, D]."""
        return np.asarray(unit(features) @ self.weights.T + self.bias)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """[N] class indices."""
        return np.asarray(self.classes[self.scores(features).argmax(1)])


def fit_svm(features: np.ndarray, labels: np.ndarray, penalty: float = C) -> LinearClasses:
    """A linear SVM for each class against the others, on features [N, D] of unit length.

    Raises:
        UserError: there is but one class.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise UserError("one class", where="SVM", hint="give images of two classes at least")
    svm = LinearSVC(C=penalty).fit(unit(features), labels)
    if len(classes) == 2:  # scikit-learn keeps one function for both
        return LinearClasses(classes, np.stack([-svm.coef_[0], svm.coef_[0]]), np.array([-1, 1]) * svm.intercept_)
    return LinearClasses(classes, svm.coef_, svm.intercept_)


def unit(features: np.ndarray) -> np.ndarray:
    """[N, D] each over its length."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


@torch.no_grad()
def feature_maps(network: Explained, images: Tensor) -> Tensor:
    """[B, D, h, w] at the last cut, behind its pool."""
    return network.features(images)[-1]


def pooled_features(network: Explained, parts: Iterable[Cases], device: str) -> tuple[np.ndarray, np.ndarray]:
    """[N, D] pooled features and [N] class of each case."""
    found = [(feature_maps(network, c.images.to(device)).mean((2, 3)).cpu().numpy(), c.labels.numpy()) for c in parts]
    features, labels = (np.concatenate(column) for column in zip(*found, strict=True))
    return features, labels


def svm_maps(network: Explained, classes: LinearClasses, images: Tensor, labels: Tensor) -> np.ndarray:
    """[B, H, W] where the SVM of each image's class sees it, at the image's size; zero for a class unknown to it."""
    place = {int(own): index for index, own in enumerate(classes.classes)}
    nothing = np.zeros(classes.weights.shape[1])
    rows = [classes.weights[place[own]] if own in place else nothing for own in labels.tolist()]
    weights = torch.from_numpy(np.stack(rows)).to(images)
    raw = torch.einsum("bd,bdhw->bhw", weights, feature_maps(network, images))
    size = images.shape[2:]
    return network.evidence(raw, -1, size, pooled=True).at(*size).maps.cpu().numpy()


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
    return replace(split, records=[around(record, classes_of(record)) for record in split.records])


def classes_of(record: Record) -> np.ndarray:
    """What the data set says of an image, else what its boxes do."""
    return record.labels if record.classes is None else record.classes


def around(record: Record, labels: np.ndarray) -> Record:
    """The image with a box around all of it for each label, in place of its own."""
    boxes = np.tile(np.array([0, 0, *record.size_hw[::-1]], np.float32), (len(labels), 1))
    difficult = np.zeros(len(labels), bool)
    return replace(record, boxes_xyxy=boxes, labels=labels, difficult=difficult, crowd=None, areas=None)


def crop_accuracies(plan: Plan, network: Explained) -> dict[str, float]:
    """Kind of picture → fraction of the test images whose class a linear SVM, trained on such pictures, predicts.

    The class whose map is cropped to is the true one in training, and the one that the whole image is held for in the
    test.
    """
    whole = fit_svm(*pooled_features(network, plan.cases(plan.training, KINDS[0]), plan.device))

    def pictures(records: Sequence[Record], kind: str, *, known: bool) -> Iterator[Cases]:
        for cases in plan.cases(records, kind):
            if kind == "crop by box":
                yield cropped(cases, largest_boxes(cases))
            elif kind == "crop by map":
                labels = cases.labels if known else guessed(network, whole, cases, plan.device)
                maps = svm_maps(network, whole, cases.images.to(plan.device), labels)
                yield cropped(cases, boxes_from_maps(maps, above_share(SHARE)))
            else:
                yield cases

    found: dict[str, float] = {}
    for kind in KINDS if plan.split.description.boxed else KINDS[:2]:
        classes = fit_svm(*pooled_features(network, pictures(plan.training, kind, known=True), plan.device))
        test = pictures(plan.split.records, kind, known=False)
        features, labels = pooled_features(network, test, plan.device)
        found[kind] = float((classes.predict(features) == labels).mean())
    return found


def guessed(network: Explained, classes: LinearClasses, cases: Cases, device: str) -> Tensor:
    """[N] the class that each image is held for."""
    return torch.from_numpy(classes.predict(pooled_features(network, [cases], device)[0]))


def main() -> None:
    """Classify whole images and crops with each file."""
    parser = argparse.ArgumentParser(description="Linear SVMs on pooled features of whole images and of crops.")
    parser.add_argument("--weights", nargs="+", type=Path, required=True, help="backbone files")
    parser.add_argument("--data", type=Path, required=True, help="data yaml")
    parser.add_argument("--images", type=int, help="only so many test images, drawn at random [all]")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    files = read_backbones(arguments.weights)
    description = with_levels(load_description(arguments.data), files[0].levels)
    split = whole_images(read_split(description, description.held_out))
    plan = prepare(files, split, images=arguments.images)
    if not description.boxed:
        known = whole_images(read_split(description, "train")).records
        plan = replace(plan, training=sample(known, TRAINING_IMAGES))
    rows = [
        {"line": file.method, "seed": file.seed, **crop_accuracies(plan, load_explained(file, plan))} for file in files
    ]
    kinds = [kind for kind in KINDS if kind in rows[0]]
    print(f"{'features':<16}{'seed':>5}" + "".join(f"{kind:>14}" for kind in kinds))
    for row in rows:
        print(f"{row['line']:<16}{row['seed']:>5}" + "".join(f"{row[kind]:>14.3f}" for kind in kinds))
    if arguments.json:
        write_text(arguments.json, json_text({"data": arguments.data.name, "rows": rows}, indent=1))


if __name__ == "__main__":
    run_cli(main)
