import csv
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import DIGITS, Script, Writer
from PIL import Image
from torchvision import tv_tensors

import detect
from data.transforms import eval_transform
from evaluation.accuracy import BackboneFile, load_backbone_and_heads
from evaluation.classifier import load_classifier
from utils import checkpoint
from utils.errors import UserError
from utils.images import read_rgb

NO_BOX = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(256, 256))  # type: ignore[call-overload]


def test_the_likeliest_classes_of_a_folder(
    written: Writer, script: Script, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = written("cl3", backbone="cnn6", k=3, imgsz=32), tmp_path / "photos"
    folder.mkdir()
    for name in ("test_00000.jpg", "test_00001.jpg"):
        (folder / name).write_bytes((scenes / "JPEGImages" / name).read_bytes())
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8none")
    flags = (
        "--weights",
        path,
        "--source",
        folder,
        "--save-csv",
        "--save-json",
        "--project",
        tmp_path,
        "--device",
        "cpu",
    )
    script(detect, "--classify", *flags)
    out, made = capsys.readouterr().out, tmp_path / "detect" / "exp"
    found = json.loads((made / "classes.json").read_text())
    rows = list(csv.DictReader((made / "classes.csv").read_text().splitlines()))
    assert "left out" in out
    assert [len(own["classes"]) for own in found] == [10, 10]  # of 15: there are no more
    assert len(rows) == 20
    assert sorted(one["name"] for one in found[0]["classes"]) == DIGITS
    assert {path.name for path in made.iterdir()} >= {"test_00000.jpg", "test_00001.jpg"}
    own = BackboneFile.of(path, checkpoint.load(path, "backbone"))
    backbone, heads = load_backbone_and_heads(own)
    network = torch.nn.Sequential(*backbone.blocks, heads[-1]).eval()
    image = eval_transform(32)(
        tv_tensors.Image(torch.from_numpy(read_rgb(folder / "test_00000.jpg")).permute(2, 0, 1)), NO_BOX
    )
    with torch.inference_mode():
        logits = network(image[0][None].float() / 255)[0]
    best = found[0]["classes"]
    assert [one["class"] for one in best] == logits.argsort(descending=True).tolist()
    torch.testing.assert_close(torch.tensor([one["logit"] for one in best]), logits.sort(descending=True).values)
    torch.testing.assert_close(
        torch.tensor([one["score"] for one in best]), logits.sigmoid().sort(descending=True).values
    )
    assert f"#1   ({best[0]['logit']:.2f})" in out
    assert [float(row["logit"]) for row in rows[:10]] == [one["logit"] for one in best]


def test_objects_are_seen_whole(written: Writer) -> None:
    """Who learnt from objects is shown the picture as one of them."""
    cut = {"source": "objects", "imgsz": 32, "fit": "window", "context": 0.5}
    classifier = load_classifier(written("cl3", backbone="cnn6", k=3, imgsz=32, view=cut))
    assert (classifier.view.source, classifier.view.fit, classifier.view.imgsz) == ("pictures", "letterbox", 32)
    found = list(classifier.stream([Image.new("RGB", (40, 90))] * 3, top=4, batch_size=2))
    assert [len(own) for own in found] == [4, 4, 4]
    assert found[0].plot().size == (40, 90)


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--classify", "--conf-thres", "0.3"], "--conf-thres: FILE is a classifier, which does not look at it"),
        (["--classify", "--save-txt"], "--save-txt: FILE is a classifier"),
        (["--top", "3"], "--top: is for --classify"),
        ([], "FILE: holds a classifier — give --classify, or a detector or segmenter"),
    ],
)
def test_flags_of_others(written: Writer, script: Script, tmp_path: Path, flags: list[str], what: str) -> None:
    path = written("cl3", backbone="cnn6", k=3, imgsz=32)
    with pytest.raises(UserError, match=re.escape(what.replace("FILE", str(path)))):
        script(detect, "--weights", path, "--project", tmp_path, *flags)
    assert not (tmp_path / "detect").exists()
