"""What is in a data set: `python -m data.check data/sample.yaml` counts, names what is damaged, draws some of it."""

from collections import Counter
from pathlib import Path

import numpy as np

from data.description import load_description
from data.doubles import files, in_one_split, in_two_splits
from data.formats import read_split
from data.images import UNREAD, images_below, record_rgb
from data.levels import values_of
from data.listing import files_below
from data.records import Description, Notice, Split
from utils.draw import draw_truth, save_page, thumbnail
from utils.errors import run_cli
from utils.files import write_text
from utils.flags import add_name
from utils.limits import PICTURE, UNPACKED, add_limit_flags
from utils.parser import Parser
from utils.runs import new_run
from utils.text import counted

SHOWN = 16  # pictures on the page of a split
MEASURED, BARS, LONGEST = 32, 8, 40  # images of a histogram of values, its bars, and signs in the longest of them
SMALL, MEDIUM = 32, 96  # COCO's sizes of boxes: up to the square of these


def main() -> None:
    """Read every split, print, draw."""
    parser = Parser(description=__doc__)
    parser.add_argument("data", type=Path, help="data yaml")
    parser.add_argument("--download", action="store_true", help="fetch what the yaml names and is not there yet")
    parser.add_argument("--strict", action="store_true", help="the first damaged image or label is an error")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_name(parser)
    add_limit_flags(parser, PICTURE, UNPACKED)
    arguments = parser.parse_args()
    description = load_description(arguments.data, download=arguments.download)
    splits = read_all(description, strict=arguments.strict)
    volumes = {".nii"} if description.format.volumetric else set()
    if unread := files_below(description.root, UNREAD - volumes):
        print(f"{len(unread)} pictures of kinds that are not read, the first is {unread[0]}: save them as JPEG or PNG")
    with new_run(arguments.project, "check", arguments.name) as folder:
        show(splits, folder)


def show(splits: list[Split], folder: Path) -> None:
    """Print what is in the splits; draw some of it, and write what was left out, into a folder."""
    for split in splits:
        print("\n".join([split.summary(), *sizes(split), *histogram(split), *values(split)]))
        save_page(labelled_pictures(split), folder / f"{split.name}.jpg")
    for line in [*in_one_split(splits), *in_two_splits(splits), *in_no_split(splits)]:
        print(line)
    problems = [f"{problem.where}: {problem.what} — {problem.hint}\n" for split in splits for problem in split.problems]
    notices = [f"{place}: {notice.what}\n" for split in splits for notice in split.notices for place in notice.places]
    write_text(folder / "problems.txt", "".join(problems + notices))
    left_out = f", and a list of the {len(problems)} left out" if problems else ""
    print(f"labelled pictures{left_out}: {folder}")


def read_all(description: Description, *, strict: bool) -> list[Split]:
    """Every split, all with the levels of the first."""
    splits: list[Split] = []
    for name in description.splits:
        splits.append(read_split(splits[0].description if splits else description, name, strict=strict))
    return splits


def in_no_split(splits: list[Split]) -> list[str]:
    """A line on the pictures that are where those of the splits are, and are in none of them."""
    used = {path for split in splits for path in files(split)}
    named = {*(str(path) for path in used), *(problem.where for split in splits for problem in split.problems)}
    home = splits[0].description.images
    folders = {path.parent for path in used} if home is None else {home}
    there = sorted({path for folder in folders for path in images_below(folder)})
    spare = [str(path) for path in there if str(path) not in named]
    return [Notice("pictures are in no split", spare).line()] if spare else []


def sizes(split: Split) -> list[str]:
    """Lines on the size of the images and of the boxes."""
    width, height = np.array([record.size_hw[::-1] for record in split.records]).T
    lines = [f"  images from {width.min()}×{height.min()} to {width.max()}×{height.max()} pixels"]
    boxes = np.concatenate([record.boxes_xyxy for record in split.records])
    if len(boxes):
        sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
        small, large = (sides < SMALL).mean(), (sides >= MEDIUM).mean()
        shares = f"{small:.0%} small, {1 - small - large:.0%} medium, {large:.0%} large"
        lines.append(f"  boxes of {sides.min():.0f} to {sides.max():.0f} pixels (root of the area): {shares}")
    return lines


def histogram(split: Split) -> list[str]:
    """A table of boxes and images for each class."""
    names = split.description.names
    boxes: Counter[int] = Counter(label for record in split.records for label in record.labels.tolist())
    images: Counter[int] = Counter()
    for record in split.records:
        images.update(set(record.stated.tolist()))
    wide = max(map(len, names))
    rows = [f"  {name:<{wide}}  {boxes[index]:>9,}  {images[index]:>9,}" for index, name in enumerate(names)]
    return [f"  {'class':<{wide}}  {'boxes':>9}  {'images':>9}", *rows]


def values(split: Split) -> list[str]:
    """A histogram of the values in the files, a line for each bar."""
    pictures = len(split.records[:: -(-len(split.records) // MEASURED)])
    found = values_of(split, MEASURED)
    if not len(found):
        return [f"  {counted(pictures, 'pictures have no value that is a number')}"]
    counts, edges = np.histogram(found, BARS)
    wide = [round(LONGEST * count / counts.max()) for count in counts]
    bars = [
        f"  [{low:>8.6g}, {high:>8.6g}]  {count / len(found):>6.1%}  {'#' * own}"
        for low, high, count, own in zip(edges, edges[1:], counts, wide, strict=False)
    ]
    return [f"  values in {counted(pictures, 'pictures')} from {found.min():g} to {found.max():g}", *bars]


def labelled_pictures(split: Split) -> list[np.ndarray]:
    """Some images with their boxes, evenly through the split."""
    step = -(-len(split.records) // SHOWN)
    names = split.description.names
    return [
        thumbnail(draw_truth(record_rgb(record), record.boxes_xyxy, record.labels, names))
        for record in split.records[::step]
    ]


if __name__ == "__main__":
    run_cli(main)
