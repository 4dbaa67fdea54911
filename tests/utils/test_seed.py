import torch

from utils.seed import seed_draws


def test_draws_are_those_of_torch_itself() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(5)
    seed_draws(7, torch.device("cpu"))
    assert torch.equal(torch.rand(5), wanted)
