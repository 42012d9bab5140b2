"""Early stopping, constraints and several seeds in real searches of tiny networks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from analysis.pareto.__main__ import main as draw_pareto
from simreg_core.data.task import load_task
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import run_experiment
from tests.end_to_end.searches import (
    CLOCK_COLUMNS,
    Search,
    assert_all_tables_readable,
    finished,
    kill,
    resume,
    start,
    wait_until,
)

pytestmark = [pytest.mark.slow]

RATE = "training.learning_rate"
GOOD, BAD = 0.1, 1.0e-6
TRIAL: dict[str, Any] = {
    "task": {"dataset": "digits", "image_size": 8}
    | {"num_train": 128, "num_validation": 64, "num_test": 64},
    "model": {"base_channels": 4, "blocks": [1, 1]},
    "training": {"batch_size": 16, "checkpoint_seconds": 0},
    "regularizer": {"num_images": 64, "batch_size": 4},
    "robustness": {
        "attacks": {"gaussian": {"max_epsilon": 0.4}, "transfer_fgsm": {"max_epsilon": 0.2}},
        "reference": {"gaussian": 0.2, "transfer_fgsm": 0.1},
        "num_epsilons": 3,
        "baseline_seeds": [1],
    },
}


def space_of(folder: Path, warm_starts: list[tuple[float, int]], **tuning: Any) -> Path:
    """A space file whose trials are its warm starts: learning rate and epochs; with seed 0."""
    search: dict[str, Any] = {
        RATE: {"type": "float", "low": BAD, "high": 0.5, "log": True},
        "training.epochs": {"type": "int", "low": 2, "high": 60},
    }
    starts = [{RATE: rate, "training.epochs": epochs} for rate, epochs in warm_starts]
    if "num_seeds" not in tuning:
        search["seed"] = {"type": "int", "low": 0, "high": 1}
        starts = [{**values, "seed": 0} for values in starts]
    content = {
        "name": "space",
        "trial": TRIAL,
        "search": search,
        "objectives": ["clean_accuracy", "robust_accuracy"],
        "constraints": ["clean_accuracy >= 0.2"],
        "tuning": {"num_trials": len(starts), "warm_starts": starts, **tuning},
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def begin(folder: Path, name: str, space: Path, *flags: str) -> subprocess.Popen[str]:
    flags = ("--space", str(space), "--output", str(folder), "--name", name, *flags)
    return start("tuner.run", "--max-concurrent", "1", *flags)


def search(folder: Path, name: str, space: Path, *flags: str) -> Search:
    return finished(begin(folder, name, space, *flags), folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and reference networks of all searches here."""
    return tmp_path_factory.mktemp("stopping")


STARTS: list[tuple[float, int]] = [(GOOD, 4), (BAD, 4), (GOOD, 2), (BAD, 3), (GOOD, 4)]
RULE = {"type": "asha", "metric": "clean_accuracy", "reduction_factor": 2}


@pytest.fixture(scope="module")
def stopped(folder: Path, cluster: list[str]) -> Search:
    """ASHA with a rung on the last epoch, which is searched; the same trial first and last."""
    space = space_of(folder, STARTS, early_stopping=RULE)
    found = search(folder, "stopped", space, *cluster)
    assert found.code == 0, found.errors
    return found


def figures_without_a_rule(found: Search, number: int) -> dict[str, Any]:
    space = found.space
    config = space.trial_config(space.decode(found.study.trials[number].params))
    folder, data = found.folder.parent / "baselines", load_task(config.task)
    return run_experiment(config, BaselineCache(folder, data, torch.device("cpu"))).columns


def test_stopped_trials_are_pruned_without_values(stopped: Search) -> None:
    assert stopped.states == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]
    trials = stopped.study.trials
    assert [trial.values is None for trial in trials] == [False, True, False, True, False]
    assert {1, 3}.isdisjoint(trial.number for trial in stopped.study.best_trials)


def test_row_of_a_stopped_trial_says_why_and_has_no_figures(stopped: Search) -> None:
    row = stopped.row(1)
    assert (row["status"], row[RATE]) == ("pruned", BAD)
    assert row["reason"].startswith("stopped after 1 of 4 epochs")
    assert row["validation.clean_accuracy"] is None
    assert row["feasible"] is None
    names = {path.name for path in (stopped.folder / "checkpoints").rglob("*") if path.is_file()}
    assert names == {"weights.pt"}
    assert_all_tables_readable(stopped)


def test_epochs_of_stopped_trials_are_in_the_table(stopped: Search) -> None:
    epochs = stopped.table("epochs")
    counts = epochs[epochs["role"] == "trial"].groupby("trial")["epoch"].apply(list)
    assert counts.to_dict() == {0: [0, 1, 2, 3], 1: [0], 2: [0, 1], 3: [0], 4: [0, 1, 2, 3]}


@pytest.mark.parametrize("number", [0, 2])
def test_full_trial_has_the_figures_that_it_has_without_a_rule(
    number: int, stopped: Search
) -> None:
    row, alone = stopped.row(number), figures_without_a_rule(stopped, number)
    assert {name for name, value in alone.items() if row[name] != value} <= CLOCK_COLUMNS


def test_worker_that_goes_on_after_a_stop_starts_afresh(stopped: Search) -> None:
    first, last = stopped.row(0), stopped.row(4)
    assert {name for name in first if first[name] != last[name]} <= {*CLOCK_COLUMNS, "trial"}


def test_trial_that_misses_the_constraint_is_infeasible_everywhere(
    stopped: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs are not enough for an accuracy of 0.2, four are."""
    feasible = [stopped.row(number)["feasible"] for number in range(5)]
    assert feasible == [True, None, False, None, True]
    assert {trial.number for trial in stopped.study.best_trials} == {0, 4}
    (missed,) = stopped.study.trials[2].constraints.values()
    assert missed == pytest.approx(0.2 - stopped.row(2)["validation.clean_accuracy"])
    assert draw_pareto([str(stopped.folder), "--out", str(tmp_path)]) == 0
    assert "3 complete (1 of them miss the constraints), 2 pruned" in capsys.readouterr().out
    table = pd.read_csv(next(tmp_path.glob("*.csv"))).set_index("trial")
    assert not table.loc[2, ["feasible", "on_front"]].to_numpy().any()


@pytest.mark.long
def test_killed_trial_goes_on_under_a_rule_that_is_told_of_its_epochs(folder: Path) -> None:
    space = space_of(folder, [(GOOD, 30), (BAD, 4)], early_stopping=RULE)
    memory = folder / "killed" / "checkpoints" / "00000" / "epoch_metrics.json"

    def has_epochs() -> bool:
        return memory.exists() and len(json.loads(memory.read_text())) > 5

    killed(folder, "killed", space, has_epochs)
    assert memory.with_name("state.pt").exists()
    found = resume(folder / "killed", "--max-concurrent", "1")
    assert found.code == 0, found.errors
    epochs = found.table("epochs")
    assert [*epochs.loc[epochs["trial"] == 0, "epoch"]] == [*range(30)]
    assert found.states == ["COMPLETE", "PRUNED"]
    assert found.row(1)["reason"].startswith("stopped after 1 of 4 epochs")
    assert not memory.exists()


# several seeds


@pytest.fixture(scope="module")
def several(folder: Path, cluster: list[str]) -> Search:
    """Two trials of two networks, two at once."""
    space = space_of(folder, [(GOOD, 2), (0.05, 3)], num_seeds=2)
    flags = ["--max-concurrent", "2", "--cpus-per-trial", "0.5", *cluster]
    found = search(folder, "several", space, *flags)
    assert found.code == 0, found.errors
    return found


def test_study_and_trials_have_the_mean_of_the_networks(several: Search) -> None:
    seeds = several.table("seeds")
    assert [*zip(seeds["trial"], seeds["seed"], strict=True)] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    for trial in several.study.trials:
        row, own = several.row(trial.number), seeds[seeds["trial"] == trial.number]
        assert row["num_seeds"] == 2
        for value, name in zip(trial.values, several.space.objectives, strict=True):
            assert value == row[f"validation.{name}"]
            assert value == pytest.approx(own[f"validation.{name}"].mean())


def test_first_network_is_that_of_the_configuration_itself(several: Search) -> None:
    row, alone = several.rows("seeds")[0], figures_without_a_rule(several, 0)
    assert {name for name, value in alone.items() if row[name] != value} <= CLOCK_COLUMNS


def test_curves_and_epochs_have_every_network(several: Search) -> None:
    for table in ("curves", "epochs"):
        rows = several.table(table)
        networks = rows[rows["role"] == "trial"].drop_duplicates(["trial", "seed"])
        assert [*zip(networks["trial"], networks["seed"], strict=True)] == [
            (0, 0), (0, 1), (1, 2), (1, 3),
        ]  # fmt: skip


@pytest.mark.long
def test_killed_trial_trains_the_missing_networks_alone(folder: Path) -> None:
    space = space_of(folder, [(GOOD, 30)], num_seeds=2)
    home = folder / "halves" / "checkpoints" / "00000"
    killed(folder, "halves", space, lambda: (home / "seed-1" / "state.pt").exists())
    assert (home / "seed-0" / "record.json").exists()
    written = (home / "seed-0" / "weights.pt").stat().st_mtime_ns
    found = resume(folder / "halves", "--max-concurrent", "1")
    assert found.code == 0, found.errors
    assert (home / "seed-0" / "weights.pt").stat().st_mtime_ns == written
    assert [row["seed"] for row in found.rows("seeds")] == [0, 1]
    assert {path.name for path in home.rglob("*") if path.is_file()} == {"weights.pt"}


def killed(folder: Path, name: str, space: Path, moment: Callable[[], bool]) -> None:
    process = begin(folder, name, space)
    try:
        wait_until(moment, process)
    finally:
        kill(process)
