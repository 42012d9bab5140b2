"""bf16 as a setting of training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simreg_core.data.task import TaskData
from simreg_core.training.start import start
from tests.core_tests.trained_networks import (
    CPU,
    MakeConfig,
    as_resnet,
    epochs_of,
    trained,
    weights_of,
)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_network_is_trained_in_its_precision_and_evaluated_in_float32(
    precision: str, dtype: torch.dtype, tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    config = tiny_config({"training.precision": precision, "training.epochs": 1})
    state = start(config, tiny_data, CPU)
    types: dict[str, set[torch.dtype]] = {"training": set(), "evaluation": set()}

    def note(module: nn.Module, _: object, result: Tensor) -> None:
        types["training" if module.training else "evaluation"].add(result.dtype)

    as_resnet(state.model).stem[0].register_forward_hook(note)
    list(epochs_of(config, state, tiny_data))
    assert types == {"training": {dtype}, "evaluation": {torch.float32}}


def test_similarities_of_bf16_features_are_as_exact_as_their_inputs(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    config = tiny_config({"regularizer.alpha": 0.1})
    regularizer = start(config, tiny_data, CPU).regularizer
    assert regularizer is not None
    similarity = regularizer.feature_similarity.eval()
    rng = torch.Generator().manual_seed(0)
    shapes = [(8, width, 5, 5) for width in (4, 4, 8)]
    rounded = [torch.randn(shape, generator=rng).bfloat16() for shape in shapes]
    found = similarity(rounded)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, similarity([part.float() for part in rounded]))


def test_bf16_learns_as_float32_does(tiny_config: MakeConfig, tiny_data: TaskData) -> None:
    changes = {"training.epochs": 6, "regularizer.alpha": 0.01}
    exact, rough = (
        trained(tiny_config({**changes, "training.precision": precision}), tiny_data)
        for precision in ("float32", "bf16")
    )
    assert weights_of(exact) != weights_of(rough)
    for state in (exact, rough):
        assert state.records[-1].train_accuracy > state.records[0].train_accuracy + 0.2
        assert all(weight.dtype == torch.float32 for weight in state.model.parameters())
    # One seed's rounding moves losses by a few per cent, not by a factor.
    assert rough.records[-1].task_loss == pytest.approx(exact.records[-1].task_loss, rel=0.5)
