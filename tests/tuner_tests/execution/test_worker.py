from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import reason_of
from simreg_core.networks.checkpoint import CheckpointError
from tuner.execution.worker import WorkerSettings, prepare_worker, train


def test_reason_is_kind_and_message_in_one_line() -> None:
    err = ValueError("a first line\n  and   a second")
    assert reason_of(err) == "ValueError: a first line and a second"


@pytest.mark.parametrize("num_threads", [1, 2])
def test_worker_computes_with_the_threads_that_it_is_given(
    num_threads: int, tmp_path: Path
) -> None:
    device = prepare_worker(WorkerSettings(tmp_path, tmp_path, "cpu", num_threads))
    assert torch.get_num_threads() == num_threads
    assert device == torch.device("cpu")


def test_state_is_kept_where_a_baseline_network_is_what_is_damaged(
    tiny_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    settings = WorkerSettings(tmp_path, tmp_path / "cache", "cpu", 1)
    config, device = tiny_config(), torch.device("cpu")
    state = tmp_path / "state.pt"
    train(config, state, settings, device)
    content = state.read_bytes()
    (surrogate,) = (p for p in settings.cache.glob("surrogate-*.pt") if "fgsm" not in p.name)
    surrogate.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"surrogate.* is damaged"):
        train(config, state, settings, device)
    assert state.read_bytes() == content
    surrogate.unlink()
    state.write_bytes(content[:100])
    assert len(train(config, state, settings, device).epochs) == config.training.epochs
