"""A detector on whatever has pictures: files, folders, videos, streams."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, Unpack

from data.sources import Frame, open_source
from models import Detector, Found
from models.classified import Classified
from models.detector import Options
from models.segmented import Segmented
from models.segmenter import Segmenter
from utils.pictures import Picture

Seen = TypeVar("Seen", Segmented, Classified)


def detect(
    detector: Detector, source: str | Path, *, vid_stride: int = 1, **options: Unpack[Options]
) -> Iterator[Found]:
    """What is found in each picture of a source, one after another; says which files cannot be read.

    Args:
        source: image or video, folder or glob of them, address of one, number of a webcam, address of a stream, a file
            of stream addresses (`.streams`), or `screen`.
        vid_stride: every so many frames of a video or stream are looked at.
        options: as of Detector.predict.

    Raises:
        UserError: there is nothing, or nothing that can be read; an option is out of its range.
    """
    for _, found in found_in(detector, open_source(str(source), stride=vid_stride, levels=detector.levels), **options):
        yield found


def found_in(
    detector: Detector, groups: Iterable[list[Frame]], **options: Unpack[Options]
) -> Iterator[tuple[Frame, Found]]:
    """Frames that come in groups, each with what is found in it; a group is read when the one before is done."""
    for frames in groups:
        found = detector.stream((frame.image for frame in frames), **options)
        for frame, own in zip(frames, found, strict=True):
            yield frame, replace(own, where=frame.where, number=frame.number)


def segmented_in(
    segmenter: Segmenter, groups: Iterable[list[Frame]], imgsz: int | None = None
) -> Iterator[tuple[Frame, Segmented]]:
    """Frames that come in groups, each with the classes of its pixels."""
    return in_groups(partial(segmenter.stream, imgsz=imgsz), groups)


def in_groups(
    look: Callable[[Iterable[Picture]], Iterator[Seen]], groups: Iterable[list[Frame]]
) -> Iterator[tuple[Frame, Seen]]:
    """Frames that come in groups, each with what is seen in it; a group is read when the one before is done."""
    for frames in groups:
        for frame, own in zip(frames, look(frame.image for frame in frames), strict=True):
            yield frame, replace(own, where=frame.where, number=frame.number)
