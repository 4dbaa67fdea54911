import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Script, content_of, write_yaml
from PIL import Image

import val
from models.heads import make_head
from utils import checkpoint
from utils.errors import UserError
from wsol import mining_tables
from wsol.acc_afp import Guess
from wsol.ranked import Published, Ranked, ranked_table, read_published, walk, walk_everywhere

FINDINGS = ["Effusion", "Mass"]
HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID\n"


def write_published(root: Path, boxed: tuple[str, ...] = ("00000007_000.png", "00000008_000.png")) -> Path:
    """ChestX-ray14 as published: boxes in the test list alone; returns its data yaml."""
    draw, rows = np.random.default_rng(0), []
    (root / "images").mkdir()
    names = [f"{number:08d}_000.png" for number in range(10)]
    for number, name in enumerate(names):
        Image.fromarray(draw.integers(0, 255, (64, 64), dtype=np.uint8)).save(root / "images" / name)
        finding = "No Finding" if number == 9 else ("Effusion", "Mass|Effusion", "No Finding")[number % 3]
        rows.append(f"{name},{finding},0,{number}")
    (root / "Data_Entry_2017.csv").write_text(HEADER + "\n".join(rows) + "\n")
    boxes = [f"{name},{FINDINGS[number % 2]},{200 * number},100,400,500,," for number, name in enumerate(boxed)]
    (root / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + "\n".join(boxes) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(names[:6]) + "\n")
    (root / "test_list.txt").write_text("\n".join(names[6:]) + "\n")
    splits = {"train": "train_val_list.txt", "val": None, "test": "test_list.txt"}
    return write_yaml(root / "nih.yaml", path=str(root), format="chestxray", names=FINDINGS, **splits)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_published(tmp_path)


def trained(data: Path, folder: Path) -> Path:
    """A backbone file of these findings, untrained."""
    content = content_of(data, "e2e", 0, "cnn6", 6, 64, "gap")
    heads = [make_head("gap", tuple(shape), len(FINDINGS), convs=1).state_dict() for shape in content["shapes"]]
    checkpoint.save(folder / "e2e.pt", content | {"names": FINDINGS, "heads": heads})
    return folder / "e2e.pt"


def test_chest_xrays_as_published(
    script: Script, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the test list has boxes: mined by their labels, judged by their boxes, up to published false positives."""
    weights = trained(published, tmp_path)
    own = [
        "--localise",
        "--weights",
        weights,
        "--data",
        published,
        "--bootstrap",
        0,
        "--untrained",
        1,
        "--device",
        "cpu",
    ]
    project = ["--project", tmp_path / "runs"]
    reference = tmp_path / "reference.csv"
    lines = [f"ref,{label},{iou},0.5,{afp}" for label in FINDINGS for iou, afp in ((0.1, 0.4), (0.3, 9))]
    reference.write_text("method,class,iou,accuracy,afp\n" + "\n".join(lines))
    methods = ["cam@0.5", "mining:epochs=1:steps=2:images=0@0.5", "mining:epochs=1:steps=2:vanilla:batch_size=4@0.5"]
    script(val, *own, *project, "--method", *methods, "--reference", reference)
    folder = tmp_path / "runs" / "val" / "exp"
    content = json.loads((folder / "localisers.json").read_text())
    assert {row["method"] for row in content["rows"]} == set(methods)
    assert all("v2" not in row["values"] for row in content["rows"])
    areas = [row["bounds"].get("auc") for row in content["rows"] if row["method"].startswith("mining")]
    assert all(0 <= area <= 1 for area in areas)
    lists = [row for row in content["ranked"] if row["line"] != "reference"]
    assert len(lists) == len(content["rows"]) * 4
    assert all(row["afp"] <= 0.4 for row in lists if row["iou"] == 0.1)
    trained_rows = [row for row in lists if row["line"] == "e2e" and row["iou"] == 0.3]
    free = {(row["method"], row["label"]): row["accuracy"] for row in trained_rows}
    every = {row["method"]: row["values"] for row in content["rows"] if row["line"] == "e2e"}
    assert all(value == every[name][f"accuracy/{label}/0.3"]["mean"] for (name, label), value in free.items())
    capsys.readouterr()
    script(mining_tables, folder / "localisers.json", "--report", tmp_path / "tables.md")
    said = capsys.readouterr().out
    lines, *_ = mining_tables.read_lines(folder / "localisers.json")
    assert mining_tables.once([*lines, *lines]) == lines, "two files have the rows of CAM"
    assert re.search(r"64-baseline +e2e", said)
    assert re.search(r"0.1 +ref +reference +0.50-0.40 +0.50-0.40", said)
    assert re.search(r"AM +0.1 +t=1 .*\n.*AM +0.1 +t=2", said)
    assert re.search(r"KP +0.3 +KP-Vanilla .*\n.*KP +0.3 +KP ", said)
    assert "| T(IoU) | method |" in (tmp_path / "tables.md").read_text()
    for text in (said, (tmp_path / "tables.md").read_text(), (folder / "localisers.md").read_text()):
        assert "False positives are over the true boxes of the class" in text
    page = (folder / "localisers.md").read_text()
    assert (
        "there is no mean box to compare with.\ncentre-box, mean-box, pixels learn from such boxes and are left out."
        in page
    )
    for name in ("mining", "sensitivity"):
        with pytest.raises(UserError, match=rf"--method: {name} learns from boxes, and no training image of nih.yaml"):
            script(val, *own, *project, "--method", name)
    with pytest.raises(UserError, match=r"--reference: is for --method"):
        script(val, *own, *project, "--reference", reference)
    with pytest.raises(UserError, match=r"--reference-over: is for --reference"):
        script(val, *own, *project, "--method", "cam@0.5", "--reference-over", "all")
    asked = ["--method", "cam@0.5", "--reference", reference, "--reference-over", "all", "--name", "all"]
    script(val, *own, *project, *asked)
    capsys.readouterr()
    script(mining_tables, folder.with_name("all") / "localisers.json")
    assert "Table 2: False positives are over the boxes of all classes, in all images" in capsys.readouterr().out


def boxes_of(image: int, *corners: tuple[int, int, int, int]) -> list[Guess]:
    return [Guess(image, rank, np.array(one, np.float32)) for rank, one in enumerate(corners)]


def test_both_ways_to_count_false_positives() -> None:
    """Image 3 has a box of each class, image 5 one of the other: two wrong boxes and one elsewhere."""
    right, wrong = (0, 0, 10, 10), (50, 50, 60, 60)
    truth = [np.array([right]), np.array([wrong]), np.array([wrong, right])]
    guesses = [*boxes_of(0, wrong, right), *boxes_of(1, right), *boxes_of(2, right)]
    maps = SimpleNamespace(truth=truth, guesses=guesses, elsewhere={0: boxes_of(5, right), 1: []})
    trial: Any = SimpleNamespace(maps=maps, line="e2e", seed=0)
    chances = np.full((6, 2), np.nan)
    chances[3, 0], chances[5, 0] = 0.2, 0.9
    network = SimpleNamespace(line="e2e", seed=0, scores=np.zeros(3), chances=chances)
    cases = np.array([[3, 0], [3, 1], [5, 1]])
    comparison: Any = SimpleNamespace(cases=cases, true_boxes=np.array([1, 1, 2]), networks=[network])
    free, half = (Published("", "", 0.5, 0, afp) for afp in (9, 0.25))
    assert walk(comparison, trial, 0, free) == (1, 1)
    assert walk(comparison, trial, 0, half) == (0, 0)
    assert walk_everywhere(comparison, trial, 0, free) == (1, 0.5)
    assert walk_everywhere(comparison, trial, 0, half) == (0, 0.25), "the surer image comes first, and is wrong"


def test_what_fits_nothing(script: Script, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    data = write_published(tmp_path / "set", boxed=("00000007_000.png",))
    own = ["--localise", "--weights", trained(data, tmp_path), "--data", data, "--device", "cpu", "--method", "cam@0.2"]
    with pytest.raises(UserError, match=r"--targets: no box of Mass in the 1 images of `test` that are explained"):
        script(val, *own, "--targets", *FINDINGS)
    boxes = tmp_path / "set" / "BBox_List_2017.csv"
    text = boxes.read_text()
    boxes.write_text(text.replace("00000007_000", "elsewhere"))
    with pytest.raises(UserError, match=r"BBox_List_2017.csv: none of its 1 images is in the table of findings"):
        script(val, *own)
    boxes.write_text(text.replace("00000007_000", "00000001_000"))
    with pytest.raises(UserError, match=r"no image of `test` has a box"):
        script(val, *own)
    wrong = {"a,b\n": "no column method, class", "method,class,iou,accuracy,afp\nx,Mass,1,2,high\n": "three numbers"}
    wrong |= {"method,class,iou,accuracy,afp\nx,Hernia,0.1,0.2,0.3\n": "has Hernia, none of the classes"}
    for content, what in wrong.items():
        boxes.write_text(content)
        with pytest.raises(UserError, match=what):
            read_published(boxes, FINDINGS)


def test_two_sizes_in_one_table() -> None:
    one = Ranked("cam", "cl3", "Mass", 0.1, 0.2, 0.3)
    other = replace(one, accuracy=0.8)
    assert ranked_table([one, one])[1] == ["0.1", "cam", "cl3", "0.20-0.30"]
    with pytest.raises(UserError, match=r"cam of cl3 at 0\.1 is 0\.20-0\.30 and 0\.80-0\.30 for Mass"):
        ranked_table([one, other])


def test_published_reference() -> None:
    found = read_published(ROOT / "configs" / "chestxray8.csv", ["Mass", "Nodule"])
    assert len(found) == 32
    whole = [round(own.afp * 984) / 984 - own.afp for own in found]  # false boxes over all 984
    assert np.mean(np.abs(whole) < 1e-4) > 0.9
