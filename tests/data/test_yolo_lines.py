"""Boxes, polygons and poses: what a line says, alone and among others."""

import numpy as np
import pytest

from data.yolo_lines import Reading, is_pose, read_line, reading_of

POSE = "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.45 0.45 0.55 0.55 0.55"
SIZE = (100, 100)


def box(line: str) -> list[float]:
    found = read_line(line, SIZE)[1]
    assert not isinstance(found, str), found
    return [round(side, 3) for side in found[:4]]


def test_a_pose_is_the_box_before_its_points() -> None:
    assert box(POSE) == [40, 40, 60, 60]
    assert box("0 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.45 1 0 0 0") == [40, 40, 60, 60], "with what is seen"


def test_a_line_of_a_tracker_is_the_box_before_score_and_number() -> None:
    assert box("0 0.5 0.5 0.2 0.2 0.91 1") == [40, 40, 60, 60]
    tracks = [(0.5, 0.5, 0.2, 0.2, 0.9, 12.0), (0.5, 0.5, 0.2, 0.2, 0.4), (0.3, 0.4, 0.1, 0.6, 1.0, 1.0)]
    assert reading_of(tracks) is Reading.TRACKS
    assert reading_of(tracks, (0, 0)) is Reading.POLYGONS
    for other in [(0.5, 0.1, 0.6, 0.1, 0.7, 0.9), (0.5, 0.5, 0.2, 0.2, 7.0, 1.0), (0.9, 0.5, 0.5, 0.2, 0.7, 1.0)]:
        assert reading_of([*tracks, other]) is Reading.POLYGONS


@pytest.mark.parametrize(
    ("line", "around"),
    [
        ("0 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5", [10, 10, 30, 50]),
        ("0 0.5 0.5 0.6 0.5 0.6 0.6 0.5 0.6", [50, 50, 60, 60]),
        ("0 0.5 0.5 0.6 0.5 0.6 0.6", [50, 50, 60, 60]),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5 0.5 0.4", [40, 40, 60, 60]),
    ],
)
def test_a_polygon_is_the_box_around_it(line: str, around: list[float]) -> None:
    assert box(line) == around


def outline(draw: np.random.Generator, corners: int) -> tuple[float, ...]:
    """A polygon around a point, as annotation tools write it: corners in order of their angle."""
    angles = np.sort(draw.uniform(0, 2 * np.pi, corners))
    centre, radius = draw.uniform(0.3, 0.7, 2), draw.uniform(0.02, 0.25)
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1) * draw.uniform(0.6, 1, (corners, 1))
    return tuple(points.round(6).ravel().tolist())


def pose(draw: np.random.Generator, points: int, seen: bool) -> tuple[float, ...]:
    """A box, and points in it at random."""
    size = draw.uniform(0.05, 0.5, 2)
    centre = draw.uniform(size / 2, 1 - size / 2)
    found = centre + draw.uniform(-0.5, 0.5, (points, 2)) * size
    found[draw.random(points) < 0.2] = 0
    rows = np.column_stack([found, draw.integers(1, 3, points)]) if seen else found
    return tuple(np.concatenate([centre, size, rows.ravel()]).round(6).tolist())


@pytest.mark.parametrize("count", [5, 17])
@pytest.mark.parametrize("seen", [True, False])
def test_sets_of_poses_are_told_from_sets_of_polygons(count: int, seen: bool) -> None:
    draw = np.random.default_rng(count)
    assert all(reading_of([pose(draw, count, seen) for _ in range(20)]) is Reading.POSES for _ in range(20))
    outlines = [[outline(draw, 4 + 3 * count // 2) for _ in range(20)] for _ in range(20)]
    assert {reading_of(own) for own in outlines} == {Reading.POLYGONS}
    mixed = [outline(draw, 3 + index % 5) for index in range(20)]
    assert reading_of(mixed) is Reading.POLYGONS, "poses have as many numbers each"


def test_the_yaml_may_say_it() -> None:
    values = tuple(map(float, POSE.split()[1:]))
    assert is_pose(values)
    assert reading_of([values], (0, 0)) is Reading.POLYGONS
    assert reading_of([(0.1, 0.1, 0.3, 0.1, 0.3, 0.5)], (1, 2)) is Reading.POSES


def test_lines_of_any_length() -> None:
    many = " ".join(["0.25 0.25 0.75 0.75"] * 50_000)
    assert box(f"0 {many}") == [25, 25, 75, 75]
    fault = read_line(f"0 {'9' * 400_000} 1 1 1", SIZE)[1]
    assert isinstance(fault, str)
    assert len(fault) < 150
