"""What a line of YOLO's labels says: a box, one with a score, one of a track, a polygon, or a box with keypoints."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from data.parsing import check_box, numbers
from data.records import Box

BOX = 4  # numbers of a box
SCORED = 5  # and a score
TRACKED = 6  # and the number of a track
PIXELS = 2  # a number above this is one of pixels: fractions of the image's sides are at most 1
NEAR = 0.02  # of the image's sides: keypoints may be so far outside their box
LOOKED_AT = 10_000  # lines that distinguish polygons from poses
MOST_POINTS = 1_000  # numbers of a pose
MOST_CLASSES = 1_000_000
TINY = 1e-12
Values = tuple[float, ...]
Point = tuple[float, float]
Side = tuple[Point, Point]


class Reading(StrEnum):
    """How the lines of a data set are read that are longer than a box and a score."""

    POLYGONS = "polygons"
    POSES = "poses"
    TRACKS = "tracks"


@dataclass(frozen=True, slots=True)
class Line:
    """A class and the numbers after it."""

    label: int
    values: Values

    @property
    def scored(self) -> bool:
        """A box with a score, as detect.py writes it."""
        return len(self.values) == SCORED and 0 <= self.values[BOX] <= 1

    @property
    def numbered(self) -> bool:
        """A box with a number that is no score."""
        return len(self.values) == SCORED and not self.scored

    @property
    def long(self) -> bool:
        """More than a box and a score."""
        return len(self.values) > SCORED

    @property
    def pairs(self) -> bool:
        """The numbers can be those of points."""
        return len(self.values) % 2 == 0

    def outlined(self, reading: Reading) -> bool:
        """The numbers are taken for the points of a polygon."""
        tracked = reading is Reading.TRACKS and len(self.values) == TRACKED
        return self.long and reading is not Reading.POSES and not tracked

    def box(self, size_hw: tuple[int, int], reading: Reading) -> Box | str:
        """The half-open box in pixels, or what is wrong with it."""
        height, width = size_hw
        outlined = self.outlined(reading)
        if outlined:
            if not self.pairs:
                return f"{len(self.values)} numbers after the class are neither a box nor the points of a polygon"
            corners = around(self.values)
        else:
            cx, cy, w, h = self.values[:BOX]
            corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        given = self.values if outlined else self.values[:BOX]
        if PIXELS < max(given) < math.inf:
            return f"`{shown(self)}` is in pixels, not in fractions of the image"
        return check_box([side * scale for side, scale in zip(corners, (width, height) * 2, strict=True)], size_hw)


def read_line(line: str, size_hw: tuple[int, int]) -> tuple[int, Box | str]:
    """Class, and box or what is wrong with it, of a line of its own."""
    parsed = parse_line(line)
    if isinstance(parsed, str):
        return -1, parsed
    return parsed.label, parsed.box(size_hw, reading_of([parsed.values]))


def parse_line(line: str) -> Line | str:
    """The numbers of a line, or what is wrong with it. A class may be written as 1.0."""
    cells = line.split()
    values = numbers(cells, len(cells))
    if values is None or len(values) <= BOX or not whole(values[0]):
        return f"`{line.strip()[:40]}` instead of `class cx cy w h`, or a class and the points of a polygon"
    return Line(int(values[0]), values[1:])


def whole(value: float) -> bool:
    """Whether a number can be that of a class."""
    return abs(value) < MOST_CLASSES and value.is_integer()


def shown(line: Line) -> str:
    """The beginning of a line, for messages."""
    return " ".join([str(line.label), *(f"{value:g}" for value in line.values[:BOX])])


def around(points: Values) -> tuple[float, float, float, float]:
    """X1 y1 x2 y2 around points x, y, x, y, …."""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def reading_of(values: Iterable[Values], keypoints: tuple[int, int] | None = None) -> Reading:
    """What long lines are: nothing in a file says it, but all of them are the same.

    Lines of trackers are a box, a score and a whole number. Poses have as many numbers each, their points are inside
    their box, and as outlines at least one of them would cross itself, or have an odd count of numbers.

    Args:
        keypoints: what the data yaml says in `kpt_shape:`; (0, 0) for polygons.
    """
    if keypoints is not None:
        return Reading.POSES if keypoints[0] > 0 else Reading.POLYGONS
    long = list(islice((own for own in values if len(own) > SCORED), LOOKED_AT))
    if long and all(map(is_track, long)):
        return Reading.TRACKS
    same = len({len(own) for own in long}) == 1
    poses = same and all(map(is_pose, long)) and any(len(own) % 2 or crosses(own) for own in long)
    return Reading.POSES if poses else Reading.POLYGONS


def is_track(values: Values) -> bool:
    """Whether numbers can be a box, a score and the number of a track, which counts from 1."""
    if len(values) != TRACKED:
        return False
    score, number = values[BOX:]
    return 0 <= score <= 1 <= number and number.is_integer() and in_picture(*reach(values))


def is_pose(values: Values) -> bool:
    """Whether numbers can be a box and keypoints: x, y, or x, y and whether it is seen (0, 1, 2); (0, 0) for none."""
    low, high = reach(values)
    if len(values) > MOST_POINTS or not in_picture(low, high):
        return False
    return any(
        all((x, y) == (0, 0) or (low[0] <= x <= high[0] and low[1] <= y <= high[1]) for x, y in points)
        for points in point_lists(values[BOX:])
    )


def reach(values: Values) -> Side:
    """Upper left and lower right corner of the box that numbers begin with, a little apart."""
    cx, cy, w, h = values[:BOX]
    return (cx - w / 2 - NEAR, cy - h / 2 - NEAR), (cx + w / 2 + NEAR, cy + h / 2 + NEAR)


def in_picture(low: Point, high: Point) -> bool:
    """Whether two corners are those of a box that has a size and is in the picture, or nearly so."""
    sized = all(end - start > 2 * NEAR for start, end in zip(low, high, strict=True))
    return sized and min(low) >= -2 * NEAR and max(high) <= 1 + 2 * NEAR


def point_lists(values: Values) -> list[list[tuple[float, float]]]:
    """The lists of points that numbers can be, as pairs or as triples of x, y and seen."""
    found = []
    if len(values) % 2 == 0:
        found.append(list(zip(values[::2], values[1::2], strict=True)))
    if len(values) % 3 == 0 and set(values[2::3]) <= {0, 1, 2}:
        found.append(list(zip(values[::3], values[1::3], strict=True)))
    return found


def crosses(values: Values) -> bool:
    """Whether the outline through points x, y, x, y, … crosses or touches itself, or turns back on the spot."""
    points = list(zip(values[::2], values[1::2], strict=True))
    points = [point for point, before in zip(points, [points[-1], *points], strict=False) if point != before]
    sides = list(zip(points, [*points[1:], points[0]], strict=True)) if points else []
    return any(meet(one, other) for index, one in enumerate(sides) for other in sides[index + 1 :])


def meet(one: Side, other: Side) -> bool:
    """Whether two sides have a point in common that is not an end of both."""
    here, there = [turn(one, point) for point in other], [turn(other, point) for point in one]
    if here[0] * here[1] < 0 and there[0] * there[1] < 0:
        return True
    ends = {*one} & {*other}
    pairs = [*zip(here, other, (one, one), strict=True), *zip(there, one, (other, other), strict=True)]
    return any(not own and point not in ends and between(point, side) for own, point, side in pairs)


def turn(side: Side, point: Point) -> int:
    """1 where a point is left of a side, −1 where it is right of it, 0 on its line."""
    (x1, y1), (x2, y2) = side
    product = (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)
    return 0 if abs(product) < TINY else 1 if product > 0 else -1


def between(point: Point, side: Side) -> bool:
    """Whether a point on the line of a side is on the side."""
    (x1, y1), (x2, y2) = side
    return min(x1, x2) <= point[0] <= max(x1, x2) and min(y1, y2) <= point[1] <= max(y1, y2)
