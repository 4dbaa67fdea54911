"""Who starts the processes of a run, whatever a job around it says."""

import time

import pytest
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from training.fabric import environment, first_speaks, make_fabric, settle
from training.ranks import Watch
from utils import checkpoint
from utils.config import Recipe
from utils.console import console

JOB = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variables of a SLURM job."""
    monkeypatch.setattr(console, "quiet", console.quiet)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("tasks", ["1", "2", "4"])
@pytest.mark.parametrize("rank", ["0", "3"])
def test_one_process_trains_in_any_job(job: pytest.MonkeyPatch, tasks: str, rank: str) -> None:
    job.setenv("SLURM_NTASKS", tasks)
    job.setenv("SLURM_PROCID", rank)
    recipe = settle(Recipe(device="cpu", precision="fp32"))
    first_speaks(recipe)
    fabric = make_fabric(recipe)
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    assert not console.quiet


def test_as_many_tasks_as_processes_are_those_of_slurm(job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_NTASKS", "2")
    job.setenv("SLURM_PROCID", "1")
    recipe = Recipe(device="cpu", devices=2)
    found = environment(recipe)
    assert isinstance(found, SLURMEnvironment)
    assert found.global_rank() == 1
    first_speaks(recipe)
    assert console.quiet
    job.setenv("SLURM_JOB_NAME", "bash")
    assert isinstance(environment(recipe), LightningEnvironment)


def test_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    checkpoint.provenance.cache_clear()
    assert checkpoint.provenance()["commit"] == "unknown"
    checkpoint.provenance.cache_clear()


@pytest.mark.parametrize(("beats", "said"), [(100.0, None), (-100.0, "rank 1 died or cannot be reached")])
def test_a_rank_that_still_beats_is_not_blamed(beats: float, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of this rank itself, as of memory that is full, is its own."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr("training.ranks.LATE_S", 0.1)
    monkeypatch.setattr("training.ranks.BEAT_S", 0.1)
    watch = Watch(make_fabric(settle(Recipe(device="cpu", precision="fp32"))))
    watch.names, watch.seen = ["rank 0", "rank 1"], [(b"1", time.monotonic() + beats)] * 2
    error = watch.blame()
    assert (said is None and error is None) or (said and said in str(error))
