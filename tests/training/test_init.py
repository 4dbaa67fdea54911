import hashlib
import json
import pickle
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import timm
import torch
import torchvision
from conftest import NO_DRAWS, Script
from safetensors.torch import save_file
from torch import Tensor, nn

import train
import val
from models.backbones import make_backbone
from models.darknet import DarkNet, DarkNetConfig
from models.families import timm_features, timm_network
from models.fcn import FCN, FCNS
from models.weights_files import read_weights, whole_backbone
from models.yolov3 import YOLOv3
from training import init
from training.backbone import begin_detector
from training.detector import other_anchors
from training.init import beginning
from utils import checkpoint
from utils.config import Recipe
from utils.errors import UserError
from utils.recipes import LATER, load_recipe, save_recipe

RESNET = "timm/test_resnet"
FAST = ("--backbone", RESNET, "--cl-splits", 2, "--imgsz", 32, "--pretrain-epochs", 1, "--pretrain-batch-size", 32,
        "--device", "cpu", "--precision", "fp32", "--workers", 0, *NO_DRAWS)  # fmt: skip


def weights_of(model: str) -> dict[str, Tensor]:
    """Of a network of timm with classifier, as timm publishes them."""
    torch.manual_seed(5)
    return timm.create_model(model, num_classes=10).state_dict()


def features(name: str, state: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Of a backbone with these weights, and of timm's own network with them."""
    backbone, peer = make_backbone(name).eval(), timm.create_model(name.partition("/")[2], num_classes=10).eval()
    checkpoint.load_state(backbone, state, "here")
    peer.load_state_dict(weights_of(name.partition("/")[2]))
    x = images
    with torch.inference_mode():
        normal = backbone.blocks[0].normalise(images)  # type: ignore[operator,union-attr]
        for block in backbone.blocks:
            x = block(x)
        return x, timm_features(peer, normal)


@pytest.mark.parametrize("form", ["safetensors", "pth", "nested", "prefixed", "wrapped"])
def test_files_of_timm(form: str, tmp_path: Path) -> None:
    state, path = weights_of("test_resnet"), tmp_path / "w.pth"
    if form == "safetensors":
        save_file(state, path := tmp_path / "model.safetensors")
    elif form == "wrapped":  # as transformers saves timm's networks
        save_file({f"timm_model.{key}": own for key, own in state.items()}, path := tmp_path / "model.safetensors")
    elif form == "prefixed":
        torch.save({f"module.{key}": own for key, own in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "nested" else state, path)
    content = read_weights(path, RESNET)
    own, wanted = features(RESNET, content["model"], torch.rand(1, 3, 64, 64))
    assert torch.equal(own, wanted)
    assert (content["method"], content["splits"]) == ("elsewhere", [[0, 4]])


def test_a_file_of_torchvision(tmp_path: Path) -> None:
    peer = torchvision.models.squeezenet1_1(num_classes=7).eval()
    torch.save(peer.state_dict(), tmp_path / "squeezenet.pth")
    backbone = make_backbone("torchvision/squeezenet1_1").eval()
    backbone.load_state_dict(read_weights(tmp_path / "squeezenet.pth", "torchvision/squeezenet1_1")["model"])
    x = images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for block in backbone.blocks:
            x = block(x)
        assert torch.equal(x, peer.features(backbone.blocks[0].normalise(images)))  # type: ignore[operator,union-attr]


def test_what_does_not_fit(tmp_path: Path) -> None:
    state, path = weights_of("test_resnet"), tmp_path / "w.pth"
    torch.save(state | {"layer1.0.conv1.weight": torch.zeros(7, 3)}, path)
    with pytest.raises(UserError, match=r"w.pth: `layer1.0.conv1.weight` is \(7, 3\), not \(\d+, \d+, [13], [13]\)"):
        read_weights(path, RESNET)
    torch.save({key: own for key, own in state.items() if key != "bn1.bias"}, path)
    with pytest.raises(UserError, match=r"w.pth: has no `bn1.bias` — give a file of timm/test_resnet"):
        read_weights(path, RESNET)
    torch.save({key: own for key, own in state.items() if "num_batches" not in key}, path)  # an older file
    read_weights(path, RESNET)
    path.write_bytes(pickle.dumps({"model": print}))
    with pytest.raises(UserError, match="a bare pickle, refused"):
        read_weights(path, RESNET)
    torch.save(timm_network("test_resnet"), path)
    with pytest.raises(UserError, match="a pickle of code, refused"):
        read_weights(path, RESNET)
    (tmp_path / "w.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match="is no whole safetensors file"):
        read_weights(tmp_path / "w.safetensors", RESNET)
    with pytest.raises(UserError, match="no such weight file"):
        read_weights(tmp_path / "absent.pt", RESNET)
    checkpoint.save(tmp_path / "last.pt", {"kind": "training"})
    with pytest.raises(UserError, match="holds `training`, not `backbone` — give a backbone or detector checkpoint"):
        read_weights(tmp_path / "last.pt", RESNET)


def detector_file(path: Path, classes: int, **said: Any) -> YOLOv3:
    torch.manual_seed(classes)
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), classes)
    content = {"kind": "detector", "backbone": "darknet53", "width": 0.125, "model": model.state_dict()}
    checkpoint.save(path, content | said)
    return model


def test_a_detector_of_other_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = detector_file(tmp_path / "best.pt", 5)
    recipe = Recipe(init=tmp_path / "best.pt", width=0.125, cl_splits=0)
    content = read_weights(tmp_path / "best.pt", "darknet53", 0.125)
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), 3)
    fresh = model.heads[0].predict.weight.clone()
    names = ["a", "b", "c"]
    begin_detector(model, tmp_path / "best.pt", recipe, content, names)
    own, theirs = model.state_dict(), source.state_dict()
    same = {key for key in own if own[key].shape == theirs[key].shape and torch.equal(own[key], theirs[key])}
    assert set(own) - same == {f"heads.{scale}.predict.{kind}" for scale in range(3) for kind in ("weight", "bias")}
    assert torch.equal(model.heads[0].predict.weight, fresh)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "6 tensors of the detector start afresh, first heads.0.predict.weight (30, 32, 1, 1) there, (24, 32, 1, 1) here"
        in said
    )
    with pytest.raises(UserError, match=r"width is 0\.125, not 1"):
        read_weights(tmp_path / "best.pt", "darknet53")
    begin_detector(
        model, tmp_path / "best.pt", recipe.model_copy(update={"freeze": True, "reuse_upto": "b11"}), content, names
    )
    assert model.backbone.frozen == 11


@pytest.mark.parametrize(("names", "afresh"), [(["cat", "dog"], 0), (["dog", "cat"], 3)])
def test_a_detector_of_as_many_other_classes(names: list[str], afresh: int, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    source = detector_file(path, 2, names=["cat", "dog"])
    recipe = Recipe(init=path, width=0.125, cl_splits=0)
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), 2)
    begin_detector(model, path, recipe, read_weights(path, "darknet53", 0.125), names)
    theirs = source.state_dict()
    other = [key for key, own in model.state_dict().items() if not torch.equal(own, theirs[key])]
    assert len(other) == afresh
    assert all(key.endswith(".predict.weight") for key in other), "biases all begin at the same values"


def test_anchors_are_compared_as_fractions_of_the_input() -> None:
    content = {"anchors": [[10.0, 20.0]] * 9, "imgsz": 320}
    assert not other_anchors(content, [(20.0, 40.0)] * 9, 640)
    assert other_anchors(content, [(20.0, 40.0)] * 9, 320)
    assert not other_anchors({}, [(20.0, 40.0)] * 9, 320)


def test_a_segmenter_with_another_head(capsys: pytest.CaptureFixture[str]) -> None:
    names, heads = list("abcd"), map(FCNS.choose, ("fcn8s", "fcn16s"))
    source, model = (FCN(DarkNet(DarkNetConfig(width=0.125)), 4, head) for head in heads)
    nn.init.normal_(source.enlarge[0].weight)
    content = whole_backbone("darknet53", "segmenter", source.backbone.state_dict(), 0.125)
    begin_detector(
        model, Path("best.pt"), Recipe(width=0.125), content | {"rest": source.state_dict(), "names": names}, names
    )
    own, theirs = model.state_dict(), source.state_dict()
    assert {key for key in own if not key.startswith("enlarge.1")} == {
        key for key in own if own[key].shape == theirs[key].shape and torch.equal(own[key], theirs[key])
    }
    said = " ".join(capsys.readouterr().out.split())
    assert "1 tensor of the segmenter starts afresh, first enlarge.1.weight (4, 4, 4, 4) there, (4, 4, 32, 32)" in said


class Hub(SimpleHTTPRequestHandler):
    """Files of a folder; as the hub does, the hash in the header of an answer."""

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file() and path.suffix == ".safetensors":
            self.send_header("X-Repo-Commit", "0" * 40)
            wrong = (path.parent / "wrong").exists()
            self.send_header("ETag", f'"{"0" * 64 if wrong else hashlib.sha256(path.read_bytes()).hexdigest()}"')
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder that a local server gives out in the hub's place; what is fetched goes to tmp_path/weights."""
    folder = tmp_path / "web/timm/test_resnet.r160_in1k/resolve/main"
    folder.mkdir(parents=True)
    monkeypatch.setattr(init, "FOLDER", tmp_path / "weights")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(tmp_path / "web"))) as server:
        address = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def test_fetched_from_the_hub_when_asked_and_only_then(hub: Path, tmp_path: Path) -> None:
    save_file(weights_of("test_resnet"), hub / "model.safetensors")
    recipe = Recipe(backbone=RESNET, init="timm")
    with pytest.raises(
        UserError, match=r"--init timm: test_resnet.r160_in1k.safetensors is not here — let it be fetched"
    ):
        beginning(recipe, download=False)
    found = beginning(recipe, download=True)
    assert found is not None
    assert torch.equal(found.content["model"]["blocks.0.conv1_0.weight"], weights_of("test_resnet")["conv1.0.weight"])
    (hub / "model.safetensors").unlink()
    again = beginning(recipe, download=False)  # it is here now
    assert again is not None
    assert again.sha256 == found.sha256
    found.path.write_bytes(found.path.read_bytes()[:-4])
    with pytest.raises(UserError, match="is not what was fetched"):
        beginning(recipe, download=False)
    assert sorted(path.name for path in (tmp_path / "weights/timm").iterdir()) == [
        "test_resnet.r160_in1k.safetensors",
        "test_resnet.r160_in1k.safetensors.sha256",
    ]


def test_what_is_not_what_the_hub_says_is_not_kept(hub: Path, tmp_path: Path) -> None:
    recipe = Recipe(backbone=RESNET, init="timm")
    with pytest.raises(UserError, match=r"model.safetensors: cannot be asked for its hash \(.*404"):
        beginning(recipe, download=True)
    save_file(weights_of("test_resnet"), hub / "model.safetensors")
    (hub / "wrong").touch()
    with pytest.raises(UserError, match=r"cannot fetch test_resnet\.r160_in1k\.safetensors \(its sha256 is"):
        beginning(recipe, download=True)
    assert not list((tmp_path / "weights").rglob("*.safetensors"))


def test_where_weights_are_published() -> None:
    assert init.at_torchvision("resnet18").sha256 == "f37072fd"
    assert init.at_torchvision("resnet18").name == "resnet18-f37072fd.pth"
    assert init.at_timm("resnet18.tv_in1k").url.endswith("/timm/resnet18.tv_in1k/resolve/main/model.safetensors")
    with pytest.raises(UserError, match="published without a hash"):
        init.with_hash("http://example.org/resnet18.pth", "timm")
    with pytest.raises(UserError, match="timm has no weights of coatnet_0_224"):
        init.at_timm("coatnet_0_224")


@pytest.mark.parametrize(
    ("backbone", "source", "hint"),
    [
        ("resnet50", "timm", "give --init torchvision, or a file"),
        ("timm/resnet18", "torchvision", "give --init timm, or a file"),
        ("darknet53", "timm", "give a file, or --backbone timm/MODEL"),
    ],
)
def test_weights_of_another_library(backbone: str, source: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"--init {source}: {backbone} is no backbone of {source} — {hint}"):
        init.located(source, backbone, download=True)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"init": "timm", "weights": "a.pt"}, "give one of them"),
        ({"init_freeze": True}, "give init and cl_splits"),
        ({"init": "timm", "init_freeze": True, "baselines": "e2e"}, "and no baselines"),
    ],
)
def test_recipes_that_contradict_themselves(values: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Recipe.model_validate(values)


def test_init_in_a_recipe_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("init: w.pth\n")
    assert load_recipe(tmp_path / "r.yaml", {}).init == tmp_path / "w.pth"
    (tmp_path / "r.yaml").write_text("init: timm\n")
    recipe = load_recipe(tmp_path / "r.yaml", {})
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml", {}).init == recipe.init == "timm"
    assert {"init", "init_freeze"} <= LATER.keys()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(weights_of("test_resnet"), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_classifiers_on_fixed_weights(
    weights: Path, corners_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script(train, *FAST, "--data", corners_yaml, "--init", weights, "--init-freeze", "--project", tmp_path)
    path = tmp_path / "train/exp/weights/backbone_init.pt"
    content = checkpoint.load(path, "backbone")
    wanted = read_weights(weights, RESNET)["model"]
    assert all(torch.equal(content["model"][key], own) for key, own in wanted.items())
    assert content["init"] == {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert (content["method"], content["splits"], len(content["heads"])) == ("init", [[0, 2], [2, 4]], 2)
    assert len(json.loads((tmp_path / "train/exp/metrics.json").read_text())["pretrain"]["init"]) == 2
    script(val, "--accuracy", "--weights", path, "--bootstrap", 0, "--project", tmp_path, "--device", "cpu")
    assert "init" in capsys.readouterr().out


def test_stages_begin_with_the_weights_and_resume_knows_them(
    weights: Path, corners_yaml: Path, tmp_path: Path, script: Script
) -> None:
    slow = ("--pretrain-lr", 1e-12, "--pretrain-weight-decay", 0, "--pretrain-ema-decay", 0)
    script(train, *FAST, *slow, "--data", corners_yaml, "--init", weights, "--baselines", "e2e", "--project", tmp_path)
    wanted = read_weights(weights, RESNET)["model"]
    for method in ("cl2", "e2e"):
        content = checkpoint.load(tmp_path / f"train/exp/weights/backbone_{method}.pt", "backbone")
        learnt = [key for key in wanted if key.endswith(("conv1.weight", "conv2.weight"))]
        assert learnt
        for key in learnt:
            torch.testing.assert_close(content["model"][key], wanted[key], rtol=0, atol=1e-6)
    (tmp_path / "train/exp/metrics.json").unlink()
    save_file({key: own + 1 for key, own in weights_of("test_resnet").items()}, weights)
    last = tmp_path / "train/exp/weights/last.pt"
    checkpoint.save(last, torch.load(last) if last.exists() else saved(tmp_path))
    with pytest.raises(UserError, match=r"model\.safetensors: is not what the run began with"):
        script(train, "--resume", tmp_path / "train/exp", "--project", tmp_path)


def saved(project: Path) -> dict[str, object]:
    """A resumable checkpoint that a short run never came to write."""
    content = checkpoint.load(project / "train/exp/weights/backbone_cl2.pt", "backbone")
    return {"kind": "training", "recipe": content["recipe"], "init": content["init"]}
