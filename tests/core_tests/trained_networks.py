"""Training a network in tests, and comparing two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import Classifier
from simreg_core.networks.resnet import ResNet
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from simreg_core.training.state import EpochRecord, TrainingState

CPU = torch.device("cpu")
MakeConfig = Callable[..., TrialConfig]


def epochs_of(config: TrialConfig, state: TrainingState, data: TaskData) -> Iterator[EpochRecord]:
    """``fit`` with a trial's own settings."""
    return fit(state, data, config.training, seed=config.seed)


def as_resnet(model: Classifier) -> ResNet:
    """The network inside, as what it is, for its parts' types."""
    assert isinstance(model.network, ResNet)
    return model.network


def trained(config: TrialConfig, data: TaskData) -> TrainingState:
    state = start(config, data, CPU)
    for _ in epochs_of(config, state, data):
        pass
    return state


def numbers_of(records: Iterable[EpochRecord]) -> list[EpochRecord]:
    """Records of epochs without the seconds that they took."""
    return [record._replace(seconds=0.0) for record in records]


def _flatten(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _flatten(item, f"{place}[{number}]")
    else:
        yield place, value


def snapshot_of(state: TrainingState) -> dict[str, Any]:
    """Everything a state holds, by name, with tensors as lists: equal only if equal bit for bit."""
    content = {
        "model": state.model.state_dict(),
        "regularizer": {} if state.regularizer is None else state.regularizer.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "records": numbers_of(state.records),
        "kept": [state.kept_epoch, state.kept_loss, state.kept_weights],
    }
    return {
        place: value.tolist() if isinstance(value, Tensor) else value
        for place, value in _flatten(content)
    }


def weights_of(state: TrainingState) -> dict[str, list[Any]]:
    return {name: value.tolist() for name, value in state.model.state_dict().items()}
