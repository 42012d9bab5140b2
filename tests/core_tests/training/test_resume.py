from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.checkpoint import CheckpointError, save
from simreg_core.training.start import start
from tests.core_tests.trained_networks import epochs_of, snapshot_of, trained

CPU = torch.device("cpu")
MakeConfig = Callable[..., TrialConfig]

# Resuming


@pytest.fixture
def full(tiny_config: MakeConfig) -> TrialConfig:
    """A run that uses every part of the state."""
    return tiny_config(
        {
            "training.epochs": 4,
            "training.batch_size": 50,
            "training.learning_rate": 0.3,
            "training.schedule": {"unit": "epochs", "step": 1, "restart": 3, "factor": 0.5},
            "training.augmentation": {"crop_padding": 1, "horizontal_flip": True},
            "regularizer.alpha": 1,
            "regularizer.shuffle_targets": True,
        }
    )


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop_after: int, keep: str, full: TrialConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    config = full.model_copy(update={"training": full.training.model_copy(update={"keep": keep})})
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


def test_plain_run_resumes_bit_for_bit(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    config = tiny_config({"regularizer.alpha": 0})
    interrupted = start(config, tiny_data, CPU)
    next(epochs_of(config, interrupted, tiny_data))
    interrupted.save(tmp_path / "state.pt", config.digest())
    resumed = start(config, tiny_data, CPU)
    resumed.restore(tmp_path / "state.pt", config.digest())
    list(epochs_of(config, resumed, tiny_data))
    assert snapshot_of(resumed) == snapshot_of(trained(config, tiny_data))


@pytest.mark.parametrize("is_state", [True, False])
def test_checkpoint_of_something_else_is_refused(
    is_state: bool, tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    path, other = tmp_path / "state.pt", tiny_config({"training.learning_rate": 0.2})
    if is_state:
        start(other, tiny_data, CPU).save(path, other.digest())
    else:
        save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"state\.pt belongs to another configuration"):
        start(tiny_config(), tiny_data, CPU).restore(path, tiny_config().digest())
