import pytest

from training.check import check_names, check_sizes
from utils.config import Phase, Pretrain, Recipe
from utils.errors import UserError


def test_names_of_a_recipe_are_looked_up() -> None:
    assert check_names(Recipe()) == Recipe()
    with pytest.raises(UserError, match="--backbone: no backbone `resnet` — did you mean resnet50"):
        check_names(Recipe(backbone="resnet"))
    with pytest.raises(UserError, match=r"mine\.yaml: no head `gab` — did you mean gap"):
        check_names(Recipe(pretrain=Pretrain(head="gab")), "mine.yaml")


def test_sizes_are_tried_before_training() -> None:
    check_sizes(Recipe(width=0.125, imgsz=64))
    alone = Phase(batch_size=1)
    with pytest.raises(UserError, match="--imgsz: darknet53 cannot take 1 images of 32 pixels a step"):
        check_sizes(Recipe(width=0.125, imgsz=32, cl_splits=0, train=alone))
    small = Pretrain(head="alexnet_fc", imgsz=32)
    with pytest.raises(UserError, match="--pretrain-head: alexnet_fc cannot take 16 of 128×1×1 features after b23"):
        check_sizes(Recipe(width=0.125, imgsz=64, pretrain=small))
