"""Figures in TensorBoard, W&B and MLflow; the latter two offline, where their packages are installed."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CASCADE, Script

import train
from training.loggers import IDS, LOGGERS, Service, check_loggers
from utils.config import Recipe
from utils.errors import UserError
from utils.runs import FINISHED

EPOCHS = 6  # of the cascade: three stages of two


def run_with(logger: str, data: Path, script: Script, project: Path) -> Path:
    script(train, "--data", data, "--project", project, "--logger", logger, *CASCADE)
    return project / "train" / "exp"


def test_tensorboard_reads_what_was_written(corners_yaml: Path, script: Script, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_with("csv,tensorboard", corners_yaml, script, tmp_path)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("stage2/train/loss")] == [1, 2]


def test_csv_alone(corners_yaml: Path, script: Script, tmp_path: Path) -> None:
    run = run_with("csv", corners_yaml, script, tmp_path)
    assert len((run / "pretrain.csv").read_text().splitlines()) == EPOCHS + 1
    assert not (run / "tensorboard").exists()


def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no logger `wnadb` — did you mean wandb"):
        check_loggers(Recipe(logger="wnadb"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"^--logger mlflow: MLflow needs .* — pip install pytorch-lightning==.* mlflow$"
    ):
        check_loggers(Recipe(logger=("tensorboard", "mlflow")))


def test_one_that_fails_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        calls = 0

        def log_metrics(self, values: dict[str, float], step: int) -> None:
            self.calls += 1
            raise ConnectionError("nobody answers")

    logger = Broken()
    service = Service(LOGGERS["wandb"], logger)
    for step in (1, 2):
        service.do("log_metrics", {"loss": 1.0}, step)
    assert logger.calls == 1
    assert capsys.readouterr().out == "Weights & Biases fails and gets no more figures: nobody answers\n"


def test_lightning_is_of_fabrics_version() -> None:
    import lightning_fabric

    (wanted,) = {name for entry in LOGGERS.values() for name in entry.packages.values() if "==" in name}
    assert wanted == f"pytorch-lightning=={lightning_fabric.__version__}"


def test_mlflow_offline(corners_yaml: Path, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is not installed")
    pytest.importorskip("pytorch_lightning", reason="PyTorch Lightning is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = run_with("mlflow", corners_yaml, script, tmp_path)
    number = json.loads((run / IDS).read_text())["mlflow"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert [own.step for own in client.get_metric_history(number, "stage2/train/loss")] == [1, 2]
    found = client.get_run(number)
    assert (found.info.status, found.data.params["cl_splits"]) == ("FINISHED", "3")
    (run / FINISHED).unlink()
    script(train, "--resume", run, "--project", tmp_path)
    assert json.loads((run / IDS).read_text())["mlflow"] == number


def test_wandb_offline(corners_yaml: Path, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="W&B is not installed")
    pytest.importorskip("pytorch_lightning", reason="PyTorch Lightning is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = run_with("wandb", corners_yaml, script, tmp_path)
    number = json.loads((run / IDS).read_text())["wandb"]
    (file,) = (run / "wandb").glob(f"offline-run-*/run-{number}.wandb")
    assert b"stage2/train/loss" in file.read_bytes()
