import pytest
import timm
import torch

from models.darknet import Classifier, DarkNet, DarkNetConfig


@pytest.fixture(scope="module")
def peer() -> torch.nn.Module:
    return timm.create_model("darknet53", pretrained=False)


def test_parameter_counts(peer: torch.nn.Module) -> None:
    backbone = DarkNet()
    count = sum(p.numel() for p in Classifier(backbone, 1000).parameters())
    assert sum(p.numel() for p in backbone.parameters()) == 40_584_928
    assert count == 41_609_928 == sum(p.numel() for p in peer.parameters())


def test_parameter_shapes_are_those_of_timm(peer: torch.nn.Module) -> None:
    own = sorted(tuple(p.shape) for p in Classifier(DarkNet(), 1000).parameters())
    assert own == sorted(tuple(p.shape) for p in peer.parameters())


def test_blocks_and_convolutions() -> None:
    backbone = DarkNet()
    assert len(backbone.blocks) == 23
    assert sum(isinstance(m, torch.nn.Conv2d) for m in backbone.modules()) == 52
    assert {m.negative_slope for m in backbone.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.1}


def test_tap_shapes_are_those_of_timm() -> None:
    images = torch.rand(1, 3, 64, 96)
    peer = timm.create_model("darknet53", pretrained=False, features_only=True, out_indices=(3, 4, 5)).eval()
    backbone = DarkNet().eval()
    with torch.inference_mode():
        assert [f.shape for f in backbone(images)] == [f.shape for f in peer(images)]
    assert backbone.taps == (11, 19, 23)


def test_same_numbers_as_timm_with_its_weights(peer: torch.nn.Module) -> None:
    own = Classifier(DarkNet(), 1000).eval()
    values, wanted = own.state_dict(), peer.state_dict()
    # Both list their convolutions in the order of the data flow.
    own.load_state_dict(dict(zip(values, wanted.values(), strict=True)))
    for module in peer.modules():
        if isinstance(module, torch.nn.LeakyReLU):
            module.negative_slope = 0.1  # darknet's; timm leaves torch's 0.01
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(own(images), peer.eval()(images), rtol=1e-4, atol=1e-5)


def test_width_scales_every_channel_count() -> None:
    assert DarkNet(DarkNetConfig(width=0.125)).channels[-1] == 128


@pytest.mark.parametrize("width", [0, -1, 5])
def test_width_out_of_range(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        DarkNetConfig(width=width)


def test_frozen_blocks_stay_in_evaluation_mode() -> None:
    backbone = DarkNet(DarkNetConfig(width=0.125))
    backbone.freeze(11)
    backbone.train()
    assert not any(m.training for m in backbone.blocks[:11].modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert all(block.training for block in backbone.blocks[11:])
    assert {p.requires_grad for p in backbone.blocks[:11].parameters()} == {False}
    backbone.freeze(0)
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(block.training for block in backbone.blocks)
