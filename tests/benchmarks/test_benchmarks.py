"""Every benchmark runs, at its smallest size; what it measures there is worth nothing."""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from conftest import ROOT, Script, write_yaml

from benchmarks import (
    any_number,
    cascade,
    demo,
    detector,
    frames,
    interruptions,
    localisers,
    map_kinds,
    maps,
    parameters,
    peer,
    precision,
    reading,
    report,
    segmentation,
    step,
    study,
    table,
    windows,
)
from benchmarks import families as families_
from benchmarks.figures import processor
from data.description import load_description
from data.formats import read_split
from studies import execute
from utils import checkpoint
from utils.console import console
from utils.errors import UserError

Figures = Callable[..., list[dict[str, Any]]]
SMALL = ("--width", 0.0625, "--imgsz", 64)


@pytest.fixture
def figures(script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Figures:
    """Run a benchmark; gives what it prints."""

    monkeypatch.setattr(console, "quiet", console.quiet)  # some benchmarks hush it for the rest of their process

    def run(module: Any, *arguments: object) -> list[dict[str, Any]]:
        capsys.readouterr()
        script(module, *arguments)
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert all({"figure", "value", "target", "holds", "floor", "against", "processor"} <= set(one) for one in found)
        return found

    return run


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python programs that a benchmark starts run in this process: importing torch takes longer than all they do."""

    start = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[0] != sys.executable:
            return start(command, **options)
        name, flags = (command[2], command[3:]) if command[1] == "-m" else (Path(command[1]).stem, command[2:])
        printed, environment = io.StringIO(), options.get("env") or {}
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            mock.patch.dict(os.environ, environment),
        ):
            patch.setattr(sys, "argv", [name, *flags])
            importlib.import_module(name).main()
        return subprocess.CompletedProcess(command, 0, printed.getvalue())

    def call(words: list[str], *_: Any) -> int:
        return run([sys.executable, *words[1:]]).returncode

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(execute, "call", call)


def measured_here(data: Path, **changes: Any) -> dict[str, float]:
    """`cascade.measured` without a process of its own, and so without a peak to speak of."""
    found: SimpleQueue[dict[str, float]] = SimpleQueue()
    cascade.measure(data, changes, found)
    return found.get() | {"peak": 1.0}


def test_every_benchmark_is_here() -> None:
    """That of kills is in the tests of studies, that of damaged files in those of data."""
    own = Path(__file__).read_text()
    parts = {"__init__", "accidents", "whole_files", "figures", "pipeline", "workload", "kills", "fuzz"}
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - parts
    assert not [name for name in names if f"def test_{name}" not in own]


def test_processor_tells_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True})
    assert processor().endswith("cores, avx512_bf16, amx_bf16")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {})
    assert processor().endswith("cores, no bf16")


@pytest.mark.parametrize("part", ["time", "memory"])
def test_cascade(part: str, figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "measured", measured_here)
    sizes = ["--images", 4, "--epochs", 1, "--imgsz", 32, "--memory-imgsz", 32, "--batch-size", 2, "--width", 0.0625]
    sizes += ["--memory-batches", 2]
    found = figures(cascade, "--only", part, "--splits", 3, *sizes)
    assert len(found) == {"time": 1, "memory": 5}[part]


def killed_here(command: list[str], *_: Any) -> float:
    """`cascade.killed` without a process: what it leaves after its first save."""
    real = checkpoint.save

    def save(path: Path, content: dict[str, Any]) -> None:
        real(path, content)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop.SAVE_EVERY_S", -1)
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            subprocess.run(command)
    return 1.0


def test_cascade_resumed(figures: Figures, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "killed", killed_here)
    sizes = ["--images", 4, "--batch-size", 2, "--width", 0.0625, "--kills", 1, "--resume-epochs", 1]
    (found,) = figures(cascade, "--only", "resume", *sizes)
    assert found["kills"] == 1


def test_cascade_that_cannot_be_killed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ended before it was killed, with code 3"):
        cascade.killed([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "last.pt", 0)


@pytest.mark.usefixtures("older_exporter")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # two workers, on whatever cores there are
@pytest.mark.parametrize(("part", "count"), [("inference", 2), ("waiting", 2), ("judged", 1), ("suppression", 1)])
def test_detector(part: str, count: int, figures: Figures, here: None) -> None:
    sizes = [*SMALL, "--repeats", 1, "--images", 4, "--peer", "yolov3-tiny.yaml"]
    found = figures(detector, "--only", part, *sizes)
    assert len(found) == count
    if part == "judged":
        assert found[0]["holds"], "our figures are pycocotools'"
    if part == "suppression":
        assert found[0]["same_boxes"]


def test_detector_training(figures: Figures) -> None:
    found = figures(detector, "--only", "training", *SMALL, "--repeats", 1, "--peer", "yolov3-tiny.yaml")
    assert len(found) == 4


def test_localisers(figures: Figures) -> None:
    found = figures(localisers, "--repeats", 1, "--imgsz", 32, "--maps", 2)
    assert [one["value"] > 0 for one in found] == [True, True]


@pytest.mark.parametrize("part", ["gradcam", "lime", "granulometry"])
def test_maps(part: str, figures: Figures) -> None:
    pytest.importorskip({"gradcam": "captum", "lime": "lime", "granulometry": "scipy"}[part])
    assert figures(maps, "--only", part, "--repeats", 1, "--imgsz", 32, "--factor", 0.25, "--samples", 20)


def test_map_kinds(figures: Figures) -> None:
    sizes = ["--repeats", 1, "--images", 1, "--imgsz", 32, "--factor", 0.0625, "--samples", 2, "--masks", 16]
    found = figures(map_kinds, "--only", "gradcampp", "scorecam", "ig", *sizes)  # tests of maps compare every kind
    assert len(found) == 3 * 3
    assert all(own["exactly"] < 1e-4 for own in found if "difference" in own["figure"])


def test_frames(figures: Figures, tmp_path: Path) -> None:
    models = ["tv/squeezenet1_1", "lcnet_050", "vit_tiny_patch16_224"]
    agree, framed = figures(frames, "--models", *models, "--json", tmp_path / "frames.json")
    rows = [json.loads(line) for line in (tmp_path / "frames.json").read_text().splitlines()]
    assert agree["value"] == 1
    assert framed["value"] == 2
    assert [own["apart"] for own in rows if "frame" in own] == [0] * 4
    assert all("aligned" not in own["refused"] for own in rows if "refused" in own)
    assert len(rows) == 6


def test_windows(figures: Figures) -> None:
    found = figures(windows, "--side", 387, "--repeats", 1, "--padding", "without")
    assert [own["windows"] for own in found] == [4, 4, 4]
    assert found[-1]["holds"], "the same scores"


def test_parameters() -> None:
    """Slides: 73k, 1.2m and 70k parameters in a block; the published page is what the command writes."""
    with torch.device("meta"):
        blocks = parameters.blocks()
        small = [parameters.network(own) for own in parameters.NETWORKS[:2]]
    assert [own.slides for own in blocks[:3]] == [73_856, 1_180_160, 69_696]
    assert [own.whole for own in small] == [61_706, 61_100_840]
    found = json.loads((ROOT / "results" / "parameters.json").read_text())
    assert found["networks"][:2] == [vars(own) for own in small]
    networks = [parameters.Network(**own) for own in found["networks"]]
    assert (ROOT / "results" / "parameters.md").read_text() == parameters.as_page(networks, blocks)


def test_families(figures: Figures) -> None:
    networks, families = figures(families_, "timm/lcnet_050", "timm/tinynet_e")[-2:]
    assert (networks["value"], families["value"]) == (2, 2)


def test_demo(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "gflops", partial(demo.gflops, side=64))
    (found,) = figures(demo, "--dry-run")
    assert found["gflops_fp32"] > 0


def test_reading(figures: Figures, here: None) -> None:
    found = figures(reading, "--images", 60, "--boxes", 2)
    assert len(found) >= 3


def test_maps_of_a_study(figures: Figures, here: None) -> None:
    found = figures(maps, "--only", "study", "--images", 4, "--widths", 0.0625, "--repeats", 1)
    seconds, memory = found
    assert seconds["target"] == pytest.approx(3 * seconds["floor"], abs=0.2)
    assert memory["target"] == 1.1


def test_report(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "METHODS", ("cl6",))
    found = figures(report, "--images", 2, "--imgsz", 64, "--lime", 0)
    assert len(found) in (1, 3), "three where there is Chromium"
    assert all(one["holds"] for one in found)


def test_segmentation(figures: Figures, here: None, scenes_yaml: Path, tmp_path: Path) -> None:
    small = {"data": str(scenes_yaml), "task": "segment", "width": 0.0625, "imgsz": 64, "workers": 0}
    phases = {"pretrain": {"epochs": 1, "imgsz": 32}, "train": {"epochs": 1, "batch_size": 4}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small | phases))
    flags = ["--recipe", tmp_path / "small.yaml", "--project", tmp_path]
    found = figures(segmentation, *flags)
    assert [one["figure"] for one in found if one["figure"].startswith("mean IoU of")] == [
        f"mean IoU of {head}" for head in ("fcn8s", "fcn16s", "fcn32s")
    ]
    again = figures(segmentation, *flags)
    assert [one["value"] for one in again if "seconds" not in one["figure"]] == [
        one["value"] for one in found if "seconds" not in one["figure"]
    ], "runs that are there are not made again"


def test_precision(figures: Figures) -> None:
    (found,) = figures(precision, *SMALL, "--batch-size", 2, "--repeats", 1)
    assert set(found["images_per_second"]) == {"bf16", "fp32"}


def test_step(figures: Figures) -> None:
    plain, now, _ = figures(step, *SMALL, "--batch-size", 2, "--repeats", 1)
    assert set(now["milliseconds"]) == set(plain["milliseconds"]) == {"network", "clip", "optimizer", "average"}
    assert 0 < now["value"] < 1


def test_study(figures: Figures, here: None, scenes_yaml: Path, tmp_path: Path) -> None:
    recipe = {"data": str(scenes_yaml), "width": 0.0625, "imgsz": 32, "device": "cpu", "precision": "fp32",
              "workers": 0, "train": {"epochs": 1, "batch_size": 4}}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = {"title": "One way", "recipe": "recipe.yaml", "seeds": [0], "methods": {"scratch": {"cl_splits": 0}}}
    (tmp_path / "way.yaml").write_text(yaml.safe_dump(content | {"table": {}}))
    (found,) = figures(study, tmp_path / "way.yaml")
    assert "its 2 processes" in found["figure"]


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("cascade", "detector", "maps"):
        lines = (ROOT / "results" / f"{path}.json").read_text().splitlines()
        assert table.table(lines).count("\n| ") == len(lines)
    line = {"figure": "difference", "value": 4.59e-5, "target": 1e-6, "holds": False, "floor": None, "trials": 1200}
    assert table.table([json.dumps(line)] * 2).endswith("|\n\nProcessor not recorded.")
    known = line | {"figure": "ratio", "processor": "x", "trials": 1}
    assert table.table([json.dumps(own) for own in (line, known)]).endswith("\n\nProcessor not recorded: difference.")
    line["processor"] = "x"
    assert table.table([json.dumps(line)]).endswith("| difference, 1,200 trials | **4.6e-05** | 1e-06 | – |")


def test_peer(script: Script, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's command line runs here too."""

    def yolo(folder: Path, *words: str) -> None:
        entry = peer_entry()
        monkeypatch.chdir(folder)
        entry("detect " + " ".join(words))

    monkeypatch.setattr(peer, "yolo", yolo)
    write_yaml(tmp_path / "data.yaml", path=str(scenes))
    recipe = {"data": "data.yaml", "imgsz": 64, "train": {"epochs": 1, "batch_size": 4}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    flags = ["--recipe", tmp_path / "recipe.yaml", "--json", tmp_path / "m.json", "--project", tmp_path]
    script(peer, *flags, "--model", "yolov3-tiny.yaml")
    assert json.loads((tmp_path / "m.json").read_text())["split"] == "test"


def test_interruptions_that_hit_nothing_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    whole: dict[str, Any] = {"seed": 0, "hits": 1, "differing": [], "codes": [[0]]}
    interruptions.show_kind("kill", "x", [whole, whole | {"traceback": True}, whole | {"hits": 0}])
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["trials"], found["undisturbed"]) == (0.5, 3, 1)


def peer_entry() -> Callable[[str], None]:
    from utils.ultralytics_parts import ultralytics

    entry: Callable[[str], None] = ultralytics("cfg").entrypoint
    return entry


@pytest.mark.parametrize("signals", ["kill", "pairs"])
def test_interruptions(signals: str, figures: Figures, tmp_path: Path) -> None:
    """One run that is disturbed, and resumed; the second time the journal has it."""
    journal = tmp_path / "journal.jsonl"
    flags = ["--signals", signals, "--trials", 1, "--only", "one process", "--journal", journal]
    (found,) = figures(interruptions, *flags)
    assert (found["value"] + found["undisturbed"], found["trials"], found["tracebacks"]) == (1, 1, 0)
    before = journal.read_text()
    assert figures(interruptions, *flags)[0]["value"] == found["value"]
    assert journal.read_text() == before


def test_any_number_of_pictures_looks_at_each_once(tmp_path: Path) -> None:
    found = any_number.sensitivity(any_number.write_tiny(tmp_path / "data", 40))
    assert (found["pictures"], found["passes"]) == (40, 1)
    assert found["before_mb"] <= found["maps_mb"] <= found["ridge_mb"] <= found["sgd_mb"]


def test_chest_xrays_of_any_number(tmp_path: Path) -> None:
    """The lists, boxes and findings are in the published proportions."""
    description = load_description(any_number.write_chest(tmp_path / "data", 280))
    train, test = (read_split(description, name) for name in ("train", "test"))
    assert (len(train.records), len(test.records)) == (216, 64)
    assert [sum(len(record.labels) > 0 for record in split.records) for split in (train, test)] == [0, 2]
    assert not train.problems + test.problems
