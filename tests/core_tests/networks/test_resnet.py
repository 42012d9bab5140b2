from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import ModelConfig
from simreg_core.networks.network import Classifier, build_network
from simreg_core.registry import NETWORKS
from simreg_core.seeding import generator
from tests.core_tests.trained_networks import as_resnet


def _model(seed: int = 0, channels: int = 1, **options: Any) -> Classifier:
    config = ModelConfig.model_validate({"base_channels": 4, "blocks": [1, 1], **options})
    return build_network(config, channels=channels, num_classes=7, seed=seed)


def _pixels(batch: int = 3, channels: int = 1, side: int = 12) -> Tensor:
    return torch.rand(batch, channels, side, side, generator=generator(0, "pixels"))


def _num_weights(channels_in: int, width: int, stride: int, expansion: int) -> int:
    """Weights of a basic block, or of a bottleneck if ``expansion`` is 4."""
    out = expansion * width
    shortcut = channels_in * out + 2 * out if stride > 1 or channels_in != out else 0
    if expansion == 1:
        return 9 * channels_in * width + 9 * width * width + 4 * width + shortcut
    return channels_in * width + 9 * width**2 + width * out + 4 * width + 2 * out + shortcut


@pytest.mark.parametrize(
    ("architecture", "blocks", "expansion"),
    [("resnet18", (2, 2, 2, 2), 1), ("resnet34", (3, 4, 6, 3), 1), ("resnet50", (3, 4, 6, 3), 4)],
)
def test_number_of_weights_is_that_of_the_architecture(
    architecture: str, blocks: tuple[int, ...], expansion: int
) -> None:
    model = _model(architecture=architecture, blocks=None, base_channels=8)
    expected, channels_in, width = 49 * 8 + 2 * 8, 8, 8
    for section, num_blocks in enumerate(blocks):
        for block in range(num_blocks):
            stride = 2 if section > 0 and block == 0 else 1
            expected += _num_weights(channels_in, width, stride, expansion)
            channels_in = width * expansion
        width *= 2
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == expected + 7 * channels_in + 7


@pytest.mark.parametrize("num_sections", [1, 4, 5])
@pytest.mark.parametrize(("architecture", "expansion"), [("resnet18", 1), ("resnet50", 4)])
def test_sections_halve_the_side_and_double_the_width(
    architecture: str, expansion: int, num_sections: int
) -> None:
    model = _model(architecture=architecture, blocks=[1] * num_sections)
    expected = {"stem": (2, 4, 16, 16)}
    for n in range(num_sections):
        expected[f"section{n + 1}"] = (2, expansion * 4 * 2**n, 16 // 2**n, 16 // 2**n)
    features = model.features(_pixels(2, side=16))
    assert {name: tuple(layer.shape) for name, layer in features.items()} == expected
    assert model.layer_names == tuple(features) == tuple(expected)
    known = NETWORKS.get(architecture).layers(ModelConfig(blocks=(1,) * num_sections))
    assert known == tuple(expected)  # before it is built


def test_bottleneck_is_the_published_one() -> None:
    """Section 2 of ResNet50: 1x1 with the stride, 3x3, 1x1, and a strided 1x1 shortcut."""
    model = _model(architecture="resnet50", blocks=[1, 1]).eval()
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("network.section2")}
    first, second, third, shortcut = (v for v in weights.values() if v.ndim == 4)
    assert [tuple(w.shape[2:]) for w in (first, second, third, shortcut)] == [
        (1, 1),
        (3, 3),
        (1, 1),
        (1, 1),
    ]
    unit: float = (1 + 1e-5) ** -0.5  # batch normalisation of an untrained network

    def convolve(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        padding = weight.shape[-1] // 2
        result: Tensor = functional.conv2d(x, weight, stride=stride, padding=padding)
        return result * unit

    with torch.no_grad():
        features = model.features(_pixels())
        x = features["section1"]
        inner = convolve(x, first, stride=2).relu()
        inner = convolve(convolve(inner, second).relu(), third)
        expected = (inner + convolve(x, shortcut, stride=2)).relu()
        torch.testing.assert_close(features["section2"], expected)


def test_logits_are_the_head_on_the_pooled_last_section() -> None:
    model = _model().eval()
    with torch.no_grad():
        last = model.features(_pixels())["section2"]
        head = as_resnet(model).head
        expected = last.mean(dim=(2, 3)) @ head.weight.T + head.bias
        torch.testing.assert_close(model(_pixels()), expected)


def test_normalisation_is_the_first_layer() -> None:
    plain = _model(scale=1.0, shift=0.0).eval()
    scaled = _model(scale=5.0, shift=0.5).eval()
    with torch.no_grad():
        torch.testing.assert_close(scaled(_pixels()), plain(5 * (_pixels() - 0.5)))


def test_logits_do_not_depend_on_the_rest_of_the_batch() -> None:
    model = _model().double().eval()
    pixels = _pixels(6).double()
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in pixels])
        torch.testing.assert_close(model(pixels), alone)
    assert alone.dtype == torch.float64
