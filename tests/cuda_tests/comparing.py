"""Training on a device, and how far two results are from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from simreg_core.training.state import EpochRecord, TrainingState

CPU = torch.device("cpu")
MakeConfig = Callable[..., TrialConfig]


def begin(config: TrialConfig, data: TaskData, device: torch.device) -> TrainingState:
    """The state of a training on a device, before its first epoch."""
    return start(config, data.to(device), device)


def epochs_of(
    state: TrainingState, config: TrialConfig, data: TaskData, number: int | None = None
) -> list[EpochRecord]:
    """Train on the state's device for a number of epochs, or to the end."""
    device = next(state.model.parameters()).device
    epochs: Iterator[EpochRecord] = fit(state, data.to(device), config.training, seed=config.seed)
    return list(islice(epochs, number))


def trained(config: TrialConfig, data: TaskData, device: torch.device) -> TrainingState:
    """A training from its start to its end."""
    state = begin(config, data, device)
    epochs_of(state, config, data)
    return state


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """Weights, statistics, gamma's logits and momentum, on the CPU."""
    found = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    if state.regularizer is not None:
        own = state.regularizer.state_dict()
        found |= {f"regularizer.{name}": value for name, value in own.items()}
    for number, content in state.optimizer.state_dict()["state"].items():
        found[f"momentum.{number}"] = content["momentum_buffer"]
    found |= {f"kept.{name}": value for name, value in state.kept_weights.items()}
    return {name: value.detach().cpu() for name, value in found.items()}


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference as a share of the norm of what was expected."""
    a, b = (tensor.detach().cpu().double() for tensor in (found, expected))
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def assert_near(found: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """The :func:`distance` is at most ``tolerance``."""
    off = distance(found, expected)
    assert off <= tolerance, f"{what}: off by {off:.3g}, allowed {tolerance:g}"


def weight_distance(one: TrainingState, other: TrainingState) -> float:
    """:func:`distance` of all weights of two networks, as one vector."""
    a, b = (
        torch.cat([value.detach().flatten() for value in state.model.parameters()])
        for state in (one, other)
    )
    return distance(a, b)


def without_seconds(records: Iterable[EpochRecord]) -> list[EpochRecord]:
    return [record._replace(seconds=0.0) for record in records]


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    """Two trainings have the same tensors and records, bit for bit."""
    a, b = tensors_of(found), tensors_of(expected)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert without_seconds(found.records) == without_seconds(expected.records)
    assert (found.kept_epoch, found.kept_loss) == (expected.kept_epoch, expected.kept_loss)
