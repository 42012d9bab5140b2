from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tuner.log_channel import Entry, Logger, Network
from tuner.log_targets import LogTarget
from tuner.ray_loggers import make_logger

pytestmark = pytest.mark.filterwarnings("ignore")  # those of MLflow's own code

ENTRIES = [Entry(step, {"a": 1 / step, "b": 2 / step}, is_final=False) for step in (1, 2, 3)]
FINAL = Entry(3, {"test.a": 0.5, "test.b": 0.25}, is_final=True)


@pytest.fixture
def mlflow(tmp_path: Path) -> Callable[[], Logger]:
    """Makes a logger as every process of a search has one of its own."""
    pytest.importorskip("mlflow")

    def make() -> Logger:
        place = f"sqlite:///{tmp_path}/runs.db"
        return make_logger(LogTarget("mlflow", place), tmp_path / "study", lambda *lost: None)

    return make


def ask(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db")) as database, database:
        return database.execute(query).fetchall()


def fail_at(folder: Path, name: str, step: int) -> None:
    """Let the database refuse a metric at a step."""
    condition = f"NEW.key = '{name}' AND NEW.step = {step}"
    ask(folder, f"CREATE TRIGGER full BEFORE INSERT ON metrics WHEN {condition} "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END")  # fmt: skip


def assert_every_step_once(folder: Path) -> None:
    found = ask(folder, "SELECT key, step FROM metrics WHERE key != 'training_iteration'")
    wanted = [(name, entry.step) for entry in (*ENTRIES, FINAL) for name in entry.values]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("name", ["a", "b", "training_iteration"])
def test_step_that_a_kill_cut_short_is_in_mlflow_once(
    name: str, mlflow: Callable[[], Logger], tmp_path: Path
) -> None:
    network = Network("key", "study", 0, "00000", {"x": 1})
    killed = mlflow()
    assert killed.begin(network) == 0
    killed.log(network, ENTRIES[0])
    fail_at(tmp_path, name, 2)
    with pytest.raises(Exception, match="disk is full"):
        killed.log(network, ENTRIES[1])
    ask(tmp_path, "DROP TRIGGER full")
    resumed = mlflow()
    assert resumed.begin(network) == 1
    for entry in (*ENTRIES[1:], FINAL):
        resumed.log(network, entry)
    resumed.finish(network)
    assert_every_step_once(tmp_path)


def test_final_figures_that_a_kill_cut_short_are_in_mlflow_once(
    mlflow: Callable[[], Logger], tmp_path: Path
) -> None:
    network = Network("key", "study", 0, "00000", {"x": 1})
    killed = mlflow()
    killed.begin(network)
    for entry in ENTRIES:
        killed.log(network, entry)
    fail_at(tmp_path, "test.b", 3)
    with pytest.raises(Exception, match="disk is full"):
        killed.log(network, FINAL)
    ask(tmp_path, "DROP TRIGGER full")
    resumed = mlflow()
    assert resumed.begin(network) == 3
    resumed.log(network, FINAL)
    resumed.finish(network)
    assert_every_step_once(tmp_path)


def test_step_that_failed_half_way_is_made_up_for(
    mlflow: Callable[[], Logger], tmp_path: Path
) -> None:
    network = Network("key", "study", 0, "00000", {"x": 1})
    logger = mlflow()
    logger.begin(network)
    logger.log(network, ENTRIES[0])
    fail_at(tmp_path, "b", 2)
    for _ in range(2):
        with pytest.raises(Exception, match="disk is full"):
            logger.log(network, ENTRIES[1])
    ask(tmp_path, "DROP TRIGGER full")
    for entry in (*ENTRIES[1:], FINAL):
        logger.log(network, entry)
    logger.finish(network)
    assert_every_step_once(tmp_path)
