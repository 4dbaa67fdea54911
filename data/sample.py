"""The built-in data set: real handwritten digits on real photographs, written as a Pascal VOC folder.

Digits: the 1,797 of scikit-learn (UCI optical recognition of handwritten digits). Photographs: those that
scikit-image and scikit-learn carry. No digit is in two splits; photographs are shared, in other crops.
Run `python -m data.sample` to write it to data/sets/sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image
from pydantic import Field

from utils.errors import run_cli
from utils.files import make_folder, replaced
from utils.palette import palette
from utils.parser import Parser

FOLDER = Path(__file__).resolve().parent / "sets" / "sample"
SIDE = 256
# Heights in pixels of the three kinds of objects: what a detector's three heads are for.
SIZES = ((34, 46), (56, 80), (100, 140))
SIZE_SHARES = (0.5, 0.35, 0.15)
OBJECTS = (6, 9)
BACKDROP_CONTRAST = 0.5  # of the photograph's own: digits are written over a faded print
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "rocket",
)
INK = 0.2  # darkness above which a pixel belongs to the digit's box
JPEG_QUALITY = 90
MASKS = "SegmentationClass"


@dataclass(frozen=True)
class SampleSize:
    """Scenes in each split."""

    train: Annotated[int, Field(ge=1)] = 1024
    val: Annotated[int, Field(ge=1)] = 64
    test: Annotated[int, Field(ge=1)] = 192


@dataclass(frozen=True)
class Placed:
    """A digit in a scene: its class, its box, x1 y1 x2 y2 half-open pixels, and which pixels in there are ink."""

    label: int
    box_xyxy: tuple[int, int, int, int]
    ink: np.ndarray


def write(folder: Path, *, size: SampleSize | None = None, seed: int = 0) -> Path:
    """Write the data set; the same bytes from the same seed and library versions.

    The folder appears whole or not at all. An existing one is replaced.
    """
    size = size or SampleSize()
    with replaced(folder) as partial:
        for part in ("JPEGImages", "Annotations", MASKS, "ImageSets/Main"):
            make_folder(partial / part)
        for image_id, image, placed in scenes(size, seed):
            Image.fromarray(image).save(partial / "JPEGImages" / f"{image_id}.jpg", quality=JPEG_QUALITY)
            annotation(image_id, placed).write(partial / "Annotations" / f"{image_id}.xml")
            mask(placed).save(partial / MASKS / f"{image_id}.png")
        for split in vars(size):
            names = "".join(f"{split}_{index:05d}\n" for index in range(getattr(size, split)))
            (partial / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    return folder


def scenes(size: SampleSize, seed: int) -> Iterator[tuple[str, np.ndarray, list[Placed]]]:
    """Name, picture and digits of every scene."""
    digits, labels = load_digits()
    photographs = load_photographs()
    for number, (split, own) in enumerate(split_digits(len(labels), seed).items()):
        for index in range(getattr(size, split)):
            rng = np.random.default_rng([seed, number, index])
            yield f"{split}_{index:05d}", *compose(rng, photographs, digits[own], labels[own])


def write_masks(folder: Path, size: SampleSize, seed: int = 0) -> None:
    """Write the masks of scenes that `write` has made before it wrote masks; the folder of them appears whole."""
    with replaced(folder / MASKS) as partial:
        for image_id, _, placed in scenes(size, seed):
            mask(placed).save(partial / f"{image_id}.png")


def mask(placed: list[Placed]) -> Image.Image:
    """Which digit each pixel of a scene belongs to, as in Pascal VOC: 0 is the background, n the n-th class."""
    found = np.zeros((SIDE, SIDE), np.uint8)
    for item in placed:
        x1, y1, x2, y2 = item.box_xyxy
        found[y1:y2, x1:x2][item.ink] = item.label + 1
    image = Image.fromarray(found, "P")
    image.putpalette(palette().tobytes())
    return image


def counts(folder: Path) -> SampleSize:
    """How many scenes a folder that `write` has made holds."""
    lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val", "test")}
    return SampleSize(**{split: len(path.read_text().split()) if path.exists() else 0 for split, path in lists.items()})


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Darkness [1797, 8, 8] in 0–1 and labels [1797]."""
    from sklearn.datasets import load_digits as sklearn_digits

    found = sklearn_digits()
    return found.images / 16, found.target


def load_photographs() -> list[np.ndarray]:
    """Photographs [H, W, 3] uint8."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    own = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    colour = [photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, 2) for photo in own]
    return colour + [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]


def split_digits(count: int, seed: int) -> dict[str, np.ndarray]:
    """Disjoint digits for the splits: 60, 10 and 30 per cent."""
    order = np.random.default_rng([seed, 99]).permutation(count)
    ends = int(0.6 * count), int(0.7 * count)
    return dict(zip(("train", "val", "test"), np.split(order, ends), strict=True))


def compose(
    rng: np.random.Generator, photographs: list[np.ndarray], digits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, list[Placed]]:
    """One scene [SIDE, SIDE, 3] uint8 and what is in it; boxes do not overlap."""
    scene = backdrop(rng, photographs)
    heights = [draw_height(rng) for _ in range(rng.integers(*OBJECTS, endpoint=True))]
    placed: list[Placed] = []
    for height in sorted(heights, reverse=True):
        index = rng.integers(len(labels))
        ink = enlarged(digits[index], height)
        corner = free_corner(rng, ink.shape, placed)
        if corner is not None:
            paint(rng, scene, ink, corner)
            x, y = corner
            placed.append(Placed(int(labels[index]), (x, y, x + ink.shape[1], y + ink.shape[0]), ink > INK))
    return scene.round().astype(np.uint8), placed


def draw_height(rng: np.random.Generator) -> int:
    """Height of the next object, in pixels."""
    low, high = SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)]
    return int(rng.integers(low, high, endpoint=True))


def backdrop(rng: np.random.Generator, photographs: list[np.ndarray]) -> np.ndarray:
    """A random square of a random photograph, as float [SIDE, SIDE, 3]."""
    photo = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(min(photo.shape[:2]) // 2, min(photo.shape[:2]), endpoint=True))
    top, left = (int(rng.integers(0, length - side, endpoint=True)) for length in photo.shape[:2])
    square = Image.fromarray(photo[top : top + side, left : left + side])
    scene = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float64)
    return scene.mean() + BACKDROP_CONTRAST * (scene - scene.mean())


def enlarged(digit: np.ndarray, height: int) -> np.ndarray:
    """The digit's darkness [height, w] in 0–1, cut to its ink."""
    large = Image.fromarray((digit * 255).astype(np.uint8)).resize((height, height), Image.Resampling.BICUBIC)
    ink = np.asarray(large, dtype=np.float64) / 255
    rows, columns = (np.flatnonzero((ink > INK).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def free_corner(rng: np.random.Generator, shape: tuple[int, ...], placed: list[Placed]) -> tuple[int, int] | None:
    """X and y of a place that touches no other digit; None after fifty tries."""
    height, width = shape[:2]
    for _ in range(50):
        x, y = int(rng.integers(0, SIDE - width, endpoint=True)), int(rng.integers(0, SIDE - height, endpoint=True))
        if all(
            x + width < x1 or x > x2 or y + height < y1 or y > y2 for x1, y1, x2, y2 in (p.box_xyxy for p in placed)
        ):
            return x, y
    return None


def paint(rng: np.random.Generator, scene: np.ndarray, ink: np.ndarray, corner: tuple[int, int]) -> None:
    """Lay a digit on the scene, bright on dark ground and dark on bright ground, in any hue."""
    x, y = corner
    ground = scene[y : y + ink.shape[0], x : x + ink.shape[1]]
    colour = rng.uniform(0, 60, 3) if ground.mean() > 127 else rng.uniform(195, 255, 3)
    ground += (colour - ground) * np.clip(ink * 1.25, 0, 1)[..., None]


def annotation(image_id: str, placed: list[Placed]) -> ET.ElementTree:
    """The scene as VOC XML: pixels counted from 1, last one included."""
    root = ET.Element("annotation")
    leaves(root, folder="sample", filename=f"{image_id}.jpg")
    leaves(ET.SubElement(root, "size"), width=SIDE, height=SIDE, depth=3)
    for item in placed:
        node = ET.SubElement(root, "object")
        leaves(node, name=item.label, pose="Unspecified", truncated=0, difficult=0)
        x1, y1, x2, y2 = item.box_xyxy
        leaves(ET.SubElement(node, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ET.indent(root)
    return ET.ElementTree(root)


def leaves(parent: ET.Element, **texts: object) -> None:
    """Add one child with text for each keyword."""
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = str(text)


def main() -> None:
    """Write the data set and say where."""
    parser = Parser(description="Write the built-in data set as a Pascal VOC folder.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where [data/sets/sample]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes [0]")
    arguments = parser.parse_args()
    print(f"wrote {write(arguments.folder, seed=arguments.seed)}")


if __name__ == "__main__":
    run_cli(main)
