import pytest
import torch
import torchvision
from torch import nn

from models.heads import HEADS, ClassifierHead, Shape, make_head
from models.plan import head_macs, parameter_count
from utils.errors import UserError

CLASSES = 20
HEAD_OF = {"alexnet": "alexnet_fc", "vgg16": "vgg_fc"}
# Counted by hand: weights and biases of each layer in turn, BatchNorm twice its channels.
PARAMETERS = [
    ("author", (256, 32, 32), 1, 256 * 128 * 9 + 128 + 256 + 3200 * 20 + 20),
    ("author", (256, 32, 32), 0, 128_020),
    ("gap", (256, 32, 32), 1, 256 * 20 + 20),
    ("gmp1024", (256, 32, 32), 1, 256 * 1024 * 9 + 1024 + 1024 * 20 + 20),
    ("marquez", (8, 4, 4), 1, 128 * 512 + 512 + 512 * 256 + 256 + 256 * 20 + 20),
    ("vgg_fc", (2, 7, 7), 1, 98 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 20 + 20),
    ("mlp_sr", (8, 9, 9), 1, 3 * (64 + 16) + 3 * (32 * 32 + 32 + 64) + 32 * 20 + 20),
    ("1c2f", (16, 9, 9), 1, 16 * 32 * 9 + 64 + 32 * 128 + 128 + 128 * 20 + 20),
    ("1c2f", (256, 9, 9), 1, 256 * 128 * 9 + 256 + 128 * 128 + 128 + 128 * 20 + 20),
]


@pytest.mark.parametrize(("name", "shape", "convs", "wanted"), PARAMETERS)
def test_parameter_count(name: str, shape: Shape, convs: int, wanted: int) -> None:
    assert parameter_count(make_head(name, shape, CLASSES, convs=convs)) == wanted


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shape", [(16, 8, 8), (8, 2, 2), (12, 7, 10)])
def test_logits_and_gradients(name: str, shape: Shape) -> None:
    head = make_head(name, shape, CLASSES)
    features = torch.rand(4, *shape, requires_grad=True)
    logits = head(features)
    assert logits.shape == (4, CLASSES)
    logits.square().sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, f"no gradient for {key}"
    assert head.eval()(features[:1]).shape == (1, CLASSES)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "marquez"])
def test_any_size_will_do(name: str) -> None:
    head = make_head(name, (16, 8, 8), CLASSES).eval()
    assert head(torch.rand(2, 16, 11, 5)).shape == (2, CLASSES)


def test_author_head_keeps_its_names() -> None:
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias"]
    assert [name for name, _ in ClassifierHead(8, 5).named_parameters()] == names


def test_author_head_of_no_convolution_is_pool_and_linear() -> None:
    head, features = make_head("author", (8, 5, 5), CLASSES, convs=0), torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(head(features), head[-1](features.flatten(1)))


def test_gmp_is_the_maximum() -> None:
    head, features = make_head("gmp", (8, 5, 5), CLASSES), torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(head(features), head[-1](features.amax((2, 3))))


def test_gap_is_the_mean() -> None:
    head, features = make_head("gap", (8, 5, 5), CLASSES), torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(head(features), head[-1](features.mean((2, 3))))


def test_mlp_sr_pools_to_a_quarter_rounded_up() -> None:
    shrink = make_head("mlp_sr", (8, 9, 12), CLASSES)[0]
    assert shrink(torch.rand(1, 8, 9, 12)).shape == (1, 8, 3, 3)
    assert shrink(torch.rand(1, 8, 2, 2)).shape == (1, 8, 1, 1)


def test_marquez_drops_half_twice_in_training_only() -> None:
    head, features = make_head("marquez", (8, 4, 4), CLASSES), torch.rand(2, 8, 4, 4)
    assert [m.p for m in head if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_marquez_refuses_a_gigantic_layer() -> None:
    with pytest.raises(UserError, match=r"64×128×128 takes 536,870,912 weights"):
        make_head("marquez", (64, 128, 128), CLASSES)
    with torch.device("meta"):  # exactly the limit
        make_head("marquez", (32, 128, 128), CLASSES)


def test_unknown_head() -> None:
    with pytest.raises(UserError, match="no head `mlp` — did you mean mlp_sr or gmp"):
        make_head("mlp", (8, 4, 4), CLASSES)


def test_macs_by_hand() -> None:
    author = make_head("author", (256, 32, 32), CLASSES)
    assert head_macs(author, (256, 32, 32)) == 128 * 32 * 32 * 256 * 9 + 3200 * 20
    assert author.training
    assert head_macs(make_head("marquez", (8, 4, 4), CLASSES), (8, 4, 4)) == 128 * 512 + 512 * 256 + 256 * 20
    small = make_head("1c2f", (16, 9, 9), CLASSES)
    assert head_macs(small, (16, 9, 9)) == 32 * 5 * 5 * 16 * 9 + 32 * 128 + 128 * 20


@pytest.mark.parametrize(("name", "shape"), [("alexnet", (256, 13, 13)), ("vgg16", (512, 7, 7))])
def test_plain_networks_end_as_in_torchvision(name: str, shape: Shape) -> None:
    with torch.device("meta"):
        peer, head = getattr(torchvision.models, name)(num_classes=3), make_head(HEAD_OF[name], shape, 3)
    pool = [peer.features[12]] if name == "alexnet" else []  # of which the backbone `alexnet` has none
    steps = [*pool, peer.avgpool, nn.Flatten(), *peer.classifier]
    if isinstance(steps[-2], nn.Dropout):  # VGG's dropouts are behind its layers
        steps = [step for step in steps if not isinstance(step, nn.Dropout)]
        head = nn.Sequential(*[step for step in head if not isinstance(step, nn.Dropout)])
    assert list(map(type, head)) == list(map(type, steps))
    assert [own.shape for own in head.state_dict().values()] == [
        own.shape for own in nn.Sequential(*steps).state_dict().values()
    ]
    assert head(torch.empty(2, *shape, device="meta")).shape == (2, 3)
    assert head[: len(pool) + 1](torch.empty(2, *shape, device="meta")).shape[2:] == peer.avgpool.output_size
