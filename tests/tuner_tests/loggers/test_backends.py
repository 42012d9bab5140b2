"""What each logger has of a run, read back with its own reader."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.loggers.backends import _WandbWriter, make_backend
from tuner.loggers.channel import Backend, Run, Values
from tuner.loggers.targets import LogTarget

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the loggers' own code

EPOCHS: Values = {step: {"a": 1 / step, "b": 2.0 * step} for step in (1, 2, 3)}
FINAL: Values = {**EPOCHS, 3: {**EPOCHS[3], "test.a": 0.5, "test.b": 0.25}}
RUN = Run("id-00000", "study", 7, "00000", {"x": 0.5, "seed": 1})
FINISHED = replace(RUN, values=FINAL, status="finished")


def points(values: Values) -> list[tuple[str, int, float]]:
    return sorted((name, step, v) for step, found in values.items() for name, v in found.items())


def first(num_epochs: int) -> Values:
    return {step: EPOCHS[step] for step in range(1, num_epochs + 1)}


def log_with_a_kill(make: Callable[[], Backend]) -> None:
    killed = make()(RUN)
    killed.log(first(1))
    killed.log(first(2))
    resumed = make()(RUN)
    resumed.log(EPOCHS)
    resumed.log(FINAL)
    resumed.close(FINISHED)


# TensorBoard


def tensorboard(folder: Path) -> tuple[Any, list[tuple[str, int, float]]]:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = folder / "tensorboard" / "00000"
    events = reader.EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return events, sorted((tag, e.step, e.value) for tag in tags for e in events.Scalars(tag))


def test_tensorboard_has_values_at_once_and_each_once_after_a_kill(tmp_path: Path) -> None:
    def make() -> Backend:
        return make_backend(LogTarget("tensorboard"), tmp_path)

    def same(values: Values) -> list[tuple[str, int, Any]]:
        return [(name, step, pytest.approx(value)) for name, step, value in points(values)]

    make()(RUN).log(first(1))
    assert tensorboard(tmp_path)[1] == same(first(1))
    log_with_a_kill(make)
    events, scalars = tensorboard(tmp_path)
    assert scalars == same(FINAL)
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    params = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.number_value for name, value in params.items()} == RUN.params


# MLflow


class Database:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def backend(self) -> Backend:
        target = LogTarget("mlflow", f"sqlite:///{self.folder}/runs.db")
        return make_backend(target, self.folder / "study")

    def query(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "runs.db")) as database, database:
            return database.execute(query).fetchall()

    def metrics(self) -> list[Any]:
        return self.query("SELECT key, step, value FROM metrics ORDER BY key, step")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    pytest.importorskip("mlflow")
    return Database(tmp_path)


def test_mlflow_has_every_value_of_a_killed_and_resumed_run_once(database: Database) -> None:
    log_with_a_kill(database.backend)
    assert database.metrics() == points(FINAL)
    assert database.query("SELECT name, status FROM runs") == [("study-00000", "FINISHED")]
    assert database.query("SELECT name FROM experiments WHERE name != 'Default'") == [("study",)]
    assert sorted(database.query("SELECT key, value FROM params")) == [("seed", "1"), ("x", "0.5")]
    tags = dict(database.query("SELECT key, value FROM tags"))
    assert {"study": "study", "trial": "7", "network": "id-00000"}.items() <= tags.items()


def test_mlflow_has_every_value_once_after_a_failure_half_way(database: Database) -> None:
    failed = database.backend()(RUN)
    failed.log(first(1))
    database.query(
        "CREATE TRIGGER full BEFORE INSERT ON metrics WHEN NEW.key = 'b' AND NEW.step = 2 "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    with pytest.raises(Exception, match="disk is full"):
        failed.log(first(2))
    database.query("DROP TRIGGER full")
    reopened = database.backend()(RUN)
    reopened.log(FINAL)
    reopened.close(FINISHED)
    assert database.metrics() == points(FINAL)


@pytest.mark.parametrize(("status", "logged"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_mlflow_has_the_status(status: Any, logged: str, database: Database) -> None:
    database.backend()(RUN).close(replace(RUN, status=status))
    assert database.query("SELECT status FROM runs") == [(logged,)]


def test_mlflow_prints_no_password(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlflow")
    backend = make_backend(LogTarget("mlflow", "http://me:secret@127.0.0.1:9"), Path("study"))
    with pytest.raises(Exception, match="127"):
        backend(RUN)
    assert "secret" not in "".join(capfd.readouterr())


# Weights & Biases


class WandbRun(SimpleNamespace):
    """A run whose first steps the server has."""

    def __init__(self, first: int, summary: dict[str, float]) -> None:
        super().__init__(starting_step=first, summary=summary, rows=[], exit_code=None)

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows += [(name, step, value) for name, value in values.items()]

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.mark.parametrize("num_epochs", [0, 1, 2])
def test_wandb_gets_the_steps_that_its_server_lacks(num_epochs: int) -> None:
    run = WandbRun(num_epochs + 1 if num_epochs else 0, {"a": 1.0, "b": 1.0} if num_epochs else {})
    writer = _WandbWriter(run)
    writer.log(EPOCHS)
    writer.log(FINAL)
    assert sorted(run.rows) == points({s: v for s, v in FINAL.items() if s > num_epochs})
    writer.close(FINISHED)
    assert run.exit_code == 0


def test_wandb_gets_the_final_metrics_of_a_run_interrupted_after_its_last_epoch() -> None:
    run = WandbRun(4, {"a": 1.0, "b": 1.0})
    _WandbWriter(run).log(FINAL)
    assert run.rows == [("test.a", 4, 0.5), ("test.b", 4, 0.25)]


def test_wandb_keeps_no_key_and_no_command_line_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    key = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("sys.argv", ["tuner.run", "--log", "mlflow=http://me:secret@host"])
    writer = make_backend(LogTarget("wandb"), tmp_path)(RUN)
    writer.log(FINAL)
    writer.close(FINISHED)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    contents = b"".join(path.read_bytes() for path in files)
    assert key.encode() not in contents
    assert b"secret" not in contents
