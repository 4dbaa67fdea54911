"""Visual questions in the format of VQA v2: a json of questions, one of their answers, and a folder of pictures.

`v2_OpenEnded_mscoco_train2014_questions.json` has `questions` with `image_id`, `question` and `question_id`,
`v2_mscoco_train2014_annotations.json` has `annotations` with `question_id`, `answer_type` and ten `answers` each.
Pictures are called by the number of their image, as in `COCO_train2014_000000000042.jpg`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.captions import read_lists, refuse_missing
from data.coco_json import refuse_malformed
from data.images import images_below, readable
from data.records import Problem, Record, make_record
from utils.errors import UserError

NUMBER = re.compile(r"(\d+)$")
ARTICLES = frozenset(("a", "an", "the"))
DIGITS = {word: str(number) for number, word in enumerate(
    "none one two three four five six seven eight nine ten".split()  # noqa: SIM905
)} | {"zero": "0"}  # fmt: skip
COMMA, PERIOD = re.compile(r"(?<=\d),(?=\d)"), re.compile(r"(?<!\d)\.|\.(?!\d)")
SIGNS = re.compile(r"[;/\[\]\"{}()=+\\_\-><@`?!,]")
AGREED = 3  # people whose answer makes an answer wholly right


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Attributes:
        image: index of the picture.
        answers: of all that were asked, normalised; empty where the answers are not published.
        kind: of the answer: `yes/no`, `number`, `other`.
    """

    number: int
    text: str
    image: int
    answers: tuple[str, ...] = ()
    kind: str = "other"

    @property
    def answer(self) -> str:
        """What most answered; of equally frequent answers the first."""
        return Counter(self.answers).most_common(1)[0][0]


@dataclass(frozen=True)
class Questions:
    """Questions with their pictures."""

    records: list[Record]
    questions: list[Question]


def normalised(answer: str) -> str:
    """An answer as VQA's evaluation compares it: small letters, digits, without articles and most signs.

    Its long list of contractions (`dont` → `don't`) is left out.
    """
    text = PERIOD.sub("", COMMA.sub("", answer.lower().strip()))
    words = [DIGITS.get(word, word) for word in SIGNS.sub(" ", text).split()]
    return " ".join(word for word in words if word not in ARTICLES)


def accuracy(guess: str, answers: Sequence[str]) -> float:
    """VQA's accuracy: min(1, others that agree / 3), the mean over all choices of all people but one."""
    same = sum(own == guess for own in answers)
    rights = [min(1.0, (same - (own == guess)) / AGREED) for own in answers]
    return float(np.mean(rights)) if len(answers) > 1 else float(same > 0)


def read_questions(questions: Path, annotations: Path, pictures: Path) -> Questions:
    """Questions with their answers and pictures.

    Raises:
        UserError: not of this format, questions without answers, or pictures that are missing or damaged.
    """
    asked = entries(questions, "questions", ("question_id", "image_id", "question"))
    answered = {own["question_id"]: own for own in entries(annotations, "annotations", ("question_id",))}
    if lost := [own["question_id"] for own in asked if own["question_id"] not in answered]:
        what = f"no answers to {len(lost)} questions, such as {lost[0]}"
        raise UserError(what, where=annotations, hint="give questions and annotations of one split")
    if not asked:
        raise UserError("has no questions", where=questions, hint="give the published file")
    images = list(dict.fromkeys(own["image_id"] for own in asked))
    records = pictured(images, questions, pictures)
    place = {number: index for index, number in enumerate(images)}
    found = [
        Question(
            own["question_id"],
            own["question"],
            place[own["image_id"]],
            answers_of(answered[own["question_id"]], annotations),
            str(answered[own["question_id"]].get("answer_type", "other")),
        )
        for own in asked
    ]
    return Questions(records, found)


def entries(path: Path, name: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The list of a json of VQA; ids that are whole numbers are such, also where they are written as texts.

    Raises:
        UserError: it is none, or an entry is without the keys.
    """
    found = read_lists(path, (name,))[name]
    refuse_malformed(found, name, keys, path, "give the published file of VQA v2")
    for own in found:
        own |= {key: int(own[key]) for key in keys if isinstance(own[key], str) and own[key].isdecimal()}
    return list(found)


def answers_of(entry: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The normalised answers of an annotation.

    Raises:
        UserError: there are none.
    """
    listed = entry.get("answers")
    listed = listed if isinstance(listed, list) else []
    answers = [own.get("answer") if isinstance(own, dict) else None for own in listed]
    if not answers or not all(isinstance(own, str) for own in answers):
        what = f"question {entry['question_id']} has no list of answers"
        raise UserError(what, where=path, hint="give the published file of VQA v2")
    return tuple(normalised(str(own)) for own in answers)


def pictured(images: Sequence[object], where: Path, folder: Path) -> list[Record]:
    """The picture of each number.

    Raises:
        UserError: some are missing or damaged.
    """
    known = {}
    for path in images_below(folder):
        if match := NUMBER.search(path.stem):
            known[int(match[1])] = path
    missing = [number for number in images if not isinstance(number, int) or number not in known]
    refuse_missing([folder / f"{number}.jpg" for number in missing], where, "questions")
    problems: list[Problem] = []
    paths = [known[number] for number in images if isinstance(number, int)]
    sizes = readable(paths, problems)
    if problems:
        raise problems[0].error()
    return [make_record(path, size) for path, size in zip(paths, sizes, strict=True) if size]
