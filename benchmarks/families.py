"""Networks of timm and torchvision, block after block, against their own features. Prints JSON lines.

`python -m benchmarks.families > results/families.json`: each backbone with stirred weights, and the network that it is
made of as its own package builds it, with the same weights: what each block puts out against what the network computes
there, and the last block against the network's features. Bit for bit, in fp32. `--table FILE` makes a table of it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import show
from models import families
from models.anatomy import STEM, Anatomy, Dissected
from models.layers import Normalise
from models.plan import shapes_at
from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.text import NOTHING, as_markdown

MODELS, FAMILIES = 60, 25  # at least
SMALL = (96, 128)  # where a network takes it; else the size that it is made for
TIMM = """
resnet18 resnet26d seresnet50 resnext50_32x4d wide_resnet50_2 ecaresnet26t resnetv2_18 resnetv2_50 res2net50_14w_8s
resnest14d skresnet18 legacy_seresnet18 tresnet_m convnext_atto convnextv2_atto inception_next_atto efficientnet_b0
efficientnetv2_rw_t mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small lcnet_050 tinynet_e mixnet_s
mnasnet_small fbnetc_100 semnasnet_050 hardcorenas_a ghostnet_050 ghostnetv2_100 repghostnet_050 regnetx_002
regnety_002 regnetz_005 nfnet_l0 dm_nfnet_f0 nf_regnet_b0 vgg11 vgg16_bn densenet121 dla34 dla60x dpn48b vovnet39a
ese_vovnet19b_dw darknet53 cspdarknet53 cspresnet50 cs3darknet_s cspnext_s hgnet_tiny hgnetv2_b0 repvgg_a0
mobileone_s0 gernet_s rexnet_100 rexnetr_100 xception41 legacy_xception inception_v3 inception_v4 inception_resnet_v2
botnet26t_256 halonet26t bat_resnext26ts mobilevit_xxs mobilevitv2_050 edgenext_xx_small fastvit_t8 repvit_m0_9
starnet_s1 mambaout_femto poolformer_s12 caformer_s18 convformer_s18 efficientformer_l1 efficientformerv2_s0
swiftformer_xs efficientvit_b0 efficientvit_m0 fasternet_t0 shvit_s1 lowformer_b0 rdnet_tiny van_b0 pvt_v2_b0
swin_tiny_patch4_window7_224 swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 davit_tiny gcvit_xxtiny focalnet_tiny_srf
maxvit_pico_rw_256 coatnet_pico_rw_224 tiny_vit_5m_224 nextvit_small levit_128s levit_conv_128s visformer_tiny
vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224
vit_relpos_small_patch16_224 beit_base_patch16_224 vitamin_small_224 mixer_s32_224 gmixer_12_224 resmlp_12_224
gmlp_ti16_224 convmixer_768_32 selecsls42 csatv2 cpubone_b0 lcnetv2_base iformer_t eva02_tiny_patch14_224
cait_xxs24_224 xcit_nano_12_p16_224 pit_ti_224 twins_svt_small hrnet_w18_small nasnetalarge pnasnet5large
crossvit_tiny_240 coat_tiny hiera_tiny_224 nest_tiny volo_d1_224 tnt_s_patch16_224 mvitv2_tiny samvit_base_patch16
"""
TORCHVISION = """
alexnet vgg11 vgg19 vgg16_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 inception_v3 googlenet mobilenet_v2
mobilenet_v3_small efficientnet_b0 efficientnet_v2_s convnext_tiny densenet121 shufflenet_v2_x0_5 squeezenet1_1
mnasnet0_5 regnet_y_400mf swin_t swin_v2_t maxvit_t vit_b_16
"""


@dataclass(frozen=True)
class Subject:
    """A network to take apart.

    Attributes:
        package: timm or torchvision.
        family: its module in the package.
    """

    package: str
    model: str
    family: str

    @property
    def name(self) -> str:
        """As a backbone."""
        return f"{self.package}/{self.model}"

    def anatomy(self) -> Anatomy:
        """Its blocks."""
        if self.package == "timm":
            return families.timm_anatomy(self.model)
        return families.torchvision_anatomy(self.model, 1.0)

    def backbone(self) -> Dissected:
        """Taken apart, in evaluation mode."""
        make = families.timm_backbone if self.package == "timm" else families.torchvision_backbone
        return make(self.model).eval()  # type: ignore[operator]

    def network(self) -> nn.Module:
        """As the package builds it, in evaluation mode."""
        make = families.timm_network if self.package == "timm" else families.torchvision_network
        return make(self.model).eval()  # type: ignore[operator]

    def side(self, network: nn.Module) -> int:
        """Of the images that it is made for."""
        config: dict[str, Any] = getattr(network, "pretrained_cfg", {})
        return config.get("input_size", (3, 224, 224))[-1]


def subjects() -> Iterator[Subject]:
    """All networks, each with its family."""
    import torchvision
    from timm.models import model_entrypoint

    for model in TIMM.split():
        if model in families.timm_names():
            yield Subject("timm", model, model_entrypoint(model).__module__.rpartition(".")[2])
    for model in TORCHVISION.split():
        module = torchvision.models.get_model_builder(model).__module__.rpartition(".")[2]
        yield Subject("torchvision", model, f"{module} of torchvision")


@torch.no_grad()
def stir(backbone: nn.Module) -> None:
    """Move all weights away from where they start: a branch that is scaled by zero would hide what it does."""
    for parameter in backbone.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    for name, buffer in backbone.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


@torch.no_grad()
def give(network: nn.Module, backbone: Dissected) -> None:
    """Copy the backbone's weights into the network that it is made of."""
    theirs = network.state_dict()
    for mine, tensor in backbone.state_dict().items():
        theirs[backbone.names[mine]].copy_(tensor)


@torch.inference_mode()
def own_outputs(backbone: Dissected, images: Tensor) -> list[Tensor]:
    """What each block puts out, one after another."""
    found, x = [], images
    for block in backbone.blocks:
        x = block(x)
        found.append(x.clone())
    return found


@torch.inference_mode()
def network_outputs(subject: Subject, network: nn.Module, images: Tensor) -> list[Tensor]:
    """What the network computes where the blocks end; its features last, if it gives them."""
    anatomy, found = subject.anatomy(), {}
    ends = [next(path for path in reversed(group) if path != STEM) for group in anatomy.groups]

    def note(path: str) -> Any:
        return network.get_submodule(path).register_forward_hook(
            lambda _, __, output: found.update({path: output.clone()})
        )

    hooks = [note(path) for path in ends]
    of_torchvision = subject.package == "torchvision"
    normal = families.torchvision_normalise(subject.model) if of_torchvision else own_normalise(network)
    whole = network(normal(images)) if subject.package == "torchvision" else network.forward_features(normal(images))  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    return [*(found[path] for path in ends), *([whole] if subject.package == "timm" else [])]


def own_normalise(network: nn.Module) -> Normalise:
    """What a network of timm wants of its images."""
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return Normalise(config["mean"], config["std"])


def compared(subject: Subject) -> dict[str, Any]:
    """Blocks, taps, strides, and how many cuts are equal.

    Raises:
        UserError: the network cannot be taken apart.
    """
    torch.manual_seed(0)
    backbone, network = subject.backbone(), subject.network()
    stir(backbone)
    give(network, backbone)
    side, layouts = subject.side(network), subject.anatomy().layouts[1:]
    own, wanted, size = at_a_size(subject, backbone, network, side)
    mapped = [layout.from_map(x) for layout, x in zip(layouts, own, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(mapped, wanted, strict=False)]
    features = torch.equal(mapped[-1], wanted[-1]) if subject.package == "timm" else same[-1]
    strides = sorted({round(side / shape[1]) for shape in shapes_at(backbone, (side, side))})
    finite = bool(wanted[-1].isfinite().all())
    return {"blocks": len(own), "equal": sum(same), "features": features and finite, "taps": list(backbone.taps),
            "strides": strides, "pixels": list(size)}  # fmt: skip


def at_a_size(
    subject: Subject, backbone: Dissected, network: nn.Module, side: int
) -> tuple[list[Tensor], list[Tensor], tuple[int, int]]:
    """What both put out, at the first size that the network takes."""
    fault: Exception | None = None
    for size in (SMALL, (side, side)):
        images = torch.rand(1, 3, *size)
        try:
            return own_outputs(backbone, images), network_outputs(subject, network, images), size
        except (AssertionError, RuntimeError, ValueError) as error:
            fault = error
    assert fault is not None
    raise fault


def main() -> None:
    """Take all apart, print a line for each, then how many there are."""
    parser = Parser(description="Networks against the blocks that they fall into, as JSON lines.")
    parser.add_argument("models", nargs="*", help="only these, as timm/resnet18")
    parser.add_argument("--table", type=Path, help="print the figures in this file as a Markdown table instead")
    given = parser.parse_args()
    if given.table:
        print(table(given.table.read_text().splitlines()))
        return
    equal, seen = [], []
    for subject in subjects():
        if given.models and subject.name not in given.models:
            continue
        seen.append(subject)
        try:
            found = compared(subject)
        except UserError as error:
            found = {"blocks": 0, "equal": 0, "features": False, "refused": str(error).partition(": ")[2]}
        if found["features"] and found["equal"] == found["blocks"]:
            equal.append(subject)
        count = found.pop("equal")
        show(
            f"{subject.name}: equal cuts",
            count,
            max(1, found["blocks"]),
            "its own features",
            family=subject.family,
            **found,
        )
    about = f"of {len(seen)} that were tried"
    show("networks taken apart, bit-equal in fp32", len(equal), MODELS, about)
    show("families of them", len({subject.family for subject in equal}), FAMILIES, about)


def table(lines: list[str]) -> str:
    """A row for each network: family, blocks, taps, strides, equal or why refused."""
    rows = [["backbone", "family", "blocks", "taps", "strides", ""]]
    for found in map(json.loads, lines):
        name, _, kind = found["figure"].partition(": ")
        if not kind:
            rows.append([f"**{name}**", "", "", "", "", f"{found['value']:.0f} {found['against'].partition(';')[0]}"])
            continue
        taps = ", ".join(f"b{tap}" for tap in found.get("taps", ())) or NOTHING
        strides = ", ".join(map(str, found.get("strides", ()))) or NOTHING
        equal = "bit-equal" if found["holds"] and found["features"] else found.get("refused", "**differs**")
        rows.append([f"`{name}`", found["family"], str(found["blocks"] or NOTHING), taps, strides, equal])
    return as_markdown(rows, "llrl")


if __name__ == "__main__":
    run_cli(main)
