"""Answers to questions about pictures, from a bag of their words and pooled features, and the map of each answer.

`python -m wsol.answers --weights FILE --questions TRAIN.json TEST.json --annotations TRAIN.json TEST.json --images
TRAIN TEST` learns and judges as in figure 12 of Zhou et al., arXiv 1512.04150: one softmax over the most frequent
answers, linear in words and features together (Zhou et al., arXiv 1512.02167). The files are those of VQA v2;
`python -m data.sample_questions` writes some about the built-in scenes.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from data.captions import words
from data.questions import Question, Questions, accuracy, read_questions
from data.seen import count_learnt, too_good
from evaluation.accuracy import BackboneFile
from maps.kinds import Explained
from maps.networks import load_explained
from maps.overlay import overlaid, picture
from maps.plan import Plan
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from utils.flags import positive
from utils.parser import Parser
from wsol.features import (
    FEATURES,
    Feature,
    add_imgsz,
    add_outputs,
    described,
    evidence_of,
    files_of,
    parsed,
    plan_of_pictures,
)

ANSWERS, RARE = 1000, 2  # answers that can be given; words of fewer training questions are passed over
PENALTIES = (0.01, 0.1, 1.0, 10.0)
HELD_OUT, SEED = 0.2, 0  # of the training pictures, to choose the penalty on
KINDS = ("words alone", "picture alone", "both")
COMMONEST = "commonest answer"
SHOWN, WIDE = 8, 26  # questions on the page, and letters of a line


@dataclass(frozen=True)
class Bag:
    """Words that count, and the place of each."""

    places: dict[str, int]

    @classmethod
    def of(cls, questions: Iterable[Question]) -> "Bag":
        """The words of at least RARE questions."""
        counts = Counter(word for own in questions for word in set(words(own.text)))
        return cls({word: place for place, word in enumerate(sorted(w for w, n in counts.items() if n >= RARE))})

    def of_texts(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """[N, words] 1 where a text has a word; only the ones are kept."""
        rows = [sorted({self.places[word] for word in words(text) if word in self.places}) for text in texts]
        ends = np.cumsum([0, *map(len, rows)])
        columns = np.fromiter((place for row in rows for place in row), np.int64, ends[-1])
        return sparse.csr_matrix((np.ones(ends[-1]), columns, ends), (len(texts), len(self.places)))


@dataclass(frozen=True)
class Scale:
    """What brings features to mean 0 and deviation 1."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Scale":
        return cls(features.mean(0), np.maximum(features.std(0), 1e-9))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.mean) / self.deviation)


@dataclass(frozen=True)
class Answerer:
    """A softmax over answers, linear in words and features.

    Attributes:
        kind: of KINDS, what it looks at.
        weights: [answers, words + features] of the parts that it looks at.
        converged: whether the optimiser came to its end.
    """

    kind: str
    bag: Bag
    scale: Scale
    answers: list[str]
    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    converged: bool = True

    def inputs(self, texts: Sequence[str], features: np.ndarray) -> sparse.csr_matrix | np.ndarray:
        """[N, words + features] of questions and the features [N, D] of their pictures; words make it sparse."""
        if self.kind == KINDS[1]:
            return self.scale(features)
        own = self.bag.of_texts(texts)
        return own if self.kind == KINDS[0] else sparse.hstack([own, self.scale(features)], "csr")

    def scores(self, texts: Sequence[str], features: np.ndarray) -> np.ndarray:
        """[N, answers]."""
        return np.asarray(self.inputs(texts, features) @ self.weights.T + self.bias)

    def guesses(self, texts: Sequence[str], features: np.ndarray) -> list[str]:
        """The likeliest answer of each."""
        return [self.answers[own] for own in self.scores(texts, features).argmax(1)]

    def of_features(self, answer: str) -> np.ndarray:
        """[D] what each feature adds to an answer: weights of its map."""
        own = self.weights[self.answers.index(answer)]
        return np.asarray(own[len(own) - len(self.scale.deviation) :] / self.scale.deviation)

    def settled(self, questions: Sequence[Question], features: np.ndarray, penalty: float) -> "Answerer":
        """The same, fitted to questions whose pictures have features [images, D]."""
        given = set(self.answers)
        known = [own for own in questions if own.answer in given]
        if len({own.answer for own in known}) < 2:
            what, hint = "all training questions have the same answer", "give more questions"
            raise UserError(what, where="--questions", hint=hint)
        rows = self.inputs([own.text for own in known], features[[own.image for own in known]])
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always", ConvergenceWarning)
            own = LogisticRegression(C=penalty, max_iter=2000).fit(rows, [one.answer for one in known])
        missed = any(issubclass(one.category, ConvergenceWarning) for one in found)
        weights, bias = own.coef_, own.intercept_
        if len(own.classes_) == 2:  # scikit-learn keeps one function for both
            weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
        return replace(
            self, answers=own.classes_.tolist(), weights=weights, bias=bias, penalty=penalty, converged=not missed
        )


def learned(questions: Sequence[Question], features: np.ndarray, kind: str, answers: int = ANSWERS) -> Answerer:
    """An answerer whose penalty is the best on the questions about a fifth of the pictures.

    Args:
        features: [images, D].
        answers: so many of the most frequent ones can be given.
    """
    given = [own for own, _ in Counter(own.answer for own in questions).most_common(answers)]
    empty = np.zeros((0, 0))
    fresh = Answerer(kind, Bag.of(questions), Scale.of(features), given, empty, empty, 0.0)
    draw = np.random.default_rng(SEED).random(len(features)) < HELD_OUT
    kept = [own for own in questions if not draw[own.image]]
    asked = [own for own in questions if draw[own.image]]
    if not asked or len({own.answer for own in kept}) < 2:
        return fresh.settled(questions, features, 1.0)
    tried = {one: rights(fresh.settled(kept, features, one), asked, features).mean() for one in PENALTIES}
    return fresh.settled(questions, features, max(PENALTIES, key=lambda one: tried[one]))


def rights(own: Answerer, questions: Sequence[Question], features: np.ndarray) -> np.ndarray:
    """[N] VQA's accuracy of each answer."""
    guesses = own.guesses([one.text for one in questions], features[[one.image for one in questions]])
    return np.array([accuracy(guess, one.answers) for guess, one in zip(guesses, questions, strict=True)])


def some_of(known: Questions, count: int | None) -> Questions:
    """So many of the questions, drawn at random, with their pictures; None for all."""
    if count is None or count >= len(known.questions):
        return known
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(known.questions))[:count])
    questions = [known.questions[index] for index in drawn]
    images = sorted({own.image for own in questions})
    place = {image: number for number, image in enumerate(images)}
    moved = [replace(own, image=place[own.image]) for own in questions]
    return Questions([known.records[image] for image in images], moved)


def by_kind(values: np.ndarray, questions: Sequence[Question]) -> dict[str, float]:
    """The mean of all, and of each kind of answer."""
    kinds = np.array([own.kind for own in questions])
    each = {str(kind): float(values[kinds == kind].mean()) for kind in np.unique(kinds)}
    return {"all": float(values.mean())} | each


def drawn(
    network: Explained, plan: Plan, kind: Feature, own: Answerer, asked: Questions, features: np.ndarray
) -> tuple[list[np.ndarray], list[str]]:
    """Some pictures, below each the map of the answer that is given; titles: question, answer and the true one."""
    order = np.random.default_rng(SEED).permutation(len(asked.questions))
    chosen: dict[str, Question] = {}
    for question in (asked.questions[index] for index in order.tolist()):
        chosen.setdefault(f"{question.text} {question.answer}", question)
    above, below, titles = [], [], []
    for question in list(chosen.values())[:SHOWN]:
        case = next(plan.images([plan.split.records[question.image]], "pictures"))
        (guess,) = own.guesses([question.text], features[[question.image]])
        shown = picture(case.images[0])
        weights = own.of_features(guess)[None]
        seen = evidence_of(network, weights, case.images.to(plan.device), kind)
        above.append(shown)
        below.append(overlaid(shown, seen[0]))
        titles.append(f"{fill(question.text, WIDE)}\n{guess} (is: {question.answer})")
    return above + below, titles


def plans_of(file: BackboneFile, known: Questions, asked: Questions, folders: Sequence[Path]) -> tuple[Plan, Plan]:
    """Training and test pictures, those of more than 8 bits with the same levels: the file's, or the training ones'."""
    training = plan_of_pictures(file, known.records, folders[0])
    levels = training.split.description.levels
    return training, plan_of_pictures(replace(file, levels=levels), asked.records, folders[1])


def flags() -> argparse.Namespace:
    """What is asked for."""
    parser = Parser(description="Answers to questions about pictures, and their maps.")
    pair: dict[str, Any] = {"nargs": 2, "type": Path, "required": True, "metavar": ("TRAIN", "TEST")}
    parser.add_argument("--weights", type=Path, required=True, help="a backbone file")
    parser.add_argument("--questions", **pair, help="jsons of questions, as VQA v2 publishes them")
    parser.add_argument("--annotations", **pair, help="jsons of their answers")
    parser.add_argument("--images", **pair, help="folders of the pictures")
    parser.add_argument("--feature", default="average", choices=[own.name for own in FEATURES.values() if own.maps])
    parser.add_argument("--answers", type=positive, default=ANSWERS, help=f"most frequent answers [{ANSWERS}]")
    parser.add_argument("--training", type=positive, help="training questions, drawn at random [all]")
    add_imgsz(parser)
    add_outputs(parser, "some questions and the maps of the answers")
    return parsed(parser)


def main() -> None:
    """Learn, judge, draw, print."""
    arguments = flags()
    (file,), kind = files_of([arguments.weights], arguments.imgsz), FEATURES[arguments.feature]
    files = zip(arguments.questions, arguments.annotations, arguments.images, strict=True)
    given, asked = (read_questions(*own) for own in files)
    known = some_of(given, arguments.training)
    training, plan = plans_of(file, known, asked, arguments.images)
    network = load_explained(file, plan)
    if (why := kind.obstacle(network.heads[-1])) is not None:
        raise UserError(f"`{kind.name}` {why}", where="--feature", hint="take average")
    for line in too_good(count_learnt(plan.split, file.learnt), len(plan.split.records)):
        print(line)
    features = described(network, training, training.split.records, "training", kind)
    held_out = described(network, plan, plan.split.records, "test", kind)
    commonest = Counter(own.answer for own in known.questions).most_common(1)[0][0]
    rows = {
        COMMONEST: by_kind(np.array([accuracy(commonest, own.answers) for own in asked.questions]), asked.questions)
    }
    for name in KINDS:
        own = learned(known.questions, features, name, arguments.answers)
        rows[name] = by_kind(rights(own, asked.questions, held_out), asked.questions)
        if not own.converged:
            print(f"{name}: scikit-learn stopped before it had converged")
    learnt = f"{len(known.questions)} of {len(given.questions)} training questions, about {len(known.records)} pictures"
    print(f"{learnt}; {len(asked.questions)} test questions, {len(own.answers)} answers")
    print(f"{'looks at':<20}" + "".join(f"{name:>10}" for name in rows[COMMONEST]))
    for name, values in rows.items():
        print(f"{name:<20}" + "".join(f"{value:>10.3f}" for value in values.values()))
    if arguments.pictures:
        page, titles = drawn(network, plan, kind, own, asked, held_out)
        save_page(page, arguments.pictures, titles, columns=len(titles))
    if arguments.json:
        numbers = {
            "training": len(known.questions),
            "given": len(given.questions),
            "test": len(asked.questions),
            "answers": len(own.answers),
            "penalty": own.penalty,
            "accuracy": rows,
        }
        write_text(arguments.json, json_text(numbers, indent=1))


if __name__ == "__main__":
    run_cli(main)
