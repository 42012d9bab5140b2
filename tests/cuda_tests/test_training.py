"""Training and its checkpoints: a GPU against the CPU, and against itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simreg_core.data.task import TaskData
from simreg_core.training.checkpoints import fit_with_checkpoints
from simreg_core.training.state import TrainingState
from simreg_core.training.steps import Draws, draw_epoch, train_step
from tests.cuda_tests.comparing import (
    CPU,
    MakeConfig,
    assert_near,
    assert_same,
    begin,
    epochs_of,
    tensors_of,
    trained,
    weight_distance,
    without_seconds,
)

pytestmark = pytest.mark.cuda

# After an epoch on a CPU from weights changed by 2e-7: 1e-4, 3e-3 and 5e-2 without a regularizer,
# because rounding turns single units on or off.
WEIGHTS, STATISTICS, MOMENTUM = 2e-3, 1e-2, 0.2


def _part(name: str) -> str:
    if name.startswith("momentum"):
        return "momentum"
    return "statistics" if "running_" in name or ".mean" in name else "weights"


def joined(state: TrainingState, part: str) -> Tensor:
    """All weights, batch-normalisation statistics and running means, or momentum, as one vector."""
    found = [value.flatten() for name, value in tensors_of(state).items() if _part(name) == part]
    return torch.cat([value for value in found if value.is_floating_point()])


@pytest.mark.parametrize("alpha", [0, 0.1], ids=["plain", "regularized"])
def test_epoch_on_the_device_is_that_on_the_cpu(
    alpha: float, make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    config = make_config({"regularizer.alpha": alpha, "training.epochs": 1})
    found, expected = (trained(config, data, place) for place in (device, CPU))
    assert next(found.model.parameters()).device.type == device.type
    parts = {"weights": WEIGHTS, "statistics": STATISTICS, "momentum": MOMENTUM}
    for part, allowed in parts.items():
        assert_near(joined(found, part), joined(expected, part), allowed, part)
    (own,), (other,) = found.records, expected.records
    for field in ("task_loss", "validation_loss", "similarity_loss"):
        a, b = getattr(own, field), getattr(other, field)
        assert a == (b if b is None else pytest.approx(b, rel=0.01)), field
    assert own.train_accuracy == pytest.approx(other.train_accuracy, abs=2 / 300)
    assert own.positive_share == other.positive_share


def test_bf16_learns_as_float32(
    make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    exact, rough = (
        trained(make_config({"training.precision": precision}), data, device)
        for precision in ("float32", "bf16")
    )
    assert 0 < weight_distance(rough, exact) < 0.2
    for a, b in zip(rough.records, exact.records, strict=True):
        assert a.task_loss == pytest.approx(b.task_loss, rel=0.1)
        assert a.similarity_loss == pytest.approx(b.similarity_loss, rel=0.3)
    assert all(value.dtype == torch.float32 for value in rough.model.parameters())


@pytest.mark.usefixtures("only_cuda")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("alpha", [0, 0.1], ids=["plain", "regularized"])
def test_step_does_not_wait_for_the_device(
    alpha: float, precision: str, make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    config = make_config({"regularizer.alpha": alpha, "training.precision": precision})
    state, on_device = begin(config, data, device), data.to(device)
    step = partial(train_step, state, on_device.train, config.training)
    draws = draw_epoch(on_device.train, state.regularizer, config.training, seed=0, epoch=0)[0]
    steps = [Draws(*one) for one in zip(*draws, strict=True)]
    step(steps[0])  # creates momentum and loads kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for one in steps[1:]:
            result = step(one)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(result.task_loss.isfinite())


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"regularizer.alpha": 0}], ids=["regularized", "plain"])
def test_resumed_training_is_the_uninterrupted_one(
    stop_after: int,
    changes: dict[str, Any],
    make_config: MakeConfig,
    data: TaskData,
    device: torch.device,
    tmp_path: Path,
) -> None:
    config = make_config(changes)
    interrupted, resumed = (begin(config, data, device) for _ in range(2))
    epochs_of(interrupted, config, data, stop_after)
    interrupted.save(tmp_path / "state.pt", config.digest())
    resumed.restore(tmp_path / "state.pt", config.digest())
    assert_same(resumed, interrupted)
    assert len(epochs_of(resumed, config, data)) == 4 - stop_after
    assert_same(resumed, trained(config, data, device))


@pytest.mark.usefixtures("deterministic")
def test_checkpoints_in_the_background_hold_their_epoch(
    make_config: MakeConfig, data: TaskData, device: torch.device, tmp_path: Path
) -> None:
    """Training goes on while the file is written; its content is that of its own epoch."""
    config, path = make_config(), tmp_path / "state.pt"
    state, plain, restored = (begin(config, data, device) for _ in range(3))
    fit_with_checkpoints(state, data.to(device), config, path)
    epochs_of(plain, config, data)
    restored.restore(path, config.digest())
    assert_same(state, plain)
    assert_same(restored, plain)


@pytest.mark.parametrize("direction", ["device-to-cpu", "cpu-to-device"])
def test_checkpoint_of_another_device(
    direction: str, make_config: MakeConfig, data: TaskData, device: torch.device, tmp_path: Path
) -> None:
    config = make_config()
    source, target = (device, CPU) if direction == "device-to-cpu" else (CPU, device)
    saved, restored = begin(config, data, source), begin(config, data, target)
    epochs_of(saved, config, data, 2)
    saved.save(tmp_path / "state.pt", config.digest())
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert {value.device.type for value in content["model"].values()} == {"cpu"}

    own = {name: restored.optimizer.param_groups[0][name] for name in ("fused", "lr")}
    restored.restore(tmp_path / "state.pt", config.digest())
    assert_same(restored, saved)
    for tensor in (*restored.model.parameters(), *restored.kept_weights.values()):
        assert tensor.device.type == target.type
    for values in restored.optimizer.state.values():
        assert values["momentum_buffer"].device.type == target.type
    group = restored.optimizer.param_groups[0]
    assert group["fused"] is own["fused"]
    assert type(group["lr"]) is type(own["lr"])
    assert float(group["lr"]) == pytest.approx(0.01)

    for state in (saved, restored):
        epochs_of(state, config, data, 1)
    assert weight_distance(restored, saved) < 5e-3
    assert len(without_seconds(restored.records)) == 3
    assert restored.records[2].task_loss == pytest.approx(saved.records[2].task_loss, rel=0.01)
