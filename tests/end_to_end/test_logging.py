"""``--log``: what TensorBoard, MLflow and Weights & Biases have of a search, read back."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.searches import (
    Search,
    choices,
    kill,
    resume,
    run,
    running,
    trials,
    wait_until,
)

pytestmark = [pytest.mark.slow]

ONE_AT_A_TIME = ("--max-concurrent", "1")
FIGURES = (
    "learning_rate", "task_loss", "similarity_loss", "train_accuracy", "validation_loss",
    "validation_accuracy", "similarity_correlation", "positive_share", "negative_share", "seconds",
)  # fmt: skip
Series = dict[str, list[tuple[int, float]]]
"""Steps and values by name."""


def expected(search: Search, number: int) -> Series:
    """What is to be logged of a finished trial, by its rows."""
    rows = [row for row in search.rows("epochs") if row["trial"] == number]
    rows.sort(key=lambda row: row["epoch"])
    series: Series = {
        name: [(row["epoch"] + 1, row[name]) for row in rows if row[name] is not None]
        for name in FIGURES
        if any(row[name] is not None for row in rows)
    }
    for index in range(len(rows[0]["gamma"])):
        series[f"gamma.{index}"] = [(row["epoch"] + 1, row["gamma"][index]) for row in rows]
    figures = search.row(number)
    final = {
        name: [(len(rows), value)]
        for name, value in figures.items()
        if name.startswith(("validation.", "test.")) and ".baseline_" not in name
        if value is not None
    }
    assert {"validation.robust_accuracy", "test.tradeoff_score"} <= final.keys()
    return {**series, **final}


def assert_same(found: Series, wanted: Series, accuracy: float = 0.0) -> None:
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=accuracy), name


def params(search: Search, number: int) -> dict[str, Any]:
    row = search.row(number)
    return {name: row[name] for name in (*search.space.search, "seed")}


def kill_when(output: Path, name: str, moment: Callable[[], bool], *flags: str) -> None:
    """Start a search of one long trial and kill its driver in the midst of it."""
    key = "regularizer.batch_size"  # many pairs make a trial slow, but no reference network
    one = (*choices(key, 2, 800), *trials({key: 800}), "--set", "training.epochs=30")
    with running(output, name, *one, *ONE_AT_A_TIME, *flags) as process:
        wait_until(moment, process)
        kill(process)


# TensorBoard


def tensorboard(folder: Path, name: str) -> tuple[Series, dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder / "tensorboard" / name), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    metadata = events.SummaryMetadata("_hparams_/session_start_info")
    content = HParamsPluginData.FromString(metadata.plugin_data.content)
    values = content.session_start_info.hparams
    return scalars, {key: getattr(v, v.WhichOneof("kind")) for key, v in values.items()}


@pytest.mark.long
def test_tensorboard_has_epochs_and_figures_of_every_trial(output: Path) -> None:
    flags = ("--num-trials", "2", *ONE_AT_A_TIME, "--log", "tensorboard")
    logged = run(output, "logged", *flags)
    assert logged.code == 0, logged.errors
    assert "--log" not in logged.errors
    assert not (logged.folder / "ray").exists()
    for number in (0, 1):
        scalars, hparams = tensorboard(logged.folder, f"{number:05d}")
        assert_same(scalars, expected(logged, number), accuracy=1e-6)
        assert hparams == params(logged, number)


@pytest.mark.long
def test_tensorboard_has_every_epoch_of_a_resumed_trial_once(output: Path) -> None:
    events = output / "logged-killed" / "tensorboard" / "00000"

    def has_epochs() -> bool:
        return any(file.stat().st_size > 2000 for file in events.glob("events.*"))

    kill_when(output, "logged-killed", has_epochs, "--log", "tensorboard")
    assert len([*events.iterdir()]) == 1
    found = resume(output / "logged-killed", *ONE_AT_A_TIME, "--log", "tensorboard")
    assert found.code == 0, found.errors
    assert len([*events.iterdir()]) == 2
    scalars, hparams = tensorboard(found.folder, "00000")
    assert_same(scalars, expected(found, 0), accuracy=1e-6)
    assert hparams == params(found, 0)


# MLflow


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # those of MLflow's own code
def test_mlflow_has_one_run_per_network_also_of_a_resumed_one(output: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/runs.db"

    def has_epochs() -> bool:
        with suppress(sqlite3.Error), closing(sqlite3.connect(tmp_path / "runs.db")) as database:
            (last,) = database.execute("SELECT max(step) FROM metrics").fetchone()
            return last is not None and last >= 3
        return False

    kill_when(output, "mlflow-killed", has_epochs, "--log", f"mlflow={uri}")
    client = mlflow.tracking.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("mlflow-killed").experiment_id
    (before,) = client.search_runs([experiment])
    assert before.info.status == "RUNNING"
    assert "test.clean_accuracy" not in before.data.metrics
    flags = (*ONE_AT_A_TIME, "--num-trials", "2", "--log", f"mlflow={uri}")
    found = resume(output / "mlflow-killed", *flags)
    assert found.code == 0, found.errors
    assert "--log" not in found.errors
    history = client.get_metric_history
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment])}
    assert runs.keys() == {"0", "1"}
    assert runs["0"].info.run_id == before.info.run_id
    for number, logged in ((0, runs["0"]), (1, runs["1"])):
        assert logged.info.status == "FINISHED"
        assert logged.info.run_name == f"mlflow-killed-{number:05d}"
        assert logged.data.tags["study"] == "mlflow-killed"
        assert logged.data.params == {k: str(v) for k, v in params(found, number).items()}
        series = {
            name: [(p.step, p.value) for p in history(logged.info.run_id, name)]
            for name in logged.data.metrics
        }
        assert_same(series, expected(found, number))


# Weights & Biases


def wandb_records(file: Path) -> Iterator[Any]:
    """What is in a file of Weights & Biases: a log of LevelDB's format, after 7 bytes of header."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


@pytest.mark.long
def test_wandb_logs_offline(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where no key is, either
    name = "wandb-offline"
    found = run(output, name, "--num-trials", "2", *ONE_AT_A_TIME, "--log", "wandb=mine")
    assert found.code == 0, found.errors
    assert "--log" not in found.errors
    files = sorted(found.folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for number, file in enumerate(files):
        records = [*wandb_records(file)]
        (logged,) = [record.run for record in records if record.HasField("run")]
        assert logged.project == "mine"
        assert logged.run_group == name
        assert logged.display_name == f"{name}-{number:05d}"
        assert [*logged.tags] == [name, f"trial {number}"]
        config = {item.key: json.loads(item.value_json) for item in logged.config.update}
        assert params(found, number).items() <= config.items()
        series: Series = {}
        for record in records:
            values = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            for key, value in values.items():
                if not key.startswith("_"):
                    point = (record.history.step.num, json.loads(value))
                    series.setdefault(key, []).append(point)
        assert_same(series, expected(found, number))


# servers that are away


SECRETS = {"mlflow": "secret", "wandb": "0123456789abcdef" * 2 + "01234567"}


@pytest.mark.long
@pytest.mark.parametrize("logger", SECRETS)
def test_server_that_is_away_is_reported_and_the_secret_is_nowhere(
    logger: str, output: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(logger)
    secret = SECRETS[logger]
    monkeypatch.setenv("WANDB_API_KEY", SECRETS["wandb"])
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    target = {"mlflow": f"mlflow=http://me:{secret}@127.0.0.1:9", "wandb": "wandb"}[logger]
    flags = ("--num-trials", "2", *ONE_AT_A_TIME, "--log", target)
    found = run(output, f"{logger}-away", *flags)
    assert found.code == 0, found.errors
    assert found.states == ["COMPLETE", "COMPLETE"]
    warnings = [line for line in found.errors.splitlines() if "--log" in line]
    assert len(warnings) == 2
    assert f"--log {logger}: 2 runs are not fully logged (00000, 00001)" in warnings[-1]
    assert logger == "wandb" or "http://***@127.0.0.1:9/" in warnings[-1]
    assert secret not in found.errors + found.printed
    files = [f for place in (ray_folder, found.folder) for f in place.rglob("*") if f.is_file()]
    assert any(file.name == "raylet.out" for file in files)
    assert [file for file in files if secret.encode() in file.read_bytes()] == []
