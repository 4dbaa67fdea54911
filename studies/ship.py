"""Small weights for git: `python -m studies.ship RUN …` copies the networks of finished runs to weights/.

They are stored in half precision. The detector is measured once more as it ships. weights/zoo.yaml and the table of
weights/README.md are written.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
import yaml

from data.description import load_description
from data.formats import read_split
from data.seen import numbers_of
from evaluation.classification import METRICS
from evaluation.learnt import judged_by
from utils import checkpoint
from utils.checkpoint import TRAINED_ON
from utils.config import ROOT
from utils.errors import UserError, run_cli
from utils.files import sha256_of, write_text
from utils.parser import Parser
from utils.text import NOTHING, as_markdown
from utils.zoo import FOLDER, LIST, Shipped

FILES = ("backbone_cl*.pt", "backbone_e2e*.pt", "best.pt")
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=\n<!-- end -->)", re.DOTALL)


def halved(value: Any) -> Any:
    """Tensors of floats in half precision, wherever they are."""
    if isinstance(value, torch.Tensor):
        return value.half() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: halved(own) for key, own in value.items()}
    return [halved(own) for own in value] if isinstance(value, list) else value


def from_root(value: Any) -> Any:
    """Paths of data yamls that the project has, relative to its root, wherever it was when the run was made."""
    if isinstance(value, dict):
        return {key: from_root(own) for key, own in value.items()}
    own = Path("data") / Path(value).name if isinstance(value, str) and value.endswith(".yaml") else None
    return str(own) if own and (ROOT / own).is_file() else value


def ship(path: Path, name: str) -> Shipped:
    """Copy a file to weights/ under a name, and describe it."""
    content = checkpoint.load_tensors(path)
    content["recipe"] = from_root(content["recipe"])
    if TRAINED_ON not in content:  # a run of before checkpoints said what they learnt from
        description = load_description(ROOT / content["recipe"]["data"])
        content[TRAINED_ON] = numbers_of(read_split(description, "train").records)
    kind = content["kind"]
    if kind not in ("detector", "backbone"):
        raise UserError(f"holds a {kind}", where=path, hint="ship detectors and backbones")
    target = FOLDER / f"{name}.pt"
    checkpoint.save(target, halved(content))
    figures = detector_figures(target) if kind == "detector" else backbone_figures(content)
    recipe = content["recipe"]
    about = f"{recipe['backbone']} ×{recipe['width']:g}, {Path(recipe['data']).stem}"
    digest = sha256_of(target)
    return Shipped(file=target.name, kind=kind, about=about, recipe=recipe_of(path), figures=figures, sha256=digest)


def is_default(own: Shipped, last: Path) -> bool:
    """Whether commands take a file where no run is: every detector, and the backbones of the last run."""
    return own.kind == "detector" or own.recipe == f"configs/zoo/{last.name}.yaml"


def recipe_of(path: Path) -> str:
    """The recipe in configs/zoo of a run: they have one name."""
    return f"configs/zoo/{path.parents[1].name}.yaml"


def backbone_figures(content: dict[str, Any]) -> dict[str, float]:
    """The figure that decides, of the last classifier at the view that it learnt from."""
    name = judged_by(content["single_label"])
    return {METRICS[name].short: round(float(content["metrics"][-1][name]), 3)}


def detector_figures(path: Path) -> dict[str, float]:
    """Average precision on the test split, of the file as it ships."""
    from evaluation.average_precision import evaluate_detector
    from models import load_detector

    found = evaluate_detector(load_detector(path))
    return {name: round(float(found[name]), 3) for name in ("map", "map50")}


def table(files: dict[str, Shipped]) -> str:
    """A row for each file."""
    rows = [["`--weights`", "file", "MB", "network, data", "recipe", "figures", "SHA-256"]]
    for name, own in files.items():
        figures = ", ".join(f"{key} {value:.3f}" for key, value in own.figures.items())
        size = f"{own.path.stat().st_size / 1e6:.1f}" if own.path.is_file() else NOTHING
        recipe = f"[{Path(own.recipe).stem}](../{own.recipe})"
        rows.append([f"`zoo:{name}`", f"`{own.file}`", size, own.about, recipe, figures, f"`{own.sha256[:12]}…`"])
    return as_markdown(rows, "llrl")


def main() -> None:
    """Ship the files of the runs."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run, named as its recipe"
    )
    files: dict[str, Shipped] = {}
    runs = parser.parse_args().runs
    for run in runs:
        found = [path for pattern in FILES for path in sorted((run / "weights").glob(pattern))]
        if not found:
            raise UserError("holds no weights to ship", where=run, hint="give the folder of a finished run")
        for path in found:
            name = f"{run.name}_{'detector' if path.stem == 'best' else path.stem.removeprefix('backbone_')}"
            files[name] = ship(path, name)
    files = {name: own.model_copy(update={"default": is_default(own, runs[-1])}) for name, own in files.items()}
    content = {name: own.model_dump(exclude_none=True) for name, own in files.items()}
    write_text(LIST, yaml.safe_dump(content, sort_keys=False))
    page = FOLDER / "README.md"
    write_text(page, TABLE.sub(table(files).replace("\\", r"\\"), page.read_text()))
    print(table(files))


if __name__ == "__main__":
    run_cli(main)
