"""Pictures: boxes on an image, and a page of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from utils.boxes import Detections
from utils.console import console
from utils.errors import UserError
from utils.files import make_folder, written_whole
from utils.fonts import drawing_font, shown
from utils.palette import palette
from utils.plots import canvas, write_figure
from utils.ultralytics_parts import draw_boxes

SUFFIXES = (".jpg", ".jpeg", ".png")  # of pictures that are written
TALLEST = 2.0  # height of a picture's place on a page over its width
TINT = 0.6  # fraction of a class's colour in a pixel of it
LONGEST = 65_500  # pixels of a side that JPEG has numbers for
THUMBNAIL = 1280  # longest side of a picture on a page, pixels


def draw_detections(image: np.ndarray, found: Detections, names: Sequence[str] | Mapping[int, str]) -> np.ndarray:
    """RGB image with boxes, class names and scores; the surest are on top. `names` are those of the classes."""
    boxes, labels = found.boxes_xyxy.flip(0).numpy(), found.labels.flip(0).tolist()
    texts = [
        f"{shown(names[label], label)} {score:.2f}"
        for label, score in zip(labels, found.scores.flip(0).tolist(), strict=True)
    ]
    return draw_boxes(image, boxes, texts, labels)


def draw_truth(image: np.ndarray, boxes_xyxy: np.ndarray, labels: np.ndarray, names: list[str]) -> np.ndarray:
    """RGB image with the true boxes and their class names."""
    return draw_boxes(image, boxes_xyxy, [shown(names[label], int(label)) for label in labels], labels.tolist())


def draw_mask(image: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """RGB image under the colours of the classes in a mask [H, W], with a legend.

    What does not count has the pale colour that Pascal VOC gives it.

    Args:
        names: of the classes from 1 on.
    """
    shown_at = mask > 0
    drawn = image.copy()
    drawn[shown_at] = (image[shown_at] * (1 - TINT) + palette()[mask[shown_at]] * TINT).round().astype(np.uint8)
    there = [int(number) for number in np.unique(mask[shown_at]) if number <= len(names)]
    return np.asarray(with_legend(Image.fromarray(drawn), [(names[number - 1], number) for number in there]))


def with_legend(picture: Image.Image, classes: Sequence[tuple[str, int]]) -> Image.Image:
    """The picture with names in the colours of their numbers at its upper left corner, as many as fit below another."""
    side = max(10, picture.height // 24)
    pen = ImageDraw.Draw(picture)
    for place, (name, number) in enumerate(classes[: max(1, picture.height // (side + 2))]):
        text, top = shown(name, number - 1), place * (side + 2)
        font = drawing_font(text, side)
        wide = pen.textlength(text, font=font)
        pen.rectangle((0, top, wide + side + 4, top + side + 1), fill=(255, 255, 255))
        pen.rectangle((0, top, side, top + side), fill=tuple(palette()[number].tolist()))
        pen.text((side + 2, top), text, fill=(0, 0, 0), font=font)
    return picture


def picture_file(path: str | Path, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Where a picture is to be written; the folder is there from now on.

    Raises:
        UserError: the name has another suffix, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UserError("is no name for a picture", where=path, hint=f"give one that ends in {', '.join(suffixes)}")
    make_folder(path.parent)
    return path


def save_image(image: np.ndarray | Image.Image, path: Path) -> None:
    """Write an RGB image, whole or not at all; one that is too long for JPEG is made smaller, which is said."""
    drawn = image if isinstance(image, Image.Image) else Image.fromarray(image)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    if kind == "JPEG" and max(drawn.size) > LONGEST:
        console.print(f"{path.name} is made smaller: no side of a JPEG is above {LONGEST:,} pixels")
        drawn = smaller(drawn, LONGEST)
    with written_whole(path) as temporary:
        drawn.save(temporary, format=kind, quality=92)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller where no page would show its pixels."""
    return picture if max(picture.shape[:2]) <= THUMBNAIL else np.asarray(smaller(Image.fromarray(picture), THUMBNAIL))


def smaller(picture: Image.Image, longest: int) -> Image.Image:
    """The picture with its longer side of so many pixels."""
    width, height = (max(1, round(side * longest / max(picture.size))) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def save_page(pictures: Sequence[np.ndarray], path: Path, titles: Sequence[str] = (), *, columns: int = 4) -> None:
    """A page of pictures, so many a row, with titles over the first ones; very long ones are shown small."""
    rows, highest = -(-len(pictures) // columns), max(picture.shape[0] / picture.shape[1] for picture in pictures)
    highest = min(max(highest, 0.25), TALLEST)
    figure, axes = canvas(rows, columns, (3 * columns, 3 * highest * rows + 0.4), layout="tight")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture in zip(axes.flat, pictures, strict=False):
        axis.imshow(thumbnail(picture))
    for axis, title in zip(axes.flat, titles[: len(pictures)], strict=False):
        axis.set_title(title)
    write_figure(figure, path, dpi=90)
