"""FCN-32s, -16s and -8s on the built-in scenes, from the same cascaded backbone. Prints JSON lines.

`python -m benchmarks.segmentation` trains configs/segment_scenes.yaml with each head, FCN-8s with its pre-training, and
judges them on the test split. Runs that are there are not made again, and unfinished ones continue.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import show
from utils.config import ROOT
from utils.errors import run_cli
from utils.parser import Parser
from utils.runs import FINISHED

RECIPE = ROOT / "configs" / "segment_scenes.yaml"
FIRST, OTHERS = "fcn8s", ("fcn16s", "fcn32s")  # the first pre-trains the backbone that all begin with
TARGET, SECONDS = 0.6, 10 * 60 * 2  # mean IoU; ten minutes on two cores


def command(*words: object) -> None:
    """Run a script of the project to its end; what it says goes to standard error.

    Raises:
        CalledProcessError: it failed, and has said why.
    """
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True, stdout=sys.stderr)


def cpu_seconds() -> float:
    """Of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def trained(head: str, recipe: Path, project: Path, flags: list[str]) -> float | None:
    """Train with a head; seconds of the processors, None where a part was done before."""
    run, began = project / "train" / head, cpu_seconds()
    if (run / FINISHED).exists():
        return None
    if (run / "recipe.yaml").exists():
        command("train.py", "--resume", run, "--project", project)
        return None
    weights = [] if head == FIRST else ["--weights", project / "train" / FIRST / "weights" / "backbone_cl3.pt"]
    command("train.py", "--recipe", recipe, "--fcn", head, *weights, "--project", project, "--name", head, *flags)
    return cpu_seconds() - began


def judged(head: str, project: Path, flags: list[str]) -> dict[str, Any]:
    """Figures on the test split."""
    file = project / f"{head}.json"
    weights = project / "train" / head / "weights" / "best.pt"
    command(
        "val.py", "--segment", "--weights", weights, "--json", file, "--project", project, "--bootstrap", 1000, *flags
    )
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main() -> None:
    """Train, judge, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="of all heads [configs/segment_scenes.yaml]")
    parser.add_argument("--project", type=Path, default=ROOT / "runs" / "segmentation", help="where runs are kept")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, mps [cpu]")
    arguments = parser.parse_args()
    project, device = arguments.project.resolve(), ["--device", arguments.device]
    mean: dict[str, float] = {}
    for head in (FIRST, *OTHERS):
        seconds = trained(head, arguments.recipe, project, device)
        figures = judged(head, project, device)
        mean[head] = figures["miou"]
        about = {key: round(figures[key], 4) for key in ("accuracy", "class_accuracy", "weighted_iou")}
        about |= {"interval": figures["intervals"]["miou"], "images": figures["images"], "cpu_seconds": seconds}
        show(f"mean IoU of {head}", mean[head], TARGET if head == FIRST else 0, "built-in scenes, test", **about)
        if seconds is not None and head == FIRST:
            show("seconds of processors, pre-training and FCN-8s", seconds, SECONDS, "two cores", least=False)
    show("mean IoU, FCN-8s minus FCN-16s", mean["fcn8s"] - mean["fcn16s"], 0, "built-in scenes, test")
    show("mean IoU, FCN-16s minus FCN-32s", mean["fcn16s"] - mean["fcn32s"], 0, "built-in scenes, test")


if __name__ == "__main__":
    run_cli(main)
