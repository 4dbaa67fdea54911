import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import SHARED, write_yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.description import load_description
from data.formats import read_split, read_unseen
from data.records import Record
from evaluation.average_precision import write_for_others
from evaluation.curves import Ranking, best_point
from evaluation.detection_figures import detection_metrics
from evaluation.evaluate import Numbers, coco_evaluation
from utils.boxes import Detections

FIXTURES = SHARED / "map_fixtures"
SIZES = ("small", "medium", "large")
TWELVE = ("map", "map50", "map75", *(f"map_{s}" for s in SIZES), *(f"mar_{n}" for n in (1, 10, 100, *SIZES)))


def record(boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> Record:
    own = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(
        Path("x.jpg"), (500, 500), own, np.array(labels, np.int64), np.array(difficult or [False] * len(labels), bool)
    )


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.long))


def metrics(records: list[Record], items: list[Detections], names: list[str]) -> dict:
    return detection_metrics(coco_evaluation(records, items, names), records, items, names)


def test_perfect_detections() -> None:
    boxes = [[10.0, 10, 50, 60], [100, 100, 300, 300]]
    got = metrics([record(boxes, [0, 1])], [found(boxes, [0.9, 0.8], [0, 1])], ["a", "b", "c"])
    assert [got[key] for key in ("map", "map50", "map75", "voc07_ap50", "miou")] == pytest.approx([1] * 5)
    assert got["map_small"] is None
    assert got["per_class"]["c"] == {"map": None, "map50": None, "voc_ap50": None, "boxes": 0}
    assert [got[key] for key in ("voc_ap50", "f1", "precision", "recall")] == pytest.approx([1] * 4)
    assert 0 < got["best_confidence"] <= 0.8
    assert (got["images"], got["boxes"]) == (1, 2)


def test_nothing_found_and_nothing_there() -> None:
    nothing = found([], [], [])
    assert metrics([record([[10, 10, 50, 60]], [0])], [nothing], ["a"])["map"] == 0
    empty = metrics([record([], [])], [nothing], ["a"])
    assert empty["map"] is None
    assert empty["miou"] is None


def test_difficult_boxes_are_neither_demanded_nor_blamed() -> None:
    boxes = [[10.0, 10, 50, 60], [100, 100, 300, 300]]
    truth = record(boxes, [0, 0], [False, True])
    for boxes_found in (boxes, boxes[:1]):
        got = metrics([truth], [found(boxes_found, [0.8, 0.9][: len(boxes_found)], [0] * len(boxes_found))], ["a"])
        assert (got["map"], got["miou"]) == (pytest.approx(1), pytest.approx(1))
        assert got["per_class"]["a"]["boxes"] == got["boxes"] == 1


def test_all_that_is_found_on_a_difficult_box_is_left_out() -> None:
    """Two detections on one difficult box, as far apart as non-maximum suppression leaves them, as in VOC's devkit."""
    truth = record([[10.0, 10, 50, 60], [100, 100, 200, 200]], [0, 0], [False, True])
    boxes = [[80.0, 100, 180, 200], [120, 100, 220, 200], [10, 10, 50, 60]]
    got = metrics([truth], [found(boxes, [0.9, 0.8, 0.5], [0, 0, 0])], ["a"])
    assert [got[key] for key in ("map50", "voc07_ap50", "voc_ap50")] == pytest.approx([1] * 3)
    assert got["map75"] == pytest.approx(1 / 3), "at an IoU of 0.75 they are on nothing"
    near = record([[100.0, 100, 200, 200], [100, 100, 200, 165], [300, 300, 400, 400]], [0] * 3, [False, True, False])
    three = [[100.0, 100, 200, 200]] * 3 + [[300, 300, 400, 400]]
    beside = metrics([near], [found(three, [0.9, 0.8, 0.7, 0.6], [0] * 4)], ["a"])
    assert beside["map50"] < 0.9, "a third box on the same object is on no difficult one, and wrong"
    elsewhere = metrics([truth], [found([[300.0, 300, 400, 400], *boxes[2:]], [0.9, 0.5], [0, 0])], ["a"])
    assert elsewhere["map50"] == pytest.approx(0.5)


def test_the_best_confidence_is_one_of_the_best() -> None:
    """F1 is 2/3 above 0.6, where one of two boxes is found, and up to 0.2995, where both are among four detections."""
    own = Ranking(np.array([0.9, 0.6, 0.5, 0.2995]), np.array([True, False, False, True]), 2)
    best = best_point([own])
    assert best["f1"] == pytest.approx(2 / 3)
    assert best["best_confidence"] == pytest.approx(0.299)


def test_mean_iou_by_hand() -> None:
    truth = record([[0.0, 0, 10, 10], [100, 100, 120, 120], [200, 200, 210, 210]], [0, 1, 0])
    item = found([[0.0, 0, 10, 5], [100, 100, 120, 120], [200, 200, 210, 210]], [0.9, 0.9, 0.1], [0, 0, 0])
    # Half a box; the wrong class; too unsure.
    assert metrics([truth], [item], ["a", "b"])["miou"] == pytest.approx(0.5 / 3)


def load_fixture(name: str) -> tuple[list[Record], list[Detections]]:
    folder = FIXTURES / name
    truths, guesses = {}, {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".xml":
            boxes = [
                [float(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")]
                for item in ElementTree.parse(path).getroot().findall("object")
            ]
            truths[path.stem] = record(boxes, [0] * len(boxes))
        elif path.suffix == ".txt":
            rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
            numbers = np.array([[float(v) for v in row[1:]] for row in rows]).reshape(len(rows), -1)
            boxes = [[x, y, x + w, y + h] for x, y, w, h in numbers[:, -4:].tolist()]
            if rows and len(rows[0]) == 6:
                guesses[path.stem] = found(boxes, numbers[:, 0].tolist(), [0] * len(rows))
            else:
                truths[path.stem] = record(boxes, [0] * len(rows))
    names = sorted(truths.keys() | guesses.keys())
    return [truths.get(n, record([], [])) for n in names], [guesses.get(n, found([], [], [])) for n in names]


def by_files(records: list[Record], items: list[Detections], folder: Path) -> np.ndarray:
    """The twelve numbers of plain pycocotools through its own JSON files."""
    truth = {"images": [{"id": i} for i in range(len(records))], "categories": [{"id": 1}], "annotations": []}
    results = []
    for image, (own, item) in enumerate(zip(records, items, strict=True)):
        for x1, y1, x2, y2 in own.boxes_xyxy.tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            number = len(truth["annotations"]) + 1
            truth["annotations"].append(
                {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
        for (x1, y1, x2, y2), score in zip(item.boxes_xyxy.tolist(), item.scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    coco = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_equal_to_pycocotools_on_a_coco_file_with_crowds(tmp_path: Path) -> None:
    draw, boxes, guesses = np.random.default_rng(0), [], []
    for number in range(1, 13):
        Image.new("RGB", (400, 300)).save(tmp_path / f"{number:012}.jpg")
        for _ in range(8):
            x, y, w, h = (draw.uniform(0, 200), draw.uniform(0, 150), *draw.uniform(10, 150, 2))
            crowd, category = int(draw.random() < 0.3), int(draw.choice([3, 18]))
            own = {"image_id": number, "category_id": category, "bbox": [x, y, w, h]}
            boxes.append({**own, "id": len(boxes) + 1, "iscrowd": crowd, "area": w * h * draw.uniform(0.3, 1)})
            for _ in range(3 if crowd else 1):
                moved = [float(v) for v in np.array([x, y, w, h]) + draw.uniform(-8, 8, 4)]
                guesses.append({**own, "bbox": moved, "score": float(draw.random())})
    images = [{"id": number, "file_name": f"{number:012}.jpg", "width": 400, "height": 300} for number in range(1, 13)]
    kinds = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    content = {"images": images, "annotations": boxes, "categories": kinds}
    (tmp_path / "instances_own.json").write_text(json.dumps(content))
    (tmp_path / "guesses.json").write_text(json.dumps(guesses))
    keys = {"format": "coco", "names": None, "train": "instances_own.json", "val": None, "test": None}
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path), **keys))
    records = read_split(description, "train", strict=True).records
    items = []
    for number in range(1, 13):
        rows = [row for row in guesses if row["image_id"] == number]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
        items.append(found(corners, [row["score"] for row in rows], [int(row["category_id"] == 18) for row in rows]))
    coco = COCO(str(tmp_path / "instances_own.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "guesses.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    got = metrics(records, items, ["car", "dog"])
    assert [-1 if got[key] is None else got[key] for key in TWELVE] == pytest.approx(
        evaluation.stats.tolist(), abs=1e-6
    )
    assert 0.2 < got["map"] < 0.9


@pytest.mark.skipif(not FIXTURES.exists(), reason="the AP fixtures are not beside this checkout")
@pytest.mark.parametrize("name", ["test_case_1", "toy_cat12"])
def test_equal_to_pycocotools_on_published_fixtures(name: str, tmp_path: Path) -> None:
    records, items = load_fixture(name)
    assert sum(len(r.labels) for r in records) in (12, 15)
    got, wanted = metrics(records, items, ["thing"]), by_files(records, items, tmp_path)
    assert [-1 if got[key] is None else got[key] for key in TWELVE] == pytest.approx(wanted.tolist())
    assert got["map_by_iou"]["0.50"] == got["map50"]
    assert np.mean(list(got["map_by_iou"].values())) == pytest.approx(got["map"])


@pytest.mark.skipif(not FIXTURES.exists(), reason="the AP fixtures are not beside this checkout")
@pytest.mark.parametrize(("name", "slack"), [("test_case_1", 0.01), ("toy_cat12", 0.01)])
def test_voc_measures_are_close_to_the_published_values(name: str, slack: float) -> None:
    records, items = load_fixture(name)
    published = json.loads((FIXTURES / "expected_ap.json").read_text())[name]
    got = metrics(records, items, ["thing"])
    # The published values count pixels inclusively; half-open boxes move an IoU by a per cent or two.
    assert got["voc07_ap50"] == pytest.approx(published["11point"]["0.5"], abs=slack)
    assert got["voc_ap50"] == pytest.approx(published["every_point"]["0.5"], abs=slack)


def plain_curve(scores: list[float], hits: list[bool], demanded: int) -> tuple[float, float]:
    """Area under the envelope by rectangles, and the best F1 over all cuts, in plain loops."""
    points, found = [], 0
    for n, hit in enumerate(hits, 1):
        found += hit
        points.append((found / demanded, found / n))
    area = last = 0.0
    for recall, _ in points:
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area, max((2 * p * r / (p + r) for r, p in points if p + r), default=0.0)


@pytest.mark.parametrize("seed", range(5))
def test_curves_equal_plain_loops(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = np.sort(draw.choice(np.arange(1, 1000), 30, replace=False) / 1000)[::-1]
    hits = draw.random(30) < 0.6
    ranking = Ranking(scores, hits, int(hits.sum()) + 3)
    area, f1 = plain_curve(scores.tolist(), hits.tolist(), ranking.demanded)
    assert ranking.area_ap() == pytest.approx(area)
    assert best_point([ranking])["f1"] == pytest.approx(f1)
    assert best_point([ranking, Ranking(np.zeros(0), np.zeros(0, bool), 0)])["f1"] == pytest.approx(f1)


@pytest.mark.parametrize("ids", [[("left", 7), ("right", 3)], [(40, "b"), (12, "a")]])
@pytest.mark.parametrize("nothing", [False, True])
def test_json_for_others_keeps_the_ids_of_the_user_s(
    tmp_path: Path, ids: list[tuple[int | str, int | str]], nothing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both files load in pycocotools, the detections beside the user's own json too."""
    (images, categories), names = zip(*ids, strict=True), ["cat", "dog"]
    for number in range(2):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{number}.png")
    box = {"bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0}
    own = {
        "images": [
            {"id": number, "file_name": f"{n}.png", "width": 40, "height": 30} for n, number in enumerate(images)
        ],
        "categories": [{"id": number, "name": name} for number, name in zip(categories, names, strict=True)],
        "annotations": [{"id": 1, "image_id": images[1], "category_id": categories[1], **box}],
    }
    (tmp_path / "own.json").write_text(json.dumps(own))
    yaml = write_yaml(tmp_path / "d.yaml", path=".", format="coco", train="own.json", val=None, test=None, names=names)
    split = read_split(load_description(yaml), "train")
    sure = found([] if nothing else [[5.0, 5, 25, 15]], [] if nothing else [0.9], [] if nothing else [1])
    write_for_others(split, [found([], [], []), sure], tmp_path)
    rows = json.loads((tmp_path / "detections.json").read_text())
    if nothing:
        assert [(row["bbox"], row["score"]) for row in rows] == [([0, 0, 0, 0], 0)]
        assert "nothing was found" in capsys.readouterr().out
    else:
        assert [(row["image_id"], row["category_id"]) for row in rows] == [(images[1], categories[1])]
    for truth in ("own.json", "annotations.json"):
        coco = COCO(str(tmp_path / truth))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(0 if nothing else 1)


def coco_file(path: Path, images: list[int], categories: dict[str, int]) -> None:
    """A json of images of those ids, the pictures beside it, without annotations."""
    for number in images:
        Image.new("RGB", (40, 30)).save(path.parent / f"{path.stem}{number}.png")
    content = {
        "images": [{"id": own, "file_name": f"{path.stem}{own}.png", "width": 40, "height": 30} for own in images],
        "categories": [{"id": own, "name": name} for name, own in categories.items()],
        "annotations": [],
    }
    path.write_text(json.dumps(content))


def test_json_for_others_says_which_ids_are_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_file(tmp_path / "a.json", [40, 12], {"cat": 18})
    coco_file(tmp_path / "b.json", [12, 50], {"cat": 17, "dog": 3})
    names, parts = ["cat", "dog", "bird"], ["a.json", "b.json"]
    yaml = write_yaml(tmp_path / "d.yaml", path=".", format="coco", train=parts, val=None, test=None, names=names)
    split = read_split(load_description(yaml), "train")
    numbers = Numbers.of(split)
    assert (numbers.images, numbers.categories) == ([40, 12, 51, 50], [18, 3, 19])
    assert "b.json has other category ids than the json before it" in capsys.readouterr().out
    assert [line.split(" ", 1)[0] + line[line.index(":") :] for line in numbers.lines] == [
        "1: b12.png (51)",
        "1: bird (19)",
    ]


def test_json_for_others_of_pictures_held_out_of_training(tmp_path: Path) -> None:
    coco_file(tmp_path / "a.json", list(range(40, 52)), {"cat": 18})
    yaml = write_yaml(tmp_path / "d.yaml", path=".", format="coco", train="a.json", val=None, test=None, names=["cat"])
    split = read_unseen(load_description(yaml))
    assert split.name == "held out of train"
    assert Numbers.of(split).categories == [18]
