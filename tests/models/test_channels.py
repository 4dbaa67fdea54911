import pytest
import torch

from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.channels import RGB, check_channels, fitted, with_channels
from models.plan import shapes_at
from utils.errors import UserError

OTHERS = ("timm/resnet18", "timm/vit_tiny_patch16_224", "torchvision/mobilenet_v3_small")


@pytest.mark.parametrize("name", [*BACKBONES, *OTHERS])
def test_any_backbone_takes_one_channel(name: str) -> None:
    with torch.device("meta"):
        one, three = make_backbone(name, channels=1), make_backbone(name)
    assert (one.in_channels, three.in_channels) == (1, 3)
    assert shapes_at(one, (224, 224)) == shapes_at(three, (224, 224))
    fewer = sum(own.numel() for own in three.parameters()) - sum(own.numel() for own in one.parameters())
    first = next(own for own in one.parameters() if own.dim() == 4)
    assert fewer == 2 * first.numel()


@torch.no_grad()
def test_one_channel_is_what_three_equal_ones_were() -> None:
    three = make_backbone("darknet53", 0.125).eval()
    state = {name: own.clone() for name, own in three.state_dict().items()}
    grey = torch.rand(2, 1, 64, 64)
    wanted = three(grey.expand(-1, 3, -1, -1))
    one = make_backbone("darknet53", 0.125, 1).eval()
    one.load_state_dict(fitted(state, one))  # weights for RGB, as files elsewhere hold them
    for own, other in zip(one(grey), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_what_has_no_convolution_for_rgb_is_refused() -> None:
    blocks = [torch.nn.Conv2d(4, 8, 3)]
    with pytest.raises(UserError, match="no convolution that takes RGB"):
        with_channels(Backbone(blocks, [8], (1,), ()), 1)
    with pytest.raises(UserError, match="takes pictures of 1 channel, and the data have 3"):
        check_channels(torch.zeros(1, RGB, 4, 4), 1, "best.pt")
