"""COCO: instances json; a split is `file.json`, or `file.json#part` for its images whose `split` is `part`."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data.coco_json import Entry, Id, Instances, number, read_instances
from data.images import readable
from data.lists import place, search
from data.parsing import ROUNDING, check_box, class_index
from data.records import Description, Notice, Problem, Record, Split
from utils.errors import UserError
from utils.paths import is_folder

HINT = "correct the json, or delete the annotation"
Sizes = list[tuple[int, int] | None]


def read_coco(description: Description, split: str) -> Split:
    """Read one split; crowds and the areas within outlines are kept.

    Boxes are x, y, w, h in pixels of an image of the `width` and `height` that the json states; where the file
    is of another size, they are scaled to it.

    Raises:
        UserError: no such json or part of it, no images folder, or a class outside `names`.
    """
    path, part = json_of(description.root, description.split(split), split)
    content = read_instances(path)
    chosen = [entry for entry in content.images if not part or entry.get("split") == part]
    problems: list[Problem] = []
    labels = category_indices(content, description.names, path)
    numbers = image_numbers(content, chosen, path, problems)
    paths, notices = image_paths(content.images, chosen, description, path)
    sizes = readable(paths, problems)
    boxes = Boxes(content, chosen, sizes, numbers, labels, path)
    records = boxes.records(paths, [entry_value(entry, description.group) for entry in chosen], problems)
    without = [path.name for path, count in zip(paths, boxes.counts, strict=True) if not count]
    notices += [
        Notice(f"of {len(chosen)} images have no annotation", without, "such images count as images without boxes")
    ]
    notices += [
        Notice("images are not of the size that the json states", boxes.scaled(paths), "their boxes are scaled")
    ]
    notices += [Notice("categories have no box and are left out of the classes", unused(content, description.names))]
    return Split(split, description, records, problems, [notice for notice in notices if notice.places])


def json_of(root: Path, value: str, split: str) -> tuple[Path, str]:
    """The json that a split is called after, and the part of it, or nothing; of a folder, the only json in it.

    Raises:
        UserError: a folder with another number of them.
    """
    file, _, part = value.partition("#")
    path = place(root, file)
    if not is_folder(path):
        return path, part
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        hint = f"name it in `{split}:`, or with `labels:` where `{split}:` is a fraction"
        raise UserError(f"{len(found)} json files instead of one", where=path, hint=hint)
    return found[0], part


def image_paths(
    entries: list[Entry], chosen: list[Entry], description: Description, path: Path
) -> tuple[list[Path], list[Notice]]:
    """Where the images of chosen entries are, or were looked for; and what is to be said of their names.

    Args:
        entries: all of the json: an image belongs to the one that names it exactly.
    """
    folder = description.images or image_folder(description.root, path)
    looked = search(description, folder, listing=path)
    names = [entry["file_name"] for entry in entries]
    found = dict(zip(names, looked.find_all([((name,), looked.roots) for name in names]), strict=True))
    asked = {entry["file_name"] for entry in chosen}
    looked.moved = [name for name in looked.moved if name in asked]
    return [found[entry["file_name"]] or folder / entry["file_name"] for entry in chosen], looked.notices(path)


def coco_names(root: Path, train: str) -> list[str]:
    """The categories of the training json in the order of their ids.

    A category that no box uses is no class where another has its name, or calls it its `supercategory`: exports begin
    with the name of their project as a root.
    """
    path, _ = json_of(root, train, "train")
    content = read_instances(path, keep=True)
    ordered = sorted(content.categories, key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
    used = used_categories(content)
    return [entry["name"] for entry in ordered if str(entry["id"]) in used or not is_root(entry, content)]


def coco_numbers(description: Description, split: str) -> list[Id | None]:
    """The category id of each class in the first json of a split that has it; None for those without.

    Says which json has other ids than those before it.
    """
    found: list[Id | None] = [None] * len(description.names)
    for part in description.parts(split):
        path, _ = json_of(description.root, part, split)
        own = part_numbers(path, description.names)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(found, own, strict=True)):
            print(f"{path} has other category ids than the json before it, which count")
        found = [new if before is None else before for before, new in zip(found, own, strict=True)]
    return found


def part_numbers(path: Path, names: Sequence[str]) -> list[Id | None]:
    """The category id of each class in one json; None for those without."""
    content = read_instances(path)
    used = used_categories(content)
    of_name = {
        own["name"].casefold(): own["id"] for own in sorted(content.categories, key=lambda own: str(own["id"]) in used)
    }
    return [of_name.get(name.casefold()) for name in names]


def is_root(entry: Entry, content: Instances) -> bool:
    """Whether a category has the name of another, or is the `supercategory` of one."""
    others = [other for other in content.categories if other is not entry]
    return any(entry["name"] in (other["name"], other.get("supercategory")) for other in others)


def used_categories(content: Instances) -> set[str]:
    """Ids of the categories that boxes use, as text: "7" is 7 in either place."""
    return set(map(str, content.annotations.categories))


def unused(content: Instances, names: Sequence[str]) -> list[str]:
    """Categories without box that are no class of their own."""
    used = used_categories(content)
    twice = {name for name, count in Counter(entry["name"] for entry in content.categories).items() if count > 1}
    spare = (entry for entry in content.categories if str(entry["id"]) not in used)
    return [
        f"{entry['name']} ({entry['id']})" for entry in spare if entry["name"] not in names or entry["name"] in twice
    ]


def image_folder(root: Path, path: Path) -> Path:
    """Where the images of `instances_<name>.json` are: <name>, images/<name> or images; else beside the json."""
    name = path.stem.removeprefix("instances_")
    candidates = (root / name, root / "images" / name, root / "images")
    return next((folder for folder in candidates if folder.is_dir()), path.parent)


def category_indices(content: Instances, names: list[str], path: Path) -> dict[Id, int]:
    """Category id → class index, for the categories that annotations use.

    Raises:
        UserError: one of them is not in names.
    """
    used = used_categories(content)
    return {
        entry["id"]: class_index(entry["name"], names, f"{path}, category {entry['id']}")
        for entry in content.categories
        if str(entry["id"]) in used
    }


def label_finder(labels: dict[Id, int]) -> Callable[[Id], int]:
    """What gives the class index of the category that an annotation names, −1 for none; "7" is 7 in either place."""
    written = {str(own): index for own, index in labels.items()}
    return lambda named: labels.get(named, written.get(str(named), -1))


def image_numbers(content: Instances, chosen: list[Entry], path: Path, problems: list[Problem]) -> np.ndarray:
    """[rows] which of the chosen images each annotation belongs to, −1 for others; those of no image are problems."""
    everywhere = {entry["id"] for entry in content.images}
    written = {str(own): own for own in everywhere}  # "7" for 7 and the other way round
    index = {entry["id"]: number for number, entry in enumerate(chosen)}
    ids = content.annotations.images
    known = {named: named if named in everywhere else written.get(str(named)) for named in set(ids)}
    lost = {named for named, own in known.items() if own is None}
    for row in content.rows if lost else ():
        if ids[row] in lost:
            where = f"{path}, annotation {content.annotations.ids[row]}"
            problems.append(Problem(where, f"image_id {ids[row]} is not among the images", HINT))
    numbers = {named: index.get(own, -1) for named, own in known.items()}
    found = np.array([numbers[ids[row]] for row in content.rows], np.int64)
    for entry in content.strange:
        where = f"{path}, annotation {entry.get('id')}"
        problems.append(Problem(where, f"image_id {entry.get('image_id')} is not among the images", HINT))
    return found


def no_category(named: object) -> str:
    """What is said of an annotation whose category is none of the json."""
    return f"no category of id {str(named)[:40]}"


def entry_value(entry: Entry, key: str | None) -> str | None:
    """What an image's entry says under a key; None where it says nothing."""
    return None if key is None or entry.get(key) is None else str(entry[key])


class Boxes:
    """All boxes of a split at once, image by image.

    Args:
        numbers: [rows] of the image among the chosen ones, −1 for none.
        labels: category id → class index.
    """

    def __init__(
        self,
        content: Instances,
        chosen: list[Entry],
        sizes: Sizes,
        numbers: np.ndarray,
        labels: dict[Id, int],
        path: Path,
    ) -> None:
        self.annotations, self.chosen, self.sizes, self.path = content.annotations, chosen, sizes, path
        self.counts = np.bincount(numbers[numbers >= 0], minlength=len(chosen))
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        self.rows, self.images = np.array(content.rows, np.int64)[order], numbers[order]
        label_of, named = label_finder(labels), self.annotations.categories
        label = {own: label_of(own) for own in set(named)}
        self.labels = np.array([label[named[row]] for row in self.rows.tolist()], np.int64)
        self.height, self.width = np.array([size or (0, 0) for size in sizes], np.float64).reshape(-1, 2).T
        self.declared_w = self._declared("width", self.width)
        self.declared_h = self._declared("height", self.height)

    def _declared(self, key: str, actual: np.ndarray) -> np.ndarray:
        """[images] of what the json says; a json without sizes is taken to speak of the file as it is."""
        given = [entry.get(key) for entry in self.chosen]
        return np.array([side if not value else stated(value) for value, side in zip(given, actual, strict=True)])

    def records(self, paths: list[Path], groups: list[str | None], problems: list[Problem]) -> list[Record]:
        """The record of each image that can be read; appends to problems what is left out."""
        boxes, clipped, good = self._corners()
        there = np.array([size is not None for size in self.sizes], bool)
        for fault in np.flatnonzero(~good & there[self.images]).tolist():
            where = f"{self.path}, annotation {self.annotations.ids[self.rows[fault]]}"
            problems.append(Problem(where, self._fault(fault), HINT))
        images, boxes, labels = self.images[good], boxes[good], self.labels[good]
        clipped = clipped[good]
        rows = self.rows[good]
        crowd = np.frombuffer(self.annotations.crowd, np.uint8).astype(bool)[rows]
        areas = self._areas(rows, boxes)
        ends = np.searchsorted(images, np.arange(len(paths) + 1))
        small, difficult = boxes.astype(np.float32), np.zeros(len(boxes), bool)
        found = []
        for at, (image, size, group) in enumerate(zip(paths, self.sizes, groups, strict=True)):
            own = slice(ends[at], ends[at + 1])
            if size is not None:
                reaching = int(clipped[own].sum())
                found.append(
                    Record(
                        image,
                        size,
                        small[own],
                        labels[own],
                        difficult[own],
                        group=group,
                        clipped=reaching,
                        crowd=crowd[own],
                        areas=areas[own],
                        number=self.chosen[at]["id"],
                    )
                )
        return found

    def scaled(self, paths: list[Path]) -> list[str]:
        """Names of the images with boxes that are of another size than the json states, and not turned."""
        other = (self.declared_w != self.width) | (self.declared_h != self.height)
        usable = np.isfinite(self.declared_w * self.declared_h) & (self.width > 0) & ~self._turned() & (self.counts > 0)
        return [paths[at].name for at in np.flatnonzero(other & usable)]

    def _turned(self) -> np.ndarray:
        """[images] whether height and width have changed places."""
        return np.asarray(
            (self.height != self.width) & (self.declared_h == self.width) & (self.declared_w == self.height)
        )

    def _corners(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[n, 4] half-open boxes in pixels of the files, inside them; [n] which reached out; [n] which are good."""
        x, y, w, h = np.frombuffer(self.annotations.boxes, np.float64).reshape(-1, 4)[self.rows].T
        width, height, images = self.width[self.images], self.height[self.images], self.images
        with np.errstate(all="ignore"):
            across, down = (self.width / self.declared_w)[images], (self.height / self.declared_h)[images]
            whole = np.stack([x * across, y * down, (x + w) * across, (y + h) * down], 1)
            inside = np.stack(
                [
                    np.maximum(whole[:, 0], 0),
                    np.maximum(whole[:, 1], 0),
                    np.minimum(whole[:, 2], width),
                    np.minimum(whole[:, 3], height),
                ],
                1,
            )
            reaching = np.abs(inside - whole).max(1, initial=0) > ROUNDING
            good = (
                np.isfinite(whole).all(1)
                & (whole[:, :2] < whole[:, 2:]).all(1)
                & (inside[:, :2] < inside[:, 2:]).all(1)
            )
        return inside, reaching, good & (self.labels >= 0) & ~self._turned()[images]

    def _fault(self, at: int) -> str:
        """What is wrong with an annotation."""
        row, image = int(self.rows[at]), int(self.images[at])
        if self.labels[at] < 0:
            return no_category(self.annotations.categories[row])
        if row in self.annotations.odd:
            return f"box of {str(self.annotations.odd[row])[:80]} instead of four numbers"
        declared_w, declared_h = self.declared_w[image], self.declared_h[image]
        if not (declared_w > 0 and declared_h > 0):
            sizes = [str(self.chosen[image].get(key))[:20] for key in ("width", "height")]
            return f"its image is said to be of {'×'.join(sizes)}"
        height, width = self.sizes[image] or (0, 0)
        if height != width and (declared_h, declared_w) == (width, height):
            return f"the image of {width}×{height} was turned since its box was drawn on {height}×{width}"
        x, y, w, h = self.annotations.boxes[4 * row : 4 * row + 4]
        across, down = width / declared_w, height / declared_h
        fault = check_box((x * across, y * down, (x + w) * across, (y + h) * down), (height, width))
        assert isinstance(fault, str)
        return fault

    def _areas(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """[n] areas in the file's pixels that annotations give, where these fit into their box: else the box's."""
        whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        areas = np.frombuffer(self.annotations.areas, np.float64)[rows]
        given = np.frombuffer(self.annotations.boxes, np.float64).reshape(-1, 4)[rows]
        with np.errstate(all="ignore"):
            scaled = np.minimum(whole, areas * whole / (given[:, 2] * given[:, 3]))
        return np.where((areas > 0) & np.isfinite(areas), scaled, whole)


def stated(value: object) -> float:
    """A side of an image as the json states it, a text too; not a number where no image can have it."""
    try:
        side = number(float(value) if isinstance(value, str) else value)
    except ValueError:
        return float("nan")
    return side if 0 < side < float("inf") else float("nan")
