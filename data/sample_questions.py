"""Questions and captions about the built-in scenes, in the formats of VQA v2 and of COCO, and what is largest in them.

`python -m data.sample_questions` writes for each split of data/sets/sample a folder of pictures, questions, annotations
and captions to data/sets/questions. All follow from the digits' boxes, so that ten people answer alike. Its scenes.csv
names the largest digit of each picture of data/sets/sample.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.description import load_description
from data.formats import read_split
from data.images import files_of
from data.records import Record
from utils.errors import UserError, run_cli
from utils.files import csv_text, free_folder, make_folder, replaced, write_text
from utils.parser import Parser

ROOT = Path(__file__).resolve().parent
FOLDER = ROOT / "sets" / "questions"
PEOPLE = 10
NAMES = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
LARGE = 0.35  # of the side of a scene: digits as high as that are called large in captions
Asked = tuple[str, str, str]
"""Question, answer, and its kind as VQA calls it."""


def one(digit: int, kind: str = "") -> str:
    """A digit with its article, as in `an eight`, `a large eight`."""
    words = f"{kind} {NAMES[digit]}".strip()
    return f"a{'n' * (words[0] in 'aeiou' and words[:3] != 'one')} {words}"


def heights(record: Record) -> np.ndarray:
    """[n] of the boxes, in pixels."""
    return record.boxes_xyxy[:, 3] - record.boxes_xyxy[:, 1]


def largest(record: Record) -> int:
    """The highest digit."""
    return int(record.labels[heights(record).argmax()])


def questions_of(record: Record, rng: np.random.Generator) -> Iterator[Asked]:
    """Five questions about a scene; half of the digits that are asked for are there."""
    centres = record.boxes_xyxy[:, [0, 2]].mean(1)
    for text, place in (("left", centres.argmin()), ("right", centres.argmax())):
        yield f"Which digit is on the far {text}?", str(record.labels[place]), "number"
    yield "Which digit is the largest?", str(largest(record)), "number"
    yield "How many digits are there?", str(len(record.labels)), "number"
    there = np.unique(record.labels)
    absent = np.setdiff1d(np.arange(10), there)
    yes = not len(absent) or rng.random() < 0.5
    digit = int(rng.choice(there if yes else absent))
    yield f"Is there {one(digit)} in the picture?", "yes" if yes else "no", "yes/no"


def captions_of(record: Record) -> Iterator[str]:
    """Two captions of a scene: its digits, and what is large and what is on the left."""
    counts = Counter(record.labels.tolist())
    words = dict(enumerate(NAMES))
    named = [one(own) if count == 1 else f"{words.get(count, count)} {NAMES[own]}s" for own, count in counts.items()]
    yield f"A photograph with {', '.join(named)} written on it."
    left = one(int(record.labels[record.boxes_xyxy[:, [0, 2]].mean(1).argmin()]))
    large = [one(int(own), "large") for own in record.labels[heights(record) > LARGE * record.size_hw[0]]]
    yield f"Handwritten {' and '.join([*large, f'{left} on the left'])}."


def write_split(folder: Path, records: list[Record], part: str, first: int) -> int:
    """Pictures and jsons of a split; gives the number of the next image."""
    pictures = make_folder(folder / part)
    asked, answered, images, captions = (list[dict[str, Any]]() for _ in range(4))
    for number, record in enumerate(records, start=first):
        name = f"COCO_{part}_{number:012d}.jpg"
        shutil.copyfile(record.image, pictures / name)
        height, width = record.size_hw
        images.append({"id": number, "file_name": f"{part}/{name}", "height": height, "width": width})
        for text in captions_of(record):
            captions.append({"id": len(captions), "image_id": number, "caption": text})
        for place, (text, answer, kind) in enumerate(questions_of(record, np.random.default_rng([7, number]))):
            own = {"question_id": 1000 * number + place, "image_id": number}
            asked.append(own | {"question": text})
            people = [{"answer": answer, "answer_confidence": "yes", "answer_id": own + 1} for own in range(PEOPLE)]
            kinds = {"question_type": " ".join(text.lower().split()[:2]), "answer_type": kind}
            answered.append(own | kinds | {"multiple_choice_answer": answer, "answers": people})
    about: dict[str, Any] = {"info": {"description": "built-in scenes"}, "license": {}, "data_subtype": part}
    for name, content in (
        (f"{part}_questions", about | {"task_type": "Open-Ended", "data_type": "mscoco", "questions": asked}),
        (f"{part}_annotations", about | {"data_type": "mscoco", "annotations": answered}),
        (f"captions_{part}", {"info": about["info"], "images": images, "annotations": captions}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return first + len(records)


def write(folder: Path, data: Path = ROOT / "sample.yaml") -> Path:
    """Write questions and captions about all splits of a data set of digits; an existing folder is replaced.

    Raises:
        UserError: the classes are not the digits from 0 on, or the pictures are no files.
    """
    description, first = load_description(data), 1
    hint = f"give data of digits, such as {ROOT / 'sample.yaml'}"
    if description.names != [str(digit) for digit in range(len(NAMES))]:
        raise UserError("its classes are not the digits 0 to 9 in this order", where=data, hint=hint)
    with replaced(folder) as partial:
        scenes = []
        for split in description.splits:
            records = [own for own in read_split(description, split).records if len(own.labels)]
            scenes += [{"image": path.name, "scene": NAMES[largest(own)]}
                       for path, own in zip(files_of(records, data, hint), records, strict=True)]  # fmt: skip
            first = write_split(partial, records, split, first)
        write_text(partial / "scenes.csv", csv_text(scenes))
    return folder


def main() -> None:
    """Write them and say where."""
    parser = Parser(description="Write questions and captions about the built-in scenes.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where [data/sets/questions]")
    parser.add_argument("--data", type=Path, default=ROOT / "sample.yaml", help="their data yaml [data/sample.yaml]")
    arguments = parser.parse_args()
    print(f"wrote {write(free_folder(arguments.folder, FOLDER), arguments.data)}")


if __name__ == "__main__":
    run_cli(main)
