import pytest

from training.check import check_names
from utils.config import Pretrain, Recipe
from utils.errors import UserError


def test_names_of_a_recipe_are_looked_up() -> None:
    assert check_names(Recipe()) == Recipe()
    with pytest.raises(UserError, match="--backbone: no backbone `resnet` — did you mean resnet50"):
        check_names(Recipe(backbone="resnet"))
    with pytest.raises(UserError, match=r"mine\.yaml: no head `gab` — did you mean gap"):
        check_names(Recipe(pretrain=Pretrain(head="gab")), "mine.yaml")
