"""How long large data sets take to read, and how much memory. Prints JSON lines.

`python -m benchmarks.reading`: a COCO json of 200,000 images with seven boxes each is written with its pictures, small
JPEGs; then `data.check` reads it, a training reads it up to its first batch, and that again with the sizes of the
images noted. Each is a process of its own, whose memory counts from where its imports are done.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.figures import show
from utils.errors import run_cli
from utils.memory import GIB
from utils.parser import Parser

WIDTH, HEIGHT = 64, 48
CLASSES = 80
SECONDS, AGAIN_SECONDS, MEMORY_GIB = 60.0, 10.0, 1.0
PARTS = {"train": 0.99, "val": 0.01}


def main() -> None:
    """Write, measure, print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000, help="pictures [200000]")
    parser.add_argument("--boxes", type=int, default=7, help="boxes on each [7]")
    parser.add_argument("--inside", choices=("check", "batch"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        measure(arguments.inside, arguments.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        yaml = write(Path(folder), arguments.images, arguments.boxes)
        of = f"{arguments.images:,} images, {arguments.images * arguments.boxes:,} boxes"
        for inside, cache, name, seconds in (
            ("check", "one", "data.check", SECONDS),
            ("batch", "two", "first batch of a training", SECONDS),
            ("batch", "two", "first batch of a training, sizes noted", AGAIN_SECONDS),
        ):
            found = measured(inside, yaml, Path(folder) / cache)
            own = f"seconds to the end of {name}" if inside == "check" else f"seconds to the {name}"
            cpu = {"cpu_seconds": round(found["cpu"], 2)}
            show(f"{own}, {of}", found["seconds"], seconds, "imports apart", least=False, **cpu)
            show(f"GiB over imports, {name}, {of}", found["gib"], MEMORY_GIB, "peak", least=False)


def write(folder: Path, images: int, boxes: int) -> Path:
    """A data yaml with its jsons and pictures; no two files are the same."""
    draw = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(stream, "JPEG", quality=40)
    picture, first = stream.getvalue(), 0
    for part, share in PARTS.items():
        count = round(images * share)
        with (folder / f"{part}.json").open("w") as file:
            file.writelines(lines(range(first, first + count), boxes, draw))
        for number in range(first, first + count):
            comment = f"{number:012}".encode()
            (folder / "pictures" / f"{number:012}.jpg").write_bytes(
                picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + picture[2:]
            )
        first += count
    yaml = folder / "data.yaml"
    yaml.write_text("path: .\nformat: coco\nimages: pictures\ntrain: train.json\nval: val.json\n")
    return yaml


def lines(numbers: range, boxes: int, draw: np.random.Generator) -> Iterator[str]:
    """An instances json, piece by piece."""
    yield '{"categories": ' + json.dumps([{"id": own, "name": f"class {own}"} for own in range(1, CLASSES + 1)])
    yield ', "images": ['
    for number in numbers:
        entry = {"id": number, "file_name": f"{number:012}.jpg", "width": WIDTH, "height": HEIGHT}
        yield ("" if number == numbers.start else ", ") + json.dumps(entry)
    yield '], "annotations": ['
    for number in numbers:
        places, classes = (
            draw.uniform(0, 24, (boxes, 4)).round(2).tolist(),
            draw.integers(1, CLASSES + 1, boxes).tolist(),
        )
        for index, ((x, y, w, h), own) in enumerate(zip(places, classes, strict=True)):
            found = {
                "id": number * boxes + index,
                "image_id": number,
                "category_id": own,
                "bbox": [x, y, w + 1, h + 1],
                "area": round((w + 1) * (h + 1) / 2, 2),
                "iscrowd": 0,
            }
            yield ("" if number == numbers.start and not index else ", ") + json.dumps(found)
    yield "]}"


def measured(inside: str, yaml: Path, cache: Path) -> dict[str, float]:
    """Seconds and GiB of one reading, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reading", "--inside", inside, "--data", str(yaml)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(inside: str, yaml: Path) -> None:
    """Read once in this process; the last line states seconds and GiB."""
    from data import check
    from training.reading import announce, read_pair
    from utils.config import Recipe

    before, began, worked = peak(), time.perf_counter(), time.process_time()
    if inside == "check":
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = ["data.check", str(yaml), "--project", folder]
            check.main()
    else:
        recipe = Recipe(data=yaml, imgsz=64)
        pair = read_pair(yaml, recipe, download=False)
        announce((pair, pair))
        first_batch(pair[0].records, recipe.imgsz)
    found = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked, "gib": peak() - before}
    print(json.dumps(found))


def first_batch(records: list, imgsz: int) -> None:  # type: ignore[type-arg]
    """What the training loop is given first."""
    from data.loader import DetectionSet, EpochSampler, make_loader
    from data.transforms import train_transform
    from utils.config import Augment

    dataset = DetectionSet(records, train_transform(imgsz, Augment()), 0)
    next(iter(make_loader(dataset, EpochSampler(len(dataset), 0), 16, workers=1)))


def peak() -> float:
    """The most memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


if __name__ == "__main__":
    run_cli(main)
