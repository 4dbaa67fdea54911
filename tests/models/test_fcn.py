import pytest
import torch
from torch.nn.functional import interpolate

from models.backbone import Backbone
from models.backbones import make_backbone
from models.fcn import FCN, FCNS, Enlarge
from models.segmenter import winners
from utils.errors import UserError
from utils.letterbox import Letterbox


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
@pytest.mark.parametrize("learnt", [True, False])
def test_deconvolution_begins_as_bilinear_interpolation(stride: int, learnt: bool) -> None:
    x = torch.randn(2, 3, 5, 7)
    wanted = interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Enlarge(3, stride, learnt=learnt)(x), wanted)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [*(("darknet53", head) for head in ("fcn32s", "fcn16s", "fcn8s", "fcn8s:fixed")), ("timm/test_resnet", "fcn32s")],
)
def test_scores_are_sums_of_enlarged_scores(backbone: str, head: str) -> None:
    """What an FCN says at first is its linear scores of each tap, enlarged by bilinear interpolation and added."""
    model = FCN(make_backbone(backbone, 0.125 if backbone == "darknet53" else 1), 4, FCNS.choose(head)).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        taps = model.backbone(images)[::-1]
        x = model.scores[0](taps[0])
        for score, tap in zip(model.scores[1:], taps[1:], strict=False):
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) + score(tap)
        wanted = interpolate(x, size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)
    assert len(model.scores) == {"fcn32s": 1, "fcn16s": 2}.get(head, 3)


def test_what_learns() -> None:
    for head, learns in (("fcn16s", True), ("fcn16s:fixed", False)):
        model = FCN(make_backbone("darknet53", 0.0625), 3, FCNS.choose(head)).train()
        model(torch.rand(2, 3, 64, 64)).square().mean().backward()
        assert {own.weight.grad is not None for own in model.enlarge} == {learns}
        assert all(own.weight.grad is not None for own in model.scores)


def test_a_backbone_without_the_taps() -> None:
    with pytest.raises(UserError, match="fcn8s reads features at stride 32, 16, 8; the backbone has 0 taps"):
        FCN(make_backbone("cnn6", 0.125), 3, FCNS.choose("fcn8s"))
    two = Backbone([torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1)], [4, 4], (2,), (1, 2))
    FCN(two, 3, FCNS.choose("fcn16s"))
    with pytest.raises(UserError, match="the backbone has 2 taps — give one that has them"):
        FCN(two, 3, FCNS.choose("fcn8s"))


@pytest.mark.parametrize("size_hw", [(64, 64), (50, 100), (200, 33)])
def test_winners_are_the_best_of_interpolated_scores(size_hw: tuple[int, int]) -> None:
    scores, box = torch.randn(5, 64, 64), Letterbox.fit(size_hw, 64)
    inner = scores[:, box.top : box.top + box.size_hw[0], box.left : box.left + box.size_hw[1]]
    wanted = interpolate(inner[None], size_hw, mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(torch.from_numpy(winners(scores, 64, size_hw)).long(), wanted)
