from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.registry import METRICS
from simreg_core.results.schema import SPLITS
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import run_experiment
from tuner.execution.records import (
    joined_record,
    logged_values,
    mean_record,
    trial_record,
)

WEIGHT = 2.0


@pytest.fixture(scope="session")
def records(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., TrialConfig]
) -> list[dict[str, Any]]:
    changes = {"robustness.tradeoff_weight": WEIGHT, "model.blocks": [1], "training.epochs": 1}
    configs = [tiny_config({**changes, "seed": seed}) for seed in (0, 1, 2)]
    folder, data = tmp_path_factory.mktemp("cache"), load_task(configs[0].task)
    cache = BaselineCache(folder, data, torch.device("cpu"))
    return [trial_record(run_experiment(config, cache), 7) for config in configs]


def columns(records: list[dict[str, Any]], name: str) -> list[Any]:
    return [record["columns"].get(name) for record in records]


@pytest.mark.parametrize("split", SPLITS)
def test_metrics_are_means_over_the_networks(split: str, records: list[dict[str, Any]]) -> None:
    found = mean_record(records)["columns"]
    attacks = [f"robust_accuracy.{attack}" for attack in ("gaussian", "transfer_fgsm")]
    names = [*METRICS.own, *attacks]
    measured = [name for name in names if columns(records, f"{split}.{name}")[0] is not None]
    assert len(measured) >= 7
    for name in measured:
        if name != "tradeoff_ratio":
            expected = np.mean(columns(records, f"{split}.{name}"))
            assert found[f"{split}.{name}"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_score_and_ratio_are_those_of_the_mean_accuracies(
    split: str, records: list[dict[str, Any]]
) -> None:
    """From the pooled counts of images, which all networks have in common."""
    found = mean_record(records)["columns"]
    curves = mean_record(records)["curves"]

    def accuracy(attack: str, epsilon: float) -> float:
        rows = [r for r in curves if (r["split"], r["attack"], r["epsilon"]) ==
                (split, attack, epsilon)]  # fmt: skip
        assert [row["seed"] for row in rows] == [0, 1, 2]
        correct = sum(round(row["accuracy"] * row["num_images"]) for row in rows)
        return float(correct / sum(row["num_images"] for row in rows))

    clean = accuracy("gaussian", 0.0)
    robust = (accuracy("gaussian", 0.4) + accuracy("transfer_fgsm", 0.15)) / 2
    cost = found[f"{split}.baseline_clean_accuracy"] - clean
    gain = robust - found[f"{split}.baseline_robust_accuracy"]
    assert found[f"{split}.clean_accuracy"] == pytest.approx(clean)
    assert found[f"{split}.robust_accuracy"] == pytest.approx(robust)
    assert found[f"{split}.tradeoff_score"] == pytest.approx(gain - WEIGHT * cost)
    ratio = found[f"{split}.tradeoff_ratio"]
    assert ratio == (pytest.approx(cost / gain) if cost > 0 and gain > 0 else None)


@pytest.mark.parametrize(
    ("costs", "gains", "expected"),
    [
        ((0.1, 0.3), (0.2, 0.6), 0.5),
        ((-0.1, 0.3), (0.2, 0.6), 0.25),
        ((-0.3, 0.1), (0.2, 0.6), None),
    ],
    ids=["both positive", "one negative", "negative in the mean"],
)
def test_ratio_is_of_the_mean_cost_and_gain_and_no_mean_of_ratios(
    costs: tuple[float, ...],
    gains: tuple[float, ...],
    expected: float | None,
    records: list[dict[str, Any]],
) -> None:
    changed = [
        {**record, "columns": {**record["columns"], "validation.accuracy_cost": cost,
                               "validation.robustness_gain": gain}}
        for record, cost, gain in zip(records, costs, gains, strict=False)
    ]  # fmt: skip
    found = mean_record(changed)["columns"]["validation.tradeoff_ratio"]
    assert found == (None if expected is None else pytest.approx(expected))


def test_figure_that_one_network_lacks_has_no_mean(records: list[dict[str, Any]]) -> None:
    lacking = {**records[0]["columns"], "similarity_correlation": None}
    found = mean_record([{**records[0], "columns": lacking}, *records[1:]])
    assert found["columns"]["similarity_correlation"] is None


def test_seconds_are_sums_and_times_those_of_the_whole_trial(records: list[dict[str, Any]]) -> None:
    found = mean_record(records)["columns"]
    for name in ("train_seconds", "evaluate_seconds"):
        assert found[name] == pytest.approx(math.fsum(columns(records, name)))
    assert found["started_at"] == columns(records, "started_at")[0]
    assert found["finished_at"] == columns(records, "finished_at")[-1]
    assert found["seed"] == 0
    assert found["kept_epoch"] is None


def test_rows_of_all_networks_are_there_by_seed(records: list[dict[str, Any]]) -> None:
    found = mean_record(records)
    for table in ("curves", "epochs"):
        assert {row["seed"] for row in found[table]} == {0, 1, 2}
        assert len(found[table]) == sum(len(record[table]) for record in records)
    assert found["seeds"] == [record["columns"] for record in records]
    parts = [part["part"] for part in found["baselines"]]
    assert len(parts) == len(set(parts)) == 2


def test_trial_that_is_lost_has_its_networks_and_no_mean(records: list[dict[str, Any]]) -> None:
    found = joined_record([records[0], {"epochs": [{"seed": 1, "epoch": 0}]}, {}])
    assert "columns" not in found
    assert found["seeds"] == [records[0]["columns"]]
    assert {row["seed"] for row in found["epochs"]} == {0, 1}
    assert len(found["baselines"]) == 2


def test_means_of_one_network_are_its_own(records: list[dict[str, Any]]) -> None:
    alone = mean_record(records[:1])["columns"]
    found = {name: value for name, value in alone.items() if value is not None}
    own = {name: value for name, value in records[0]["columns"].items() if value is not None}
    assert found == {name: value for name, value in own.items() if name != "kept_epoch"}


# what reports hold


def epoch(number: int, **values: Any) -> dict[str, Any]:
    identity = {"role": "trial", "trial": 0, "baseline_digest": None, "seed": 3}
    return {**identity, "epoch": number, "task_loss": 1.0 / (number + 1), **values}


def test_loggers_get_the_numbers_of_every_epoch_with_its_metrics() -> None:
    record = {"epochs": [epoch(0, gamma=[0.25, 0.75], similarity_loss=None), epoch(1)]}
    measured = {2: {"clean_accuracy": 0.6}}
    assert logged_values(record, lambda epochs_done: measured.get(epochs_done, {})) == [
        (1, {"task_loss": 1.0, "gamma.0": 0.25, "gamma.1": 0.75}),
        (2, {"task_loss": 0.5, "epoch.clean_accuracy": 0.6}),
    ]


def test_loggers_get_the_metrics_of_both_splits_at_the_end(records: list[dict[str, Any]]) -> None:
    *epochs, (step, final) = logged_values(records[0], lambda epochs_done: {})
    assert [epochs_done for epochs_done, _ in epochs] == [1]
    assert step == 1
    columns = {name: value for name, value in records[0]["columns"].items() if value is not None}
    assert final == {name: columns[name] for name in final}
    own = {f"{split}.{name}" for split in SPLITS for name in METRICS.own}
    assert own & columns.keys() <= final.keys()
    assert "test.robust_accuracy.gaussian" in final
    assert not any("baseline" in name for name in final)
