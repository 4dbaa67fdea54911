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


def test_a_concept_does_not_hang_on_the_draws_of_others() -> None:
    draw = np.random.default_rng(0)
    features, tagged, found = draw.normal(size=(30, 50)), np.arange(30) % 2 == 0, []
    for seed in (0, 1):
        np.random.seed(seed)  # scikit-learn draws from it where it is given no seed
        found.append(learn_concept(features, tagged).weights)
    np.testing.assert_array_equal(*found)


def test_objects_under_the_map() -> None:
    """Of four images three have 7, which is covered in two; 8 is never covered; 9 half, in its only image.

    The fourth image has no object.
    """
    one, pixels = np.zeros((10, 10)), {name: np.zeros((10, 10), bool) for name in (7, 8, 9)}
    one[:5] = 1
    pixels[7][0:4, 0:4], pixels[8][6:9, 0:4], pixels[9][3:7, 5:9] = True, True, True
    seen = [(2, one, 7, pixels[7]), (2, one, 7, pixels[7]), (2, -one, 7, pixels[7])]
    seen += [(2, one, 8, pixels[8]), (2, one, 9, pixels[9]), (3, one, 8, pixels[8])]
    found = informative_objects(seen, {2: 4, 3: 1})
    assert [(own.name, own.frequency, own.overlapping, own.covered) for own in found[2]] == [
        (7, 0.75, 0.5, pytest.approx(2 / 3)),
        (9, 0.25, 0.25, 0.5),
        (8, 0.25, 0.0, 0.0),
    ]
    assert [(own.name, own.frequency) for own in found[3]] == [(8, 1.0)]
