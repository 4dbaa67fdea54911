from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.loader import EpochSampler
from engine.logs import Logs
from engine.loop import Hooks, Loop
from engine.stop import Stop
from utils.config import Phase

DATA = torch.linspace(-1, 1, 44).view(22, 2)


@dataclass(frozen=True)
class Line:
    """Least squares on DATA: a task as small as can be."""

    model: nn.Linear
    name: str = "line"
    fitness: str = "fitness"

    def inputs(self, batch: Tensor) -> Tensor:
        return batch

    def loss(self, outputs: Tensor, batch: Tensor) -> dict[str, Tensor]:
        return {"square": (outputs - batch.sum(1, keepdim=True) - 1).square().mean()}

    def watch(self, outputs: Tensor, batch: Tensor) -> dict[str, Tensor]:
        return {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"fitness": 0.0}


def rows(draws: Any) -> Tensor:
    return torch.stack([DATA[index] for _, index in draws])


def trained(folder: Path, phase: Phase, saved: list[Any] | None = None) -> Tensor:
    torch.manual_seed(0)
    loader = DataLoader(Echo(), phase.batch_size, sampler=EpochSampler(22, 0), collate_fn=rows)
    task = Line(nn.Linear(2, 1))
    hooks = Hooks((saved if saved is not None else []).append)
    loop = Loop(Fabric(accelerator="cpu"), task, phase, loader, Logs(folder, "r.csv"), hooks, Stop(), seed=0, state={})
    loop.fit()
    return task.model.weight.detach().clone()


class Echo(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 22

    def __getitem__(self, draw: Any) -> Any:
        return draw


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradients_added_up_are_those_of_the_whole(tmp_path: Path, optimizer: str) -> None:
    common: dict[str, Any] = {
        "epochs": 2,
        "optimizer": optimizer,
        "lr": 0.05,
        "warmup": 0,
        "lr_final": 1,
        "ema_decay": 0,
    }
    many = trained(tmp_path / "a", Phase(batch_size=11, nominal_batch=22, **common))
    whole = trained(tmp_path / "b", Phase(batch_size=22, **common))
    torch.testing.assert_close(many, whole)
    alone = trained(tmp_path / "c", Phase(batch_size=11, **common))
    assert not torch.allclose(alone, whole)


def test_saved_between_updates_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.loop.SAVE_EVERY_S", -1)
    saved: list[Any] = []
    trained(tmp_path, Phase(batch_size=4, nominal_batch=12, epochs=1), saved)
    assert len(saved) == 2, "after three batches of an epoch of six, and after all"
