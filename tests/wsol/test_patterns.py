import numpy as np
import pytest
import torch
from torch import nn

from models.heads import make_head
from utils.errors import UserError
from wsol.patterns import class_units, informative_objects, learn_concept


def test_units_by_weight() -> None:
    head = make_head("gap", (4, 2, 2), 2)
    linear = list(head.children())[-1]
    assert isinstance(linear, nn.Linear)
    linear.weight.data = torch.tensor([[0.1, 0.9, -2.0, 0.5], [3.0, 0.0, 1.0, 2.0]])
    assert class_units(head).tolist() == [[1, 3, 0], [0, 3, 2]]


def test_a_planted_concept_is_found_among_many_others() -> None:
    draw = np.random.default_rng(0)
    features, tagged = np.abs(draw.normal(size=(2000, 30))), np.zeros(2000, bool)
    tagged[:40] = True
    features[:40, 7] += 4
    features[40:140, 8] += 4  # decoys
    features[40:140, 7] += 1
    own = learn_concept(features, tagged)
    scores = own.scores(features)
    assert np.mean(np.argsort(-scores)[:40] < 40) > 0.9
    assert int(own.weights.argmax()) == 7
    first_only = learn_concept(features, tagged, rounds=1)
    assert (scores[40:] > 0).sum() <= (first_only.scores(features)[40:] > 0).sum()
    for wrong, what in ((np.zeros(5, bool), "no image"), (np.ones(5, bool), "no image is without")):
        with pytest.raises(UserError, match=what):
            learn_concept(features[:5], wrong)


def test_objects_under_the_map() -> None:
    """Of three images all have 7, which is covered in two; 8 is never covered; 9 half, in its only image."""
    one, pixels = np.zeros((10, 10)), {name: np.zeros((10, 10), bool) for name in (7, 8, 9)}
    one[:5] = 1
    pixels[7][0:4, 0:4], pixels[8][6:9, 0:4], pixels[9][3:7, 5:9] = True, True, True
    seen = [(2, image, one, 7, pixels[7]) for image in range(2)]
    seen += [
        (2, 2, -one, 7, pixels[7]),
        (2, 1, one, 8, pixels[8]),
        (2, 2, one, 9, pixels[9]),
        (3, 4, one, 8, pixels[8]),
    ]
    found = informative_objects(seen)
    third = pytest.approx(1 / 3)
    assert [(own.name, own.frequency, own.overlapping, own.covered) for own in found[2]] == [
        (7, 1.0, pytest.approx(2 / 3), pytest.approx(2 / 3)),
        (9, third, third, 0.5),
        (8, third, 0.0, 0.0),
    ]
    assert [(own.name, own.frequency) for own in found[3]] == [(8, 1.0)]
