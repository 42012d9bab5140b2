from __future__ import annotations

import pytest
import torch

from simreg_core.config.trial import ModelConfig
from simreg_core.networks.network import Classifier, build_network, evaluation_mode, freeze


def _build() -> Classifier:
    config = ModelConfig(base_channels=4, blocks=(1,))
    return build_network(config, channels=1, num_classes=2, seed=0)


def test_network_is_built_on_the_cpu_and_frozen_without_training_and_gradients() -> None:
    model = _build()
    assert (model.channels, model.num_classes) == (1, 2)
    assert {parameter.device for parameter in model.parameters()} == {torch.device("cpu")}
    assert freeze(model) is model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("is_training", [True, False])
def test_mode_comes_back_behind_errors_too(is_training: bool) -> None:
    model = _build().train(is_training)

    def fail() -> None:
        assert not model.training
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"), evaluation_mode(model):
        fail()
    assert model.training == is_training
