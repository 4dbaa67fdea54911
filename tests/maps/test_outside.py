"""A map and a measure from a file of the user's own: in the help, in a run, in its report."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Script, Writer

import val
from maps.evidence import Evidence
from maps.kinds import MAPS
from maps.measures import MEASURES, Measured, MeasureEntry, Rule, a_number_each
from utils.errors import UserError

OWN = '''
import torch

from maps.evidence import Evidence
from maps.kinds import MAPS, MapEntry
from maps.measures import MEASURES, MeasureEntry


def brightness(network, images, labels):
    """How bright each pixel is."""
    return [Evidence(images.mean(1)) for _ in network.cuts]


MAPS.add(MapEntry("brightness", "brightness of the picture", brightness, layered=False))
MEASURES.add(MeasureEntry("spread", "deviation of the map", lambda own: own.maps.std((1, 2)), digits=4))
'''


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """The file; what it adds is taken out again."""
    path = tmp_path / "my_maps.py"
    path.write_text(OWN)
    kinds, measures = set(MAPS), set(MEASURES)
    yield path
    for table, known in ((MAPS, kinds), (MEASURES, measures)):
        for name in set(table) - known:
            del table[name]


def test_in_help_run_and_report(
    outside: Path, written: Writer, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script(val, "--import", outside, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "rise, brightness [gradcam saliency]" in said
    assert "not_found, spread" in said
    flags = ["--localise", "--maps", "brightness", "--images", 2, "--bootstrap", 20, "--untrained", 1]
    flags += ["--project", tmp_path]
    script(val, "--import", outside, *flags, "--weights", written("cl6"), written("e2e"), "--device", "cpu")
    folder = tmp_path / "val" / "exp"
    page = (folder / "report.html").read_text()
    assert "brightness of the picture: deviation of the map by depth" in page
    found = json.loads((folder / "localise.json").read_text())
    own = next(line for line in found["lines"] if line["map"] == "brightness")
    assert 0 < own["measures"]["spread"]["mean"][0] < 1
    assert (
        (folder / "values" / "spread.csv").read_text().startswith("image,class,box_share,group,brightness/cl6/seed0/b1")
    )
    assert "| random" in (folder / "localise.md").read_text()


def test_unknown_names_before_a_folder_is_made(written: Writer, script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--maps: no map `layercamm` — did you mean layercam"):
        script(val, "--localise", "--maps", "layercamm", "--weights", written("cl6"), "--project", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="cannot be called 'survivors'"):
        MeasureEntry("survivors", "mine", len)


def test_a_study_refuses_unknown_maps(tmp_path: Path) -> None:
    from studies.recipe import read_study

    (tmp_path / "recipe.yaml").write_text("data: scenes.yaml\n")
    (tmp_path / "study.yaml").write_text(
        "title: One\nrecipe: recipe.yaml\nseeds: [0]\nmethods: {cl6: {}}\n"
        "reports: {maps: {kind: localise, maps: [gradcan]}}\n"
    )
    with pytest.raises(UserError, match="report maps: no map `gradcan` — did you mean gradcam"):
        read_study(tmp_path / "study.yaml", tmp_path)


def test_a_measure_that_gives_no_number_a_map() -> None:
    entry = MeasureEntry("odd", "odd", lambda own: own.maps.mean())
    truth = np.zeros((2, 8, 8), bool)
    own = Measured(Evidence(torch.rand(2, 8, 8)), truth, [np.zeros((0, 4))] * 2, Rule())
    with pytest.raises(ValueError, match=r"measure 'odd' gives \(\) for 2 maps"):
        a_number_each(entry, own, 2)
