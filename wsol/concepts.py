"""Detectors of concepts, learned from pictures that are said to have them, and where they see them.

`python -m wsol.concepts --weights FILE --data YAML` learns a detector of each class, word or phrase from images that
have it or not, by hard negative mining, and judges it on held-out images (Zhou et al., arXiv 1512.04150, §4.2). Any
data will do: with classes, with boxes, with captions (`format: coco_captions`), or two folders of pictures, one
with what is looked for, such as text, and one without.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import average_precision_score

from data.captions import words
from data.parsing import class_index
from data.records import Record
from maps.boxes_from_maps import above_share, best_ious, boxes_from_maps
from maps.cases import Cases
from maps.kinds import Explained
from maps.networks import load_explained
from maps.overlay import FOUND, outlined, overlaid, picture
from maps.plan import Plan
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from wsol.features import add_training, around, described, evidence_of, parsed, parser_of, planned, tagged
from wsol.patterns import Concept, learn_concept

ROWS, COLUMNS = 8, 5  # of the page of pictures
SHARE, CORRECT = 0.2, 0.5  # of a map's maximum; IoU
MANY = 300  # images whose maps are judged, at most


@dataclass(frozen=True)
class Finding:
    """What became of a concept.

    Attributes:
        training, held_out: images that have it.
        related: training images that are no negatives: their captions have some of its words.
        precision: average precision on held-out images; None where none has it.
        chance: that of a detector that guesses.
        boxes: share of the boxes around the maps of held-out images that have it with an IoU of at least 0.5; None
            where there are no boxes.
        pointed: share of these images whose map is highest inside a true box.
        covered: what a point drawn at random would reach: the mean area of the true boxes over that of the image.
    """

    concept: str
    training: int
    related: int
    held_out: int
    precision: float | None
    chance: float
    boxes: float | None = None
    pointed: float | None = None
    covered: float | None = None


def related_to(name: str, records: Sequence[Record]) -> np.ndarray:
    """[N] bool: which images have a caption with a word of a phrase; words such as `the` are passed over."""
    wanted = set(words(name)) - ENGLISH_STOP_WORDS or set(words(name))
    return np.array([any(wanted & set(words(text)) for text in record.captions) for record in records], bool)


def judged(own: Concept, finding: Finding, features: np.ndarray, true: np.ndarray) -> Finding:
    """A concept on images that it was not learned from."""
    precision = float(average_precision_score(true, own.scores(features))) if true.any() else None
    return Finding(finding.concept, finding.training, finding.related, int(true.sum()), precision, float(true.mean()))


def seen_by(network: Explained, plan: Plan, own: Concept, cases: Cases) -> np.ndarray:
    """[B, H, W] where a concept is seen."""
    return evidence_of(network, own.weights[None].repeat(len(cases), 0), cases.images.to(plan.device))


def located(network: Explained, plan: Plan, own: Concept, tag: int, finding: Finding) -> Finding:
    """The finding with what the maps are worth on held-out images that have boxes of the concept."""
    boxed = [record for record in plan.split.records if (record.labels == tag).any()][:MANY]
    hits, points, areas = [], [], []
    for cases in plan.cases(boxed, finding.concept) if boxed else ():
        if not len(cases := cases.at(np.flatnonzero(cases.labels.numpy() == tag).tolist())):
            continue
        maps = seen_by(network, plan, own, cases)
        hits += (best_ious(boxes_from_maps(maps, above_share(SHARE)), cases.boxes) >= CORRECT).tolist()
        highest = maps.reshape(len(maps), -1).argmax(1)
        points += cases.truth.reshape(len(maps), -1)[np.arange(len(maps)), highest].tolist()
        areas += cases.truth.mean((1, 2)).tolist()
    if not hits:
        return finding
    return Finding(**(asdict(finding) | {
        "boxes": float(np.mean(hits)), "pointed": float(np.mean(points)), "covered": float(np.mean(areas)),
    }))  # fmt: skip


def drawn(network: Explained, plan: Plan, own: Concept, tag: int, features: np.ndarray) -> Iterator[np.ndarray]:
    """The held-out images that a concept is surest of, under what it sees in them; true boxes green, found ones red."""
    for index in np.argsort(-own.scores(features))[:COLUMNS].tolist():
        record = plan.split.records[index]
        case = next(plan.images([around(record)], "pictures"))
        seen = seen_by(network, plan, own, case)
        shown = overlaid(picture(case.images[0]), seen[0])
        if (record.labels == tag).any():
            for true in plan.cases([record], "pictures"):  # none where only difficult boxes have the tag
                for place in np.flatnonzero(true.labels.numpy() == tag).tolist():
                    shown = outlined(shown, true.boxes[place], case.images.shape[2])
            if (box := boxes_from_maps(seen, above_share(SHARE))[0]) is not None:
                shown = outlined(shown, box[None], case.images.shape[2], FOUND)
        yield shown


def learned(network: Explained, plan: Plan, tags: Sequence[int], pictures: Path | None) -> list[Finding]:
    """A detector for each concept; the first ones are drawn."""
    names = plan.split.description.names
    known, asked = (tagged(records, len(names)) for records in (plan.training, plan.split.records))
    features = described(network, plan, plan.training, "training")
    held_out = described(network, plan, plan.split.records, "held out")
    findings, page = [], list[np.ndarray]()
    for place, tag in enumerate(tags):
        related = related_to(names[tag], plan.training) & ~known[:, tag]
        own = learn_concept(features, known[:, tag], names[tag], apart=related)
        counts = Finding(names[tag], int(known[:, tag].sum()), int(related.sum()), 0, None, 0.0)
        finding = judged(own, counts, held_out, asked[:, tag])
        findings.append(located(network, plan, own, tag, finding))
        if pictures and place < ROWS:
            page += list(drawn(network, plan, own, tag, held_out))
    if pictures:
        titles = [name for tag in tags[:ROWS] for name in (names[tag], *[""] * (min(COLUMNS, len(held_out)) - 1))]
        save_page(page, pictures, titles, columns=min(COLUMNS, len(held_out)))
    return findings


def wanted(plan: Plan, asked: Sequence[str] | None) -> list[int]:
    """The concepts that are asked for, or all that can be learned from the training images; says which cannot.

    Raises:
        UserError: an unknown one, or none is left.
    """
    names = plan.split.description.names
    if asked:
        return [class_index(name, names, "--tags") for name in asked]
    known = tagged(plan.training, len(names))
    negatives = [~(related_to(name, plan.training) | known[:, tag]) for tag, name in enumerate(names)]
    found = [tag for tag, own in enumerate(negatives) if own.any() and known[:, tag].any()]
    if rest := [name for index, name in enumerate(names) if index not in found]:
        print(f"not learned, because no training image has it, or none is without its words: {', '.join(rest)}")
    if not found:
        hint = "correct `names:`, or give images with and without them"
        raise UserError("no concept that some training images have and some not", where="--data", hint=hint)
    return found


def main() -> None:
    """Learn, judge, draw, print."""
    about = "Concept detectors on a network's last features, by hard negatives."
    data = "data yaml; its classes or phrases are the concepts"
    parser = parser_of(about, "the highest-scoring images of each concept", data=data)
    add_training(parser)
    parser.add_argument("--tags", nargs="+", metavar="TAG", help="only these [all that can be learned]")
    arguments = parsed(parser)
    files, data, images = [arguments.weights], arguments.data, arguments.images
    plan = planned(files, data, images, training=arguments.training, imgsz=arguments.imgsz)
    network = load_explained(plan.files[0], plan)
    findings = learned(network, plan, wanted(plan, arguments.tags), arguments.pictures)
    heads = ("AP", "chance", "boxes", "pointed", "covered")
    print(f"{'concept':<24}{'training':>9}{'held out':>9}" + "".join(f"{head:>9}" for head in heads))
    for own in findings:
        values = (own.precision, own.chance, own.boxes, own.pointed, own.covered)
        cells = "".join(f"{'–' if value is None else format(value, '.3f'):>9}" for value in values)
        print(f"{own.concept:<24}{own.training:>9}{own.held_out:>9}{cells}")
    if arguments.json:
        rows = [asdict(own) for own in findings]
        numbers = {"data": arguments.data.name, "training": len(plan.training), "concepts": rows}
        write_text(arguments.json, json_text(numbers, indent=1))


if __name__ == "__main__":
    run_cli(main)
