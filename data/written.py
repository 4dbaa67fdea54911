"""A data set of printed words on photographs: class folders `text` and `other`, with the boxes of the words in a csv.

Photographs: those of the built-in scenes. `python -m data.written` writes it to data/sets/written, which
data/written.yaml describes: what a text detector learns from that is given which pictures have text, not where
(Zhou et al., arXiv 1512.04150, figure 11).
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data.sample import JPEG_QUALITY, SIDE, backdrop, load_photographs
from utils.errors import run_cli
from utils.files import free_folder, make_folder, replaced
from utils.flags import positive
from utils.fonts import drawing_font
from utils.parser import Parser

FOLDER = Path(__file__).resolve().parent / "sets" / "written"
WORDS = "OPEN STOP HOTEL CAFE EXIT BANK MARKET BAKERY PARKING LIBRARY STATION MUSEUM".split()  # noqa: SIM905
TEXTS, OTHERS = 350, 350  # for training: as many with text as in the paper
HEIGHTS = (22, 60)  # of the letters, pixels
SHARE = 0.4  # of the test pictures over the training pictures
CLASSES = ("other", "text")


def write(folder: Path, *, texts: int = TEXTS, others: int = OTHERS, seed: int = 0) -> Path:
    """Write the data set; the folder appears whole or not at all, an existing one is replaced.

    Args:
        texts, others: training pictures with and without words.
    """
    photographs, rows = load_photographs(), ["image,x1,y1,x2,y2"]
    with replaced(folder) as partial:
        for part, share in (("train", 1.0), ("test", SHARE)):
            for name, count in zip(CLASSES, (others, texts), strict=True):
                place, number = make_folder(partial / part / name), max(1, round(count * share))
                own = [seed, ("train", "test").index(part), CLASSES.index(name)]
                boxes = write_pictures(place, number, photographs, own)
                rows += [f"{part}/{name}/{box}" for box in boxes]
        (partial / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_pictures(folder: Path, count: int, photographs: list[np.ndarray], seed: list[int]) -> list[str]:
    """Write pictures; gives the name and box of those with a word, as the csv has them."""
    rows = []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        picture = Image.fromarray(backdrop(rng, photographs).round().astype(np.uint8))
        name = f"{index:04d}.jpg"
        if folder.name == "text":
            rows.append(",".join(map(str, (name, *printed(rng, picture)))))
        picture.save(folder / name, quality=JPEG_QUALITY)
    return rows


def printed(rng: np.random.Generator, picture: Image.Image) -> tuple[int, int, int, int]:
    """Print a word at a random place, dark on bright ground and bright on dark; gives its box, half-open pixels."""
    word = WORDS[rng.integers(len(WORDS))]
    pen, size = ImageDraw.Draw(picture), int(rng.integers(*HEIGHTS))
    while (box := drawing_font(word, size).getbbox(word))[2] - box[0] > SIDE - 8:
        size -= 2
    wide, high = box[2] - box[0], box[3] - box[1]
    x, y = int(rng.integers(4, SIDE - wide - 3)), int(rng.integers(4, SIDE - high - 3))
    ground = np.asarray(picture)[y : y + high, x : x + wide].mean()
    colour = tuple(int(own) for own in (rng.uniform(0, 60, 3) if ground > 127 else rng.uniform(195, 255, 3)))
    pen.text((x - box[0], y - box[1]), word, font=drawing_font(word, size), fill=colour)
    return x, y, x + wide, y + high


def main() -> None:
    """Write the data set and say where."""
    parser = Parser(description="Write pictures with and without printed words.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where [data/sets/written]")
    parser.add_argument("--texts", type=positive, default=TEXTS, help=f"training pictures with words [{TEXTS}]")
    parser.add_argument("--others", type=positive, default=OTHERS, help=f"training pictures without [{OTHERS}]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures [0]")
    arguments = parser.parse_args()
    found = write(
        free_folder(arguments.folder, FOLDER), texts=arguments.texts, others=arguments.others, seed=arguments.seed
    )
    print(f"wrote {found}")


if __name__ == "__main__":
    run_cli(main)
