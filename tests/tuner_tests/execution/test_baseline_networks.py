from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simreg_core.config.trial import TrialConfig
from tuner.execution.baseline_networks import SearchFailed, train_baselines
from tuner.execution.ray_session import Resources
from tuner.execution.worker import WorkerSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], int]]:
    """Trains the baselines of a configuration; returns records and the number of calls back."""

    def run(config: TrialConfig) -> tuple[list[dict[str, Any]], int]:
        done: list[None] = []
        records = train_baselines(
            config,
            WorkerSettings(tmp_path, tmp_path / "baselines", "cpu", 1),
            Resources(cpus=1.0, gpus=0.0, max_concurrent=2),
            lambda: done.append(None),
        )
        return records, len(done)

    return run


def test_every_baseline_has_a_record_and_the_surrogate_is_one(
    train: Callable[..., tuple[list[dict[str, Any]], int]],
    tiny_config: Callable[..., TrialConfig],
    tmp_path: Path,
) -> None:
    records, num_done = train(tiny_config({"robustness.baseline_seeds": [5, 3]}))
    assert num_done == 3
    named = [(row["role"], row["seed"]) for row in (record["epochs"][0] for record in records)]
    assert sorted(named) == [("baseline", 3), ("baseline", 5), ("surrogate", 0)]
    for record in records:
        assert {point["split"] for point in record["curves"]} == {"validation", "test"}
        assert [row["epoch"] for row in record["epochs"]] == [0, 1]
        assert len({row["baseline_digest"] for row in record["epochs"]}) == 1
    assert len({record["part"] for record in records}) == 3
    trained, evaluated = (
        [path.stat().st_mtime_ns for path in tmp_path.glob(f"baselines/*.{kind}.json")]
        for kind in ("epochs", "curves")
    )
    assert len(trained) == len(evaluated) == 3
    assert max(trained) < min(evaluated)  # every network is attacked by the others


def test_baseline_that_diverges_ends_the_search_with_its_reason(
    train: Callable[..., tuple[list[dict[str, Any]], int]], tiny_config: Callable[..., TrialConfig]
) -> None:
    config = tiny_config({"training.learning_rate": 1.0e30})
    with pytest.raises(
        SearchFailed,
        match=r"^baseline network \((surrogate|baseline, seed 1)\) failed: task loss nan ",
    ):
        train(config)
