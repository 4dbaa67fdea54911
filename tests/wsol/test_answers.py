import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Script, Writer
from PIL import Image

from data import sample_questions
from data.questions import Question
from utils.errors import UserError
from wsol import answers
from wsol.answers import learned, rights


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


def test_a_map_is_what_the_features_add() -> None:
    """The score of an answer is its map's mean, plus what words and bias add."""
    questions, features = asked(40)
    own = learned(questions, features, "both")
    places = own.answers.index("red")
    one, other = own.scores(["What colour is it?"] * 2, features[:2])[:, places]
    assert one - other == pytest.approx(own.of_features("red") @ (features[0] - features[1]))


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
    assert "looks at" in capsys.readouterr().out
