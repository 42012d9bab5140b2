from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import vectorised
from benchmarks.timing import make_task
from benchmarks.vectorised import VectorisedTraining, regularizer_of
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.training.graph import GraphSteps
from simreg_core.training.start import start
from simreg_core.training.state import TrainingState
from tests.core_tests.trained_networks import as_resnet, epochs_of

CPU = torch.device("cpu")
OWN = [(0.1, 0.2, 0), (0.3, 0.5, 1), (1.0, 0.05, 2)]  # alpha, Th, seed


def make_config(alpha: float, threshold: float, seed: int, **regularizer: Any) -> TrialConfig:
    changes = {"batch_size": 4, "num_images": 32, **regularizer}
    return TrialConfig.from_dict(
        {
            "task": {"dataset": "cifar10"},
            "model": {"base_channels": 4, "blocks": [1, 1]},
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
            "regularizer": {"alpha": alpha, "threshold": threshold, **changes},
            "seed": seed,
        }
    )


def start_in_single(config: TrialConfig, data: TaskData, device: torch.device) -> TrainingState:
    return start(config, data, device)


def start_in_double(config: TrialConfig, data: TaskData, device: torch.device) -> TrainingState:
    def to_double(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.double() for x in inputs)

    state = start(config, data, device)
    as_resnet(state.model.double()).stem.register_forward_pre_hook(to_double)
    regularizer_of(state).feature_similarity.double()
    return state


def content_of(state: TrainingState) -> dict[str, Tensor]:
    similarity = regularizer_of(state).feature_similarity.state_dict()
    return {
        **{f"model.{name}": value for name, value in state.model.state_dict().items()},
        **{f"feature_similarity.{name}": value for name, value in similarity.items()},
    }


@pytest.mark.parametrize(
    ("start_one", "num_train", "tolerance"),
    [
        # Rounding moves a ReLU to its other side sooner or later: few steps, or many digits.
        pytest.param(start_in_single, 32, 1e-5, id="float32, 4 steps"),
        pytest.param(start_in_double, 60, 1e-8, id="float64, 8 steps"),
    ],
)
def test_stacked_networks_are_trained_as_they_are_alone(
    start_one: Any, num_train: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectorised, "start", start_one)
    data = make_task(None, CPU, train=num_train, validation=20)
    configs = [make_config(*own) for own in OWN]
    stacked = VectorisedTraining(configs, data, CPU)
    measured = [stacked.epoch(number) for number in range(2)]
    alone = []
    for number, config in enumerate(configs):
        state = start_one(config, data, CPU)
        alone.append(content_of(state))
        before = as_resnet(state.model).head.weight.detach().clone()
        for record, (loss, accuracy) in zip(epochs_of(config, state, data), measured, strict=True):
            assert float(loss[number]) == pytest.approx(record.validation_loss, rel=1e-5)
            assert float(accuracy[number]) == pytest.approx(record.validation_accuracy)
        moved = (as_resnet(state.model).head.weight.detach() - before).abs().max()
        assert float(moved) > 100 * tolerance
    together = {**stacked.parameters, **stacked.buffers}
    assert together.keys() == alone[0].keys()
    for name, values in together.items():
        for value, own in zip(values, alone, strict=True):
            torch.testing.assert_close(value.detach(), own[name], rtol=0, atol=tolerance)


def test_a_replayed_step_and_avoiding_cudnn_change_nothing() -> None:
    data = make_task(None, CPU, train=80, validation=20)
    configs = [make_config(*own) for own in OWN[:2]]
    eager, replayed = VectorisedTraining(configs, data, CPU), VectorisedTraining(configs, data, CPU)
    vectorised._avoid_cudnn_in_batch_norm(replayed._template)
    replayed._run_full = GraphSteps(replayed._step, capture=lambda body: body)
    for number in range(2):
        for own, other in zip(eager.epoch(number), replayed.epoch(number), strict=True):
            assert torch.equal(own, other)
    assert replayed._run_full.is_captured
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{}, {"batch_size": 5}], "alpha, Th and seed alone"),
        ([{}, {"alpha": 0.0}], "only regularized trials"),
        ([{"target": "label"}] * 2, "the pixel target"),
        ([{"shuffle_targets": True}] * 2, "the pixel target"),
    ],
    ids=["another k", "not regularized", "label target", "shuffled targets"],
)
def test_other_trials_are_refused(changes: list[dict[str, Any]], message: str) -> None:
    configs = [make_config(**{"alpha": 1.0, "threshold": 0.5, "seed": 0, **own}) for own in changes]
    with pytest.raises(ValueError, match=message):
        VectorisedTraining(configs, make_task(None, CPU, train=40), CPU)
