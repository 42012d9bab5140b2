from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from simreg_core.data.task import TaskData
from simreg_core.training.start import start
from tests.core_tests.trained_networks import CPU, MakeConfig, epochs_of, snapshot_of, trained

FULL: dict[str, Any] = {  # uses every part of the state
    "training.epochs": 4,
    "training.batch_size": 50,
    "training.learning_rate": 0.3,
    "training.schedule": {"unit": "epochs", "step": 1, "restart": 3, "factor": 0.5},
    "training.augmentation": {"crop_padding": 1, "horizontal_flip": True},
    "regularizer.shuffle_targets": True,
}


@pytest.mark.parametrize(
    ("stop_after", "keep", "alpha"),
    [*itertools.product([1, 2, 3, 4], ["best", "last"], [1]), (1, "best", 0)],
)
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop_after: int,
    keep: str,
    alpha: float,
    tiny_config: MakeConfig,
    tiny_data: TaskData,
    tmp_path: Path,
) -> None:
    config = tiny_config({**FULL, "training.keep": keep, "regularizer.alpha": alpha})
    interrupted = start(config, tiny_data, CPU)
    for record in epochs_of(config, interrupted, tiny_data):
        if record.epoch + 1 == stop_after:
            break
    interrupted.save(tmp_path / "state.pt", config.digest())

    resumed = start(config, tiny_data, CPU)
    resumed.restore(tmp_path / "state.pt", config.digest())
    assert snapshot_of(resumed) == snapshot_of(interrupted)
    epochs = [record.epoch for record in epochs_of(config, resumed, tiny_data)]
    assert epochs == list(range(stop_after, 4))
    assert snapshot_of(resumed) == snapshot_of(trained(config, tiny_data))
