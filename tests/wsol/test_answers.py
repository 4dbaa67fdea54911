import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Script, Writer
from PIL import Image

from data import sample_questions
from data.questions import Question, Questions
from data.records import make_record
from utils.errors import UserError
from utils.levels import Levels
from wsol import answers
from wsol.answers import Bag, learned, rights, some_of
from wsol.features import files_of


def asked(count: int) -> tuple[list[Question], np.ndarray]:
    """Two questions about each picture: its colour, which feature 2 knows, and whether it is one, always yes."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(count, 5))
    colours = ["red" if own > 0 else "blue" for own in features[:, 2]]
    found = [Question(own, "What colour is it?", own, (colours[own],) * 10) for own in range(count)]
    return found + [Question(own, "Is it a picture?", own, ("yes",) * 10, "yes/no") for own in range(count)], features


def test_words_choose_the_kind_of_answer_and_features_the_answer() -> None:
    questions, features = asked(80)
    found = {kind: rights(learned(questions, features, kind), questions, features).mean() for kind in answers.KINDS}
    assert found["both"] > 0.95
    assert 0.5 < found["words alone"] < 0.85  # the colour is a guess
    assert found["picture alone"] < 0.85
    own = learned(questions, features, "both")
    assert np.abs(own.of_features("red")).argmax() == 2
    assert own.of_features("red")[2] > 0 > own.of_features("blue")[2]


def test_many_questions_take_no_matrix_of_all_words() -> None:
    """Bytes are those of the words that occur, and the scores those of a dense matrix."""
    texts = [f"word{number} word{number % 7} word{number}" for number in range(3000)]
    bag = Bag.of([Question(0, text, 0) for text in texts * 2])
    found = bag.of_texts(texts)
    assert found.shape == (3000, 3000)
    assert found.data.nbytes + found.indices.nbytes < found.shape[0] * found.shape[1] / 50
    dense = np.zeros(found.shape)
    for row, text in enumerate(texts):
        dense[row, [bag.places[word] for word in text.split()]] = 1
    assert (found.toarray() == dense).all()


def test_some_questions_keep_their_pictures() -> None:
    records = [make_record(Path(f"{number}.jpg"), (8, 8)) for number in range(20)]
    every = Questions(records, [Question(number, f"{number}.jpg", number % 20) for number in range(40)])
    own = some_of(every, 7)
    assert len(own.questions) == 7
    assert {own.records[one.image].image.name for one in own.questions} == {record.image.name for record in own.records}
    assert all(one.number % 20 == int(own.records[one.image].image.stem) for one in own.questions)
    assert some_of(every, None) is some_of(every, 40) is every


def test_a_map_is_what_the_features_add() -> None:
    """The score of an answer is its map's mean, plus what words and bias add."""
    questions, features = asked(40)
    own = learned(questions, features, "both")
    places = own.answers.index("red")
    one, other = own.scores(["What colour is it?"] * 2, features[:2])[:, places]
    assert one - other == pytest.approx(own.of_features("red") @ (features[0] - features[1]))


@pytest.mark.parametrize("levels", [None, Levels(0, 1000)])
def test_pictures_of_16_bits_all_have_the_same_levels(levels: Levels | None, written: Writer, tmp_path: Path) -> None:
    """The file's, or else those of the training pictures."""
    records = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        Image.fromarray((np.arange(64, dtype=np.uint16).reshape(8, 8) + 1) * (number + 1) * 100).save(path)
        records.append(make_record(path, (8, 8)))
    (file,) = files_of([written("e2e", k=1, head="gap")])
    known, asked = (Questions([record], []) for record in records)
    plans = answers.plans_of(replace(file, levels=levels), known, asked, [tmp_path] * 2)
    one, other = (plan.split.records[0].levels for plan in plans)
    assert one == other is not None
    assert levels in (None, one)


def test_one_answer_cannot_be_learned() -> None:
    questions, features = asked(10)
    with pytest.raises(UserError, match="the same answer"):
        learned(questions[10:], features, "both")


def test_command(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sample_questions.write(tmp_path / "q", scenes_yaml)
    given: list[object] = ["--weights", written("e2e", k=1, head="gap")]
    for flag, name in (("questions", "{}_questions.json"), ("annotations", "{}_annotations.json"), ("images", "{}")):
        given += [f"--{flag}", *(folder / name.format(part) for part in ("train", "test"))]
    script(answers, *given, "--json", tmp_path / "a.json", "--pictures", tmp_path / "a.jpg")
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["training"], content["test"]) == (40, 20)
    assert set(content["accuracy"]) == {"commonest answer", *answers.KINDS}
    assert np.asarray(Image.open(tmp_path / "a.jpg")).std() > 0
    assert "40 of 40 training questions, about " in capsys.readouterr().out
    script(answers, *given, "--training", 30, "--json", tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["training"], content["given"]) == (30, 40)
