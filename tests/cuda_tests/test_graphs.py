"""CUDA graphs against eager steps. Without CUDA, everything here runs eagerly."""

from __future__ import annotations

import copy
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simreg_core.config.robustness import BoundaryConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.robustness.boundary import minimal_perturbations
from simreg_core.seeding import generator
from simreg_core.training.state import TrainingState
from tests.cuda_tests.comparing import (
    MakeConfig,
    assert_same,
    begin,
    epochs_of,
    trained,
    weight_distance,
)

pytestmark = pytest.mark.cuda

CASES: dict[str, dict[str, Any]] = {
    "regularized": {},
    "plain": {"regularizer.alpha": 0},
    "bf16": {"training.precision": "bf16"},
    "rare-pairs": {"regularizer.pairs": "high"},
    "v1-gabor": {"regularizer.target": "v1_gabor"},
    "no-momentum": {"training.momentum": 0},
    "two-steps-an-epoch": {"training.batch_size": 128},
}


def both(config: TrialConfig) -> tuple[TrialConfig, TrialConfig]:
    """The configuration with CUDA graphs, and without."""
    return config, eager(config)


def eager(config: TrialConfig) -> TrialConfig:
    training = config.training.model_copy(update={"cuda_graph": "off"})
    return config.model_copy(update={"training": training})


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_graph_is_eager_training_bit_for_bit(
    changes: dict[str, Any],
    make_config: MakeConfig,
    data: TaskData,
    device: torch.device,
    is_cuda: bool,
) -> None:
    """Over epochs with another learning rate each, and with an odd last batch."""
    config = make_config({"model.base_channels": 16, **changes})
    assert len({record.learning_rate for record in trained(config, data, device).records}) == 3
    found, expected = (trained(choice, data, device) for choice in both(config))
    assert (found.uses_cuda_graph, expected.uses_cuda_graph) == (is_cuda, False)
    assert_same(found, expected)


def test_graph_differs_no_more_than_eager_trainings_do(
    make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    """With the algorithms that torch chooses by itself, which may sum in any order."""
    config = make_config()
    eagers = [trained(eager(config), data, device) for _ in range(4)]
    largest = max(weight_distance(a, b) for a, b in itertools.combinations(eagers, 2))
    graph = trained(config, data, device)
    smallest = min(weight_distance(graph, other) for other in eagers)
    assert smallest <= 2 * largest + 1e-6, f"{smallest:.3g}, eager {largest:.3g}"


class _Waits(nn.Module):
    """Reads a number from the device in every forward pass, which no graph can hold."""

    def forward(self, features: Tensor) -> Tensor:
        assert features.sum().item() >= 0  # after a ReLU
        return features


def make_wait(state: TrainingState) -> TrainingState:
    state.model.get_submodule("network.stem").append(_Waits())  # type: ignore[operator]
    return state


def test_failed_capture_falls_back(
    make_config: MakeConfig,
    data: TaskData,
    device: torch.device,
    is_cuda: bool,
    deterministic: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Afterwards random numbers, attacks and another capture work in the same process."""
    config = make_config()
    expected = trained(eager(config), data, device)
    for _ in range(2):
        caplog.clear()
        state = make_wait(begin(config, data, device))
        with caplog.at_level(logging.WARNING):
            epochs_of(state, config, data)
        warnings = [r for r in caplog.records if r.name == "simreg_core.training.graph"]
        assert len(warnings) == is_cuda
        assert not state.uses_cuda_graph
        assert_same(state, expected)

        assert torch.rand(1000, device=device).std() > 0.1
        on_device = data.to(device)
        images = on_device.test.images[:40].to(torch.float32) / 255
        found = minimal_perturbations(
            copy.deepcopy(state.model),
            images,
            on_device.test.labels[:40],
            BoundaryConfig(steps=5, repeats=1),
            generator(0, "boundary"),
        )
        assert bool(found.squared_distance.isfinite().any())

        again = trained(config, data, device)
        assert again.uses_cuda_graph == is_cuda
        assert_same(again, expected)


def test_failed_captures_keep_little_memory(
    make_config: MakeConfig, data: TaskData, device: torch.device, only_cuda: None
) -> None:
    config = make_config({"training.epochs": 1})
    held = []
    for _ in range(5):
        epochs_of(make_wait(begin(config, data, device)), config, data)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    per_capture = (held[-1] - held[0]) / 4
    assert per_capture < 20e6, f"{per_capture / 1e6:.0f} MB each"


def test_successful_captures_keep_no_memory(
    make_config: MakeConfig, data: TaskData, device: torch.device, only_cuda: None
) -> None:
    config = make_config({"training.epochs": 1})
    held = []
    for _ in range(5):
        trained(config, data, device)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_allocated())
    assert held[-1] - held[0] < 1e6


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("changes", [{}, {"regularizer.alpha": 0}], ids=["regularized", "plain"])
def test_trainings_in_two_threads_are_those_of_one(
    changes: dict[str, Any],
    make_config: MakeConfig,
    data: TaskData,
    device: torch.device,
    is_cuda: bool,
) -> None:
    configs = [make_config({**changes, "seed": seed}) for seed in (1, 2)]
    expected = [trained(config, data, device) for config in configs]
    # One after another: layers are initialised from the global generator, which threads share.
    found = [begin(config, data, device) for config in configs]
    together = Barrier(2)

    def train(state: TrainingState, config: TrialConfig) -> None:
        together.wait(60)
        epochs_of(state, config, data)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(train, found, configs))
    for state, alone in zip(found, expected, strict=True):
        assert state.uses_cuda_graph == alone.uses_cuda_graph == is_cuda
        assert_same(state, alone)
