import os
import signal
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from utils.errors import Stopped, UserError, run_cli
from utils.stop import Stop


class Dies(Dataset[int]):
    """Pictures that cost whoever reads them its memory, and so its life."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def read() -> None:
    next(iter(DataLoader(Dies(), num_workers=1)))


def test_a_process_that_reads_images_dies_by_itself() -> None:
    with (
        pytest.raises(UserError, match=r"^features of b11: a process that reads images died \(DataLoader worker"),
        Stop().readers("features of b11"),
    ):
        read()


def test_or_of_the_signal_that_all_were_sent() -> None:
    stop = Stop()
    stop.asked = signal.SIGTERM
    with pytest.raises(Stopped, match="SIGTERM"), stop.readers("features of b11"):
        read()


def test_other_errors_are_not_its_business() -> None:
    error = RuntimeError("no kernel image")
    with pytest.raises(RuntimeError) as found, Stop().readers("features of b11"):
        raise error
    assert found.value is error


def test_a_command_says_it_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["val.py"])
    with pytest.raises(SystemExit) as ended:
        run_cli(read)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: reading images: a process that reads images died")
    assert said.count("\n") == 1
