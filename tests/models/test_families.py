from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from benchmarks.families import Subject, compared, stir, table
from models.anatomy import Dissected
from models.backbone import Backbone
from models.backbones import make_backbone
from models.batchnorm import globalise
from models.cascade import Prefix, StageNet
from models.families import timm_backbone, torchvision_normalise
from models.heads import make_head
from models.inference import for_inference
from models.layouts import Layout, layout_of
from models.plan import make_plan
from models.recompute import run_recomputed
from models.yolov3 import YOLOv3
from training.check import check_sizes
from utils.config import Recipe
from utils.errors import UserError

# name → blocks, taps, strides. timm keeps these small ones for its own tests.
KNOWN = {
    "timm/test_resnet": (4, [2, 3, 4], [4, 8, 16, 32]),
    "timm/test_convnext": (9, [3, 7, 9], [4, 8, 16, 32]),  # layer scale, a stem of its own
    "timm/test_mambaout": (7, [3, 6, 7], [4, 8, 16, 32]),  # channels last
    "timm/test_vit": (6, [], [16]),  # a class token
    "timm/mixer_s32_224": (8, [], [32]),  # one size
    "torchvision/mobilenet_v3_small": (11, [3, 8, 11], [4, 8, 16, 32]),  # blocks with and without a shortcut
    "torchvision/squeezenet1_1": (8, [], [4, 8, 17]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_blocks_one_after_another_are_the_network(name: str) -> None:
    found = compared(Subject(*name.split("/"), ""))
    blocks, taps, strides = KNOWN[name]
    assert (found["blocks"], found["taps"], found["strides"]) == (blocks, taps, strides)
    assert found["equal"] == blocks
    assert found["features"]


def test_resnet18_has_its_residual_blocks() -> None:
    with torch.device("meta"):
        backbone = make_backbone("timm/resnet18")
    assert isinstance(backbone, Dissected)
    assert backbone.stages == (2, 2, 2, 2)
    assert backbone.taps == (4, 6, 8)
    assert [part.shape for part in make_plan(backbone, 4, 64)] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert backbone.names["blocks.0.conv1.weight"] == "conv1.weight"
    assert backbone.names["blocks.2.layer2_0.downsample.0.weight"] == "layer2.0.downsample.0.weight"


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_tokens_and_maps(prefix: int) -> None:
    tokens = torch.rand(2, prefix + 3 * 4, 5)
    layout = Layout("tokens", 3, 5, prefix)
    found = layout.to_map(tokens, (3, 4))
    assert found.shape == (2, layout.width, 3, 4)
    assert torch.equal(found[1, :5, 2, 1], tokens[1, prefix + 2 * 4 + 1])  # row by row
    if prefix:
        assert torch.equal(found[0, 5:10, 2, 3], tokens[0, 0])  # everywhere
    assert torch.equal(layout.from_map(found), tokens)
    with pytest.raises(ValueError, match=r"tokens for 3×3 cells"):
        layout.to_map(tokens, (3, 3))


def test_layouts_are_told_from_shapes() -> None:
    assert layout_of(torch.empty(1, 8, 4, 4), 0) == Layout("map", 4, 8)
    assert layout_of(torch.empty(1, 4, 4, 8), 0) == Layout("last", 4, 8)
    assert layout_of(torch.empty(1, 17, 8), 1) == Layout("tokens", 4, 8, 1)
    assert layout_of(torch.empty(1, 17, 8), 0) is None
    assert layout_of([torch.empty(1, 8, 4, 4)], 0) is None


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("timm/eva02_tiny_patch14_224", r"cannot be taken apart: `blocks.11` is given rope beside features"),
        ("timm/hiera_tiny_224", "cannot be taken apart: `unroll` takes its tokens out of the order"),
        ("timm/crossvit_9_240", r"cannot be taken apart: what `norm.1` puts out is worked on once more"),
        ("timm/resnet81", "timm has no `resnet81` — did you mean .*resnet18"),
        ("timm/", "timm has no `` — take one of its [0-9]+: `timm.list_models"),
        ("torchvision/vgg", "torchvision has no `vgg` — did you mean vgg"),
        ("tim/resnet18", "no backbone `tim/resnet18` — did you mean"),
    ],
)
def test_what_cannot_be_taken(name: str, what: str) -> None:
    with pytest.raises(UserError, match=f"--backbone: .*{what}") as caught:
        make_backbone(name)
    assert "\n" not in str(caught.value)


def test_widths_where_there_are_some() -> None:
    with pytest.raises(UserError, match=r"--width: timm/test_resnet at 0\.5 — give 1"):
        make_backbone("timm/test_resnet", 0.5)
    with torch.device("meta"):
        half, one = (make_backbone("torchvision/mobilenet_v2", width) for width in (0.5, 1.0))
    assert (half.channels[3], one.channels[3]) == (16, 32)


def test_a_network_of_one_size_is_refused_before_anything_is_made() -> None:
    recipe = Recipe.model_validate({"backbone": "timm/mixer_s32_224", "imgsz": 224, "pretrain": {"source": "objects"}})
    with pytest.raises(
        UserError, match=r"--pretrain-imgsz: timm/mixer_s32_224 cannot take 16 images of 96 pixels a step \(b1: .*224"
    ) as caught:
        check_sizes(recipe)
    assert "\n" not in str(caught.value)
    check_sizes(recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"imgsz": 224})}))


def test_detector_reads_a_family() -> None:
    model = YOLOv3(make_backbone("timm/test_convnext"), classes=3).eval()
    with torch.inference_mode():
        maps = model(torch.rand(1, 3, 64, 96))
        quick = for_inference(model)(torch.rand(1, 3, 64, 96))
    assert [tuple(raw.shape[1:]) for raw in maps] == [(24, 8, 12), (24, 4, 6), (24, 2, 3)]
    assert len(quick) == 3
    with pytest.raises(UserError, match="no features at strides 8, 16 and 32"):
        YOLOv3(make_backbone("timm/test_vit"), classes=3)


@pytest.mark.parametrize(
    "name",
    ["darknet53", "cnn6", "timm/test_resnet", "timm/test_efficientnet", "torchvision/densenet121"],
)
@torch.inference_mode()
def test_a_network_made_quick_computes_the_same(name: str) -> None:
    """Also where BatchNorm comes before the convolution, or holds an activation."""
    torch.manual_seed(3)
    own = name in ("darknet53", "cnn6")
    backbone = make_backbone(name, 0.125 if own else 1)
    stir(backbone)
    images, quick = torch.rand(1, 3, 32, 32), for_inference(backbone)
    torch.testing.assert_close(nn.Sequential(*quick.blocks)(images), nn.Sequential(*backbone.eval().blocks)(images))
    assert not (own and any(isinstance(module, nn.BatchNorm2d) for module in quick.modules()))


@torch.inference_mode()
def test_what_is_not_a_plain_convolution_is_left_alone() -> None:
    """An activation that is there twice, hooks, and BatchNorm without statistics of its own."""
    images, act = torch.rand(2, 3, 8, 8), nn.ReLU()
    reused = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), act, nn.BatchNorm2d(4))
    hooked = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
    of_batch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    for block in (reused, hooked, of_batch):
        stir(backbone := Backbone([block], [4], (1,), ()))
        torch.testing.assert_close(for_inference(backbone).blocks[0](images), backbone.eval().blocks[0](images))


@pytest.mark.parametrize("model", ["googlenet", "inception_v3", "efficientnet_v2_l", "resnet18", "vit_b_16"])
def test_images_are_normalised_as_for_the_weights(model: str) -> None:
    images = torch.rand(1, 3, 224, 224)
    weights: Any = torchvision.models.get_model_weights(model)
    own = weights.DEFAULT.transforms()
    wanted = torchvision.transforms.functional.normalize(images, own.mean, own.std)
    if model in ("googlenet", "inception_v3"):
        with torch.device("meta"):
            network = torchvision.models.get_model(model, transform_input=True, init_weights=False)
        wanted = network._transform_input(wanted)
    torch.testing.assert_close(torchvision_normalise(model)(images), wanted)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "nin"])
def test_frozen_blocks_give_the_same_again(name: str) -> None:
    """Dropout and BatchNorm of a prefix do not change, and a stage on it reaches its own weights only."""
    backbone = make_backbone(name)
    cut = len(backbone.blocks) - 1
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.train()
    prefix, images = Prefix(backbone, cut), torch.rand(2, 3, 64, 64)
    one, two = prefix(images), prefix(images)
    assert torch.equal(one, two)
    net = StageNet(backbone, cut, cut + 1, make_head("gap", (backbone.channels[-1], 1, 1), 3))
    net(one).sum().backward()
    reached = {key for key, own in backbone.named_parameters() if own.grad is not None}
    assert reached
    assert all(key.startswith(f"blocks.{cut}.") for key in reached)
    fixed = [key for key in before if not key.startswith(f"blocks.{cut}.")]
    assert all(torch.equal(before[key], backbone.state_dict()[key]) for key in fixed)


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_efficientnet"])
def test_recomputed_gradients(name: str) -> None:
    backbone, images = make_backbone(name).eval(), torch.rand(1, 3, 64, 64)
    grads = []
    for run in (lambda blocks: blocks(images), lambda blocks: run_recomputed(blocks, images)):
        backbone.zero_grad(set_to_none=True)
        run(nn.Sequential(*backbone.blocks[:2])).square().mean().backward()
        grads.append([own.grad for own in backbone.blocks[0].parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*grads, strict=True))


def test_images_are_normalised_as_the_network_wants_it() -> None:
    vit = timm_backbone("test_vit")  # timm's own tests use 0.5 for all
    step = vit.blocks[0].steps.normalise
    assert (step.mean.flatten().tolist(), step.std.flatten().tolist()) == ([0.5] * 3, [0.5] * 3)


def test_a_batchnorm_that_knows_one_process_only_is_refused() -> None:
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match="--devices: Own knows one process only"):
        globalise(nn.Sequential(Own(3)))


def test_lenet_and_nin() -> None:
    x = torch.rand(1, 3, 32, 32)
    shapes = []
    with torch.inference_mode():
        for name in ("lenet5", "nin"):
            found = x
            for block in make_backbone(name).eval().blocks:
                found = block(found)
                shapes.append(tuple(found.shape[1:]))
    assert shapes == [(6, 14, 14), (16, 5, 5), (120, 1, 1), (96, 16, 16), (192, 8, 8), (192, 8, 8)]


def test_table_of_families() -> None:
    published = Path(__file__).resolve().parents[2] / "results" / "families.json"
    lines = published.read_text().splitlines()
    rows = table(lines)
    assert "`timm/resnet18` | resnet | 8 | b4, b6, b8 | 4, 8, 16, 32 | bit-equal |" in rows
    assert "differs" not in rows
    assert (published.with_suffix(".md")).read_text() == rows + "\n"
