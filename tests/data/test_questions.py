import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data import sample_questions
from data.description import load_description
from data.formats import read_split
from data.images import files_of
from data.questions import accuracy, normalised, read_questions
from data.records import make_record
from utils.errors import UserError
from wsol.informative import read_scenes


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two questions about two pictures."""
    (tmp_path / "p").mkdir()
    for number in (3, 42):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "p" / f"COCO_train2014_{number:012d}.jpg")
    asked = [{"question_id": 31, "image_id": 42, "question": "What is it?"}]
    asked.append({"question_id": 30, "image_id": 3, "question": "Is it red?"})
    answers = [{"answer": own} for own in ("A cat", "the cat.", "dog")]
    said = [{"question_id": 30, "answer_type": "yes/no", "answers": [{"answer": "yes"}] * 10}]
    said.append({"question_id": 31, "answer_type": "other", "answers": answers})
    return save(tmp_path, "questions", asked), save(tmp_path, "annotations", said), tmp_path / "p"


def save(folder: Path, name: str, content: list[dict[str, Any]]) -> Path:
    (folder / f"{name}.json").write_text(json.dumps({name: content}))
    return folder / f"{name}.json"


def test_questions_answers_and_pictures(files: tuple[Path, Path, Path]) -> None:
    found = read_questions(*files)
    assert [(own.text, own.answers[:2], own.answer, own.kind) for own in found.questions] == [
        ("What is it?", ("cat", "cat"), "cat", "other"),
        ("Is it red?", ("yes", "yes"), "yes", "yes/no"),
    ]
    assert [found.records[own.image].image.name[-6:] for own in found.questions] == ["42.jpg", "03.jpg"]


def test_ids_of_either_type_and_strange_entries(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    questions, annotations, pictures = files
    asked = json.loads(questions.read_text())["questions"]
    texts = [own | {"question_id": str(own["question_id"]), "image_id": str(own["image_id"])} for own in asked]
    found = read_questions(save(tmp_path, "questions", texts), annotations, pictures)
    assert [(own.number, found.records[own.image].image.name[-6:]) for own in found.questions] == [
        (31, "42.jpg"),
        (30, "03.jpg"),
    ]
    for key in ("question_id", "image_id", "question"):
        with pytest.raises(UserError, match="`questions` entry 0 is without question_id and image_id and question"):
            read_questions(save(tmp_path, "questions", [asked[0] | {key: [1]}]), annotations, pictures)
    save(tmp_path, "questions", asked)
    for answers in (7, None, [], ["cat"], [{"answer": 3}]):
        said = [{"question_id": number, "answers": answers} for number in (30, 31)]
        with pytest.raises(UserError, match="question 31 has no list of answers"):
            read_questions(questions, save(tmp_path, "annotations", said), pictures)


@pytest.mark.parametrize(
    ("same", "wanted"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)  # the values that VQA's own evaluation gives for ten answers
def test_accuracy(same: int, wanted: float) -> None:
    assert accuracy("cat", ["cat"] * same + ["dog"] * (10 - same)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Red.", "red"),
        ("two dogs", "2 dogs"),
        ("1,000", "1000"),
        ("2.5 m", "2.5 m"),
        ("a b-c!", "b c"),
        ("none", "0"),
    ],
)
def test_normalised(text: str, wanted: str) -> None:
    assert normalised(text) == wanted


def test_what_fits_nothing(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    questions, annotations, pictures = files
    (pictures / "COCO_train2014_000000000003.jpg").unlink()
    with pytest.raises(UserError, match=r"questions of 1 pictures that do not exist, such as .*3\.jpg"):
        read_questions(questions, annotations, pictures)
    with pytest.raises(UserError, match="no answers to 2 questions, such as 31"):
        read_questions(questions, save(tmp_path, "annotations", []), pictures)
    with pytest.raises(UserError, match="no list `annotations`"):
        read_questions(questions, questions, pictures)
    with pytest.raises(UserError, match="entry 0 is without question_id"):
        read_questions(save(tmp_path, "questions", [{"image_id": 3}]), annotations, pictures)
    with pytest.raises(UserError, match="has no questions"):
        read_questions(save(tmp_path, "questions", []), annotations, pictures)


def test_questions_about_the_scenes_follow_from_the_boxes(scenes_yaml: Path, tmp_path: Path) -> None:
    folder = sample_questions.write(tmp_path / "q", scenes_yaml)
    found = read_questions(folder / "test_questions.json", folder / "test_annotations.json", folder / "test")
    train, records = (read_split(load_description(scenes_yaml), part).records for part in ("train", "test"))
    assert len(found.questions) == 5 * len(records)
    for own in found.questions:
        record = records[own.image]
        middles, heights = record.boxes_xyxy[:, [0, 2]].sum(1), np.diff(record.boxes_xyxy[:, 1::2])[:, 0]
        there = {sample_questions.NAMES[label] for label in record.labels}
        wanted = {
            "left?": str(record.labels[middles.argmin()]),
            "right?": str(record.labels[middles.argmax()]),
            "largest?": str(record.labels[heights.argmax()]),
            "there?": str(len(record.labels)),
            "picture?": "yes" if own.text.split()[3] in there else "no",
        }
        assert own.answer == wanted[own.text.split()[-1]]
    with pytest.raises(UserError, match="its classes are not the digits 0 to 9 in this order — give data of digits"):
        sample_questions.write(folder, write_yaml(tmp_path / "other.yaml", path=str(folder), names=["cat"]))
    assert folder.is_dir()
    scenes = read_scenes(folder / "scenes.csv", train, scenes_yaml.parent)
    assert {path: sample_questions.NAMES.index(name) for path, name in scenes.items()} == {
        own.image: own.labels[np.diff(own.boxes_xyxy[:, 1::2])[:, 0].argmax()] for own in train
    }
    keys = {"path": str(folder), "format": "coco_captions", "train": "captions_train.json", "val": None, "test": None}
    yaml = write_yaml(tmp_path / "c.yaml", **keys, names=["a seven", "sevens"])
    for record, own in zip(read_split(load_description(yaml), "train").records, train, strict=True):
        assert record.classes is not None
        assert bool(len(record.classes)) == (7 in own.labels)


def test_eleven_digits_and_digits_that_are_no_files(tmp_path: Path) -> None:
    boxes = [(9.0 * place, 0.0, 9.0 * place + 8, 8.0) for place in range(11)]
    record = make_record(tmp_path / "a.jpg", (99, 99), boxes, [7] * 11)
    assert next(sample_questions.captions_of(record)) == "A photograph with 11 sevens written on it."
    assert files_of([record], "d.yaml", "give others") == [tmp_path / "a.jpg"]
    with pytest.raises(UserError, match=r"d\.yaml: has no pictures that are files — give others"):
        files_of([replace(record, pixels=np.zeros((99, 99, 3), np.uint8))], "d.yaml", "give others")
