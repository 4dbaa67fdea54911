"""YOLO: one txt file for each image, `class cx cy w h` a line, in fractions of the image's size."""

from dataclasses import replace
from pathlib import Path

from data.images import readable
from data.label_files import match
from data.lists import split_images
from data.parsing import read_text
from data.records import Description, Notice, Problem, Record, Split, make_record
from data.yolo_lines import Line, Reading, parse_line, read_line, reading_of
from utils.errors import UserError

__all__ = ["read_line", "read_yolo"]

LONGEST = 4 * 2**20  # bytes of the labels of one image
HINT = "correct the line, or delete it"
Lines = list[tuple[str, Line]]  # file:line and its content


def read_yolo(description: Description, split: str) -> Split:
    """Read one split: a folder of images, or a list of them. An image without txt file has no boxes.

    The labels of `…/images/…/a.jpg` are `…/labels/…/a.txt`, else `a.txt` beside it or in `labels/`.
    `labels:` in the data yaml names another folder, which is laid out as that of the images. The description of the
    split says what long lines are: for the other parts and splits, too.

    Raises:
        UserError: no images, not one txt file, or a class outside `names`.
    """
    images, notices = split_images(description, split)
    roots = [description.labels] if description.labels else [description.root / "labels"]
    found = match(images, description, split, lambda image: places(image, description), roots, is_label)
    records: list[Record] = []
    problems: list[Problem] = []
    sizes = readable(images, problems)
    files = [file_lines(path, problems) for path in found.files]
    read = [line for lines in files for _, line in lines or ()]
    if description.long_lines is None and any(line.long for line in read):
        decided = reading_of((line.values for line in read), description.keypoints)
        description = replace(description, long_lines=decided)
    reading = Reading(description.long_lines or Reading.POLYGONS)
    for image, lines, size in zip(images, files, sizes, strict=True):
        if size is not None and lines is not None:
            records.append(labelled(image, lines, size, reading, description.names, problems))
    return Split(split, description, records, problems, [*notices, *found.notices, *said(files, reading)])


def places(image: Path, description: Description) -> list[Path]:
    """Where the labels of an image may be, as `a.txt` and as `a.jpg.txt`."""
    root, home = description.root, description.images or description.root
    within = image.relative_to(home) if image.is_relative_to(home) else Path(image.name)
    if description.labels is not None:
        stems = [description.labels / within]
        if within.parts[0].lower() == "images" and len(within.parts) > 1:
            stems.append(description.labels / within.relative_to(within.parts[0]))
    else:
        stems = [mirrored(image, root), image, root / "labels" / within]
    stems = list(dict.fromkeys([*stems, image]))
    return [path for stem in stems for path in (stem.with_suffix(".txt"), stem.with_name(f"{stem.name}.txt"))]


def mirrored(image: Path, root: Path) -> Path:
    """The path of an image with its last folder called `images` called `labels`."""
    parts = list(image.relative_to(root).parts if image.is_relative_to(root) else image.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return root.joinpath(*parts)


def is_label(path: Path) -> bool:
    """Whether a txt file holds labels: lists, notes and names of classes may be beside it."""
    try:
        lines = read_text(path, LONGEST).split("\n", 1)
    except (OSError, ValueError):
        return False
    return not lines[0].strip() or isinstance(parse_line(lines[0]), Line)


def file_lines(path: Path | None, problems: list[Problem]) -> Lines | None:
    """Lines of one txt file, none where there is no such file; None where it cannot be read.

    Appends to problems what is left out.
    """
    try:
        text = "" if path is None else read_text(path, LONGEST)
    except (OSError, ValueError) as error:
        what = f"cannot be read ({str(error)[:80]})"
        problems.append(Problem(str(path), what, "write it as text in UTF-8; its image is left out too"))
        return None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parsed = parse_line(line)
        if isinstance(parsed, Line):
            found.append((f"{path}:{number}", parsed))
        else:
            problems.append(Problem(f"{path}:{number}", parsed, HINT))
    return found


def labelled(
    image: Path, lines: Lines, size_hw: tuple[int, int], reading: Reading, names: list[str], problems: list[Problem]
) -> Record:
    """The record of an image; appends to problems what is left out."""
    boxes, labels = [], []
    for where, line in lines:
        box = line.box(size_hw, reading)
        if isinstance(box, str):
            problems.append(Problem(where, box, HINT))
            continue
        if not 0 <= line.label < len(names):
            what = f"class number {line.label:g}, but those of `names` are 0 to {len(names) - 1}"
            raise UserError(what, where=where, hint="correct the line, or `names:` in the data yaml")
        boxes.append(box)
        labels.append(line.label)
    return make_record(image, size_hw, boxes, labels)


def said(files: list[Lines | None], reading: Reading) -> list[Notice]:
    """What is to be said of lines that are more than a class and a box."""
    read = [(where, line) for lines in files for where, line in lines or ()]
    outlines = [where for where, line in read if line.outlined(reading) and line.pairs]
    others = [where for where, line in read if line.long and not line.outlined(reading)]
    notices = [
        Notice("lines end with a score, which does not count", [where for where, line in read if line.scored]),
        Notice(
            "lines end with a number that is no score and does not count",
            [where for where, line in read if line.numbered],
            "a track's number, or the angle of a box, which is taken as if it were not turned",
        ),
        Notice(
            "lines are taken for polygons, the boxes around which count",
            outlines,
            "`kpt_shape: [points, 2 or 3]` makes them poses",
        ),
        Notice(
            "lines are taken for a box with "
            + ("a score and a track's number" if reading is Reading.TRACKS else "keypoints"),
            others,
            "`kpt_shape: [0, 0]` in the data yaml makes them polygons",
        ),
    ]
    return [notice for notice in notices if notice.places]
