from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from tests.object_stores import bucket, make_bucket, s3_server
from tuner.execution.worker import WorkerSettings, prepare_worker, remove_open_files, train

__all__ = ["bucket", "make_bucket", "s3_server"]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_worker_computes_with_the_threads_that_it_is_given(
    num_threads: int, tmp_path: Path
) -> None:
    device = prepare_worker(WorkerSettings(tmp_path, tmp_path, "cpu", num_threads))
    assert torch.get_num_threads() == num_threads
    assert device == torch.device("cpu")


def test_damaged_surrogate_is_trained_again_and_so_is_a_damaged_state(
    tiny_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    settings = WorkerSettings(tmp_path, tmp_path / "cache", "cpu", 1)
    config, device = tiny_config(), torch.device("cpu")
    state = tmp_path / "state.pt"
    before = train(config, state, settings, device)
    content = state.read_bytes()
    (surrogate,) = (p for p in settings.cache.glob("surrogate-*.pt") if "fgsm" not in p.name)
    whole = surrogate.read_bytes()
    surrogate.write_bytes(b"damaged")
    assert train(config, state, settings, device).columns.keys() == before.columns.keys()
    assert surrogate.read_bytes() == whole
    assert state.read_bytes() == content
    state.write_bytes(content[:100])
    assert len(train(config, state, settings, device).epochs) == config.training.epochs


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_open_files_of_trials_that_have_ended_are_removed_and_no_others(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path if kind == "disk" else request.getfixturevalue("bucket")
    kept = {"00000/weights.pt", "00002/state.pt", "00002/record.json", "confirmation-1/state.pt"}
    if kind == "disk":  # in a store, nothing is left of a write that was killed
        kept.add("00002/.weights.pt.01234567.tmp")
    gone = {
        "00000/state.pt",
        "00000/epoch_metrics.json",
        "00000/.weights.pt.01234567.tmp",
        "00001/seed-5/record.json",
        "00001/seed-6/state.pt",
    }
    for name in kept | gone:
        path = folder / "checkpoints" / name
        if kind == "disk":
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    remove_open_files(folder, {0, 1})
    left = {
        str(path.relative_to(folder / "checkpoints"))
        for path in (folder / "checkpoints").rglob("*")
        if path.is_file()
    }
    assert {name for name in left} == kept if kind == "disk" else len(left) == len(kept)
    remove_open_files(folder / "absent", {0, 1})
