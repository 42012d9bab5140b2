"""Public functions take a path or its text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simreg_core import TrialConfig, load_exported, load_weights, run_experiment
from simreg_core.config.loading import load_trial_config
from simreg_core.data.task import TaskData
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import save_weights
from simreg_core.networks.export import write_network
from simreg_core.results.progress import study_progress
from simreg_core.results.tables import ResultStore, read_table
from simreg_core.storage.location import to_path
from simreg_core.training.baselines import BaselineCache
from tests.core_tests.trained_networks import CPU, MakeConfig


def test_network_is_trained_saved_and_loaded_by_text(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    config, cache = tiny_config(), BaselineCache(str(tmp_path / "cache"), tiny_data, CPU)
    result = run_experiment(config, cache, checkpoint=str(tmp_path / "state.pt"))
    save_weights(str(tmp_path / "weights.pt"), config, result.model)
    (tmp_path / "exported").mkdir()
    write_network(str(tmp_path / "exported"), config, result.model)
    images = tiny_data.test.images[:2].float() / 255
    for model in (
        load_weights(str(tmp_path / "weights.pt")),
        load_exported(str(tmp_path / "exported")),
    ):
        with torch.no_grad():
            assert torch.equal(model(images), result.model(images))


def test_files_and_results_are_read_by_text(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text("task: {dataset: digits}\nseed: 7\n")
    assert isinstance(load_trial_config(str(tmp_path / "trial.yaml")), TrialConfig)
    store = ResultStore(str(tmp_path))
    store.create()
    assert store.folder == tmp_path
    assert read_table(str(tmp_path), "trials").num_rows == 0
    assert study_progress(str(tmp_path)).state == "unknown"


def test_text_of_a_location_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    assert to_path(tmp_path) is tmp_path
    assert to_path("a/b") == Path("a/b")
    with pytest.raises(ConfigError, match="expected a folder"):
        to_path("ftp://host/a")
