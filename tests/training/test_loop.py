import csv
import os
import random
import signal
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.loader import EpochSampler
from training.logs import Logs
from training.loop import Loop
from training.task import Hooks
from utils.config import Phase
from utils.errors import Stopped
from utils.stop import Stop

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


def make_loop(
    folder: Path,
    phase: Phase,
    saved: list[Any] | None = None,
    state: dict[str, Any] | None = None,
    precision: Precision | None = None,
    stop: Stop | None = None,
) -> Loop:
    torch.manual_seed(0)
    loader = DataLoader(Echo(), phase.batch_size, sampler=EpochSampler(22, 0), collate_fn=rows)
    hooks = Hooks(lambda state: None if saved is None else saved.append(deepcopy(state)))
    folder.mkdir(parents=True, exist_ok=True)
    fabric, logs = Fabric(accelerator="cpu", plugins=precision), Logs(folder, "r.csv")
    task, own = Line(nn.Linear(2, 1)), stop or Stop()
    return Loop(fabric, task, phase, loader, logs, hooks, own, seed=0, state=state or {})


def trained(folder: Path, phase: Phase, saved: list[Any] | None = None) -> Tensor:
    loop = make_loop(folder, phase, saved)
    loop.fit()
    weight: Tensor = loop.task.model.weight.detach()  # type: ignore[assignment,operator]
    return weight.clone()


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
    monkeypatch.setattr("training.loop.SAVE_EVERY_S", -1)
    saved: list[Any] = []
    trained(tmp_path, Phase(batch_size=4, nominal_batch=12, epochs=1), saved)
    assert len(saved) == 2, "after three batches of an epoch of six, and after all"


def bits(model: nn.Module) -> list[Any]:
    return [tensor.tolist() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("every", [1, 4])
def test_average_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Saved after any update: those that the average has not taken in are counted in the save."""
    monkeypatch.setattr("training.loop.SAVE_EVERY_S", -1)
    monkeypatch.setattr("training.update.YOUNG", 1)
    saved: list[Any] = []
    phase = Phase(batch_size=4, nominal_batch=8, epochs=5, val_every=2, ema_decay=0.5, ema_every=every)
    whole = bits(make_loop(tmp_path / "whole", phase, saved).fit()[0])
    assert {state["position"]["within"]["unaveraged"] for state in saved} == set(range(every))
    for number, state in enumerate(saved):
        assert bits(make_loop(tmp_path / str(number), phase, state=state).fit()[0]) == whole


def test_lost_pictures_are_counted_across_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.SAVE_EVERY_S", -1)
    monkeypatch.setattr("training.loop.Lost.note", lambda self, batch: 1)
    saved: list[Any] = []
    phase = Phase(batch_size=4, nominal_batch=4, epochs=2)
    trained(tmp_path / "whole", phase, saved)
    positions = [state["position"]["within"] for state in saved]
    inside = [(at["epoch"], at["batch"]) for at in positions].index((1, 3))
    make_loop(tmp_path / "cut", phase, state=saved[inside]).fit()
    for folder, epochs in (("whole", 2), ("cut", 1)):
        rows = csv.DictReader((tmp_path / folder / "r.csv").read_text().splitlines())
        assert [row["lost"] for row in rows] == ["6"] * epochs


def finished(folder: Path, phase: Phase, pause: Callable[[], float], hits: list[int]) -> list[Any]:
    """What training ends with that pairs of real signals stop at random moments, and that continues each time."""
    state: dict[str, Any] = {}
    while True:
        saved, stop, over = [state], Stop(), threading.Event()

        def twice(over: threading.Event = over) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                if over.wait(pause()):
                    return
                os.kill(os.getpid(), number)

        loop, sender = make_loop(folder, phase, saved, state, stop=stop), threading.Thread(target=twice)
        with stop.listening(), stop.deferred():
            sender.start()
            try:
                return bits(loop.fit()[0])
            except Stopped:
                state = saved[-1]
                hits.append(state["position"]["within"]["batch"])
            finally:
                over.set()
                sender.join()


def test_pairs_of_signals_never_cut_a_step(tmp_path: Path) -> None:
    phase = Phase(batch_size=4, nominal_batch=8, epochs=4, val_every=2, ema_decay=0.5, ema_every=4, momentum=0.9)
    whole, draw, hits = bits(make_loop(tmp_path / "whole", phase).fit()[0]), random.Random(0), list[int]()
    for number in range(12):
        assert finished(tmp_path / str(number), phase, lambda: draw.uniform(0, 0.03) ** 1.5, hits) == whole
    assert len(hits) > 6


def test_validated_average_has_taken_in_all_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.update.YOUNG", 0)
    loop = make_loop(tmp_path, Phase(batch_size=4, epochs=3, ema_every=4))
    seen: list[int] = []
    assert loop.average
    monkeypatch.setattr(Line, "evaluate", lambda *_: seen.append(int(loop.average.n_averaged)) or {"fitness": 0.0})
    loop.fit()
    assert seen == [6, 12, 18]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradients_are_unscaled_before_they_are_clipped(tmp_path: Path, optimizer: str) -> None:
    """In fp16 the loss is scaled up, at first beyond its range: two steps are left out."""
    phase = Phase(batch_size=22, epochs=6, warmup=0, lr_final=1, optimizer=optimizer, lr=0.05, clip=0.5)
    scaled = make_loop(tmp_path / "fp16", phase, precision=MixedPrecision("16-mixed", "cpu"))
    scaled.fit()
    plain = make_loop(tmp_path / "fp32", phase.model_copy(update={"epochs": 4}))
    plain.fit()
    for name, tensor in plain.task.model.state_dict().items():
        torch.testing.assert_close(scaled.task.model.state_dict()[name], tensor, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("fitness", "best"), [(0.0, [1, 2, 3, 4]), (0.5, [1])])
def test_the_last_epoch_is_best_while_nothing_is_found(tmp_path: Path, fitness: float, best: list[int]) -> None:
    @dataclass(frozen=True)
    class Finding(Line):
        def evaluate(self, model: nn.Module) -> dict[str, float]:
            return {"fitness": fitness}

    said: list[int] = []
    loader = DataLoader(Echo(), 5, sampler=EpochSampler(22, 0), collate_fn=rows)
    hooks = Hooks(lambda state: None, lambda model, metrics: said.append(len(loop.position.history) + 1))
    logs, task, phase = Logs(tmp_path, "r.csv"), Finding(nn.Linear(2, 1)), Phase(epochs=4, batch_size=5, patience=9)
    loop = Loop(Fabric(accelerator="cpu"), task, phase, loader, logs, hooks, Stop(), seed=0, state={})
    loop.fit()
    assert said == best
