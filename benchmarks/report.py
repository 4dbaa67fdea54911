"""Size of the report on maps, and whether it fits the window of a phone and of a desk. Prints JSON lines.

`python -m benchmarks.report`. Networks are untrained: a page is as large, whatever was learned. Without Chromium only
the size is measured.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.figures import show
from benchmarks.maps import backbone_file
from benchmarks.workload import write_scenes
from data.description import load_description
from data.formats import read_split
from evaluation.accuracy import read_backbones
from maps.prepare import prepare
from maps.report import write_report
from maps.study import run
from maps.summary import summarise
from utils.errors import UserError, run_cli
from utils.parser import Parser

METHODS = ("cl6", "cl3", "e2e", "e2e_compute")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
WINDOWS = (420, 1300)  # pixels across
LARGEST = 5.0  # MB
MEASURED = "<script>document.title = `${innerWidth} ${document.documentElement.scrollWidth}`</script></body>"


def written(folder: Path, images: int, width: float, imgsz: int, lime: int) -> tuple[Path, int]:
    """A report on untrained networks and built-in scenes: the page, and how many cases it is of."""
    data = write_scenes(folder / "scenes", 8, 4, images)
    files = read_backbones([backbone_file(folder, data, method, width, imgsz) for method in METHODS])
    study = run(prepare(files, read_split(load_description(data), "test"), lime=lime))
    write_report(summarise(study, 1000), "python -m benchmarks.report", folder)
    return folder / "report.html", len(study.cases)


def widths(page: Path, window: int, browser: str) -> tuple[int, int]:
    """Pixels across of a window that was asked for, and of the page in it.

    Raises:
        UserError: the browser does not show the page.
    """
    copy = page.with_stem("measured")
    copy.write_text(page.read_text().replace("</body>", MEASURED))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={window},1400"]
    command = [browser, *flags, "--dump-dom", copy.as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    if (found := re.search(r"<title>(\d+) (\d+)</title>", shown)) is None:
        raise UserError("does not show the page", where=browser, hint="try another release")
    return int(found[1]), int(found[2])


def main() -> None:
    """Write a report, measure it."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=420, help="scenes, of about five cases [420]")
    parser.add_argument("--lime", type=int, default=20, help="images that LIME explains [20]")
    parser.add_argument("--width", type=float, default=0.0625, help="of the networks [0.0625]")
    parser.add_argument("--imgsz", type=int, default=128, help="side of the images [128]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page, cases = written(Path(folder), given.images, given.width, given.imgsz, given.lime)
        title = f"report of {cases} cases and {len(METHODS)} networks"
        show(f"{title}, MB", page.stat().st_size / 1e6, LARGEST, "–", least=False)
        if browser := next(filter(None, map(shutil.which, BROWSERS)), None):
            for window in WINDOWS:
                own, across = widths(page, window, browser)
                show(f"{title}, pixels across in a window of {own}", across, own, Path(browser).name, least=False)


if __name__ == "__main__":
    run_cli(main)
