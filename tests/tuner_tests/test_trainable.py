from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simreg_core.config_io import reason_of
from tuner.trainable import WorkerSettings, prepare_worker


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
