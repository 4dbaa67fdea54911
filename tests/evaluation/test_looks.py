import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Script, Writer
from torch import Tensor

import val
from data.views import View
from evaluation.looks import CROPS, DENSE, SCALES, Classifiers, as_logits, logarithms
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import shapes_at
from utils.errors import UserError


@pytest.mark.parametrize("single_label", [True, False])
def test_means_are_of_probabilities(single_label: bool) -> None:
    """Over the looks at a size, then over sizes."""
    sizes = [torch.randn(4, 3, 5), torch.randn(4, 3, 2)]
    shares = [own.softmax(1) if single_label else own.sigmoid() for own in sizes]
    wanted = torch.stack([own.mean(-1) for own in shares]).mean(0)
    found = as_logits([logarithms(own, single_label=single_label) for own in sizes], single_label=single_label)
    torch.testing.assert_close(found.softmax(1) if single_label else found.sigmoid(), wanted)
    far = logarithms(torch.tensor([[[300.0], [-300.0]]]), single_label=single_label)
    assert as_logits([far], single_label=single_label).isfinite().all()


@torch.no_grad()
def test_ten_crops_are_the_corners_the_middle_and_their_mirrors() -> None:
    backbone = make_backbone("cnn6", 0.0625).eval()
    shape = shapes_at(backbone, (32, 32))[-1]
    head, view = make_head("gap", shape, 3).eval(), View("pictures", 32)
    (larger,) = CROPS[10].views(view)
    assert (larger.imgsz, larger.fit) == (37, "letterbox")
    images = torch.rand(2, 3, 37, 37)

    def plain(x: Tensor) -> Tensor:
        found: Tensor = head(backbone.at(x, [6])[0])
        return found

    corners = [(0, 0), (0, 5), (5, 0), (5, 5), (2, 2)]
    cut = [images[..., y : y + 32, x : x + 32] for y, x in corners]
    wanted = [plain(part) for part in cut] + [plain(part.flip(3)) for part in cut]
    for count, parts in ((5, wanted[:5]), (10, wanted)):
        (found,) = CROPS[count].network(Classifiers(backbone, [head], [6], [shape], view)).eval()(images)
        assert found.shape == (2, 3, count)
        together = found.softmax(1).sum(2)
        torch.testing.assert_close(together, torch.stack(parts).softmax(2).sum(0), atol=1e-3, rtol=1e-4)


def test_sizes_of_overfeat() -> None:
    sizes = [own.imgsz for own in DENSE.views(View("pictures", 221, "center"))]
    assert sizes == [245, 281, 317, 389, 425, 461]
    assert {own.fit for own in DENSE.views(View("pictures", 221, "center"))} == {"square"}
    assert len(SCALES) == 6


def test_lines_of_each_look(
    written: Writer, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("cl3", backbone="cnn6", k=3, imgsz=32, view={"source": "pictures", "imgsz": 32, "fit": "center",
                                                               "context": 0.0})  # fmt: skip
    flags = ["--weights", path, "--project", tmp_path, "--bootstrap", 0, "--device", "cpu", "--task", "val"]
    script(val, "--accuracy", "--dense", "--crops", 10, 5, *flags)
    figures = json.loads((tmp_path / "val" / "exp" / "accuracy.json").read_text())
    lines = ["cl3", "cl3, 5 crops", "cl3, 10 crops", "cl3, dense"]
    assert [row["method"] for row in figures["rows"]] == [line for line in lines for _ in range(3)]
    assert all(row["ms"] > 0 for row in figures["rows"])
    assert "Milliseconds an image, without reading it: cl3: " in capsys.readouterr().out
    assert not np.isnan([row["metrics"]["auc"] for row in figures["rows"]]).any()
    with pytest.raises(UserError, match="is for --accuracy, and this is --map"):
        script(val, "--map", "--dense")
