from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import ModelConfig, TrialConfig
from simreg_core.errors import ConfigError
from simreg_core.networks.network import Classifier, build_network, check_network
from simreg_core.seeding import generator

RESNET = {"architecture": "torchvision:resnet18", "input_size": 32}
VIT = {
    "architecture": "timm:vit_tiny_patch16_224",
    "options": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
}


def _build(model: dict[str, Any], channels: int = 1, num_classes: int = 7) -> Classifier:
    config = ModelConfig.model_validate(model)
    return build_network(config, channels=channels, num_classes=num_classes, seed=0)


def _images(channels: int) -> Tensor:
    shape = (2, channels, 16, 16)
    return torch.randint(256, shape, generator=generator(0, "images"), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (RESNET, ("layer1", "layer4")),
        ({"architecture": "torchvision:shufflenet_v2_x0_5", "input_size": 32}, ("stage2",)),
        (VIT, ("blocks.0", "blocks.1")),
    ],
    ids=lambda value: value.get("architecture") if isinstance(value, dict) else "",
)
def test_networks_of_libraries_take_grey_and_rgb_images(
    model: dict[str, Any], layers: tuple[str, ...], channels: int
) -> None:
    network, images = _build(model, channels), _images(channels)
    check_network(ModelConfig.model_validate(model), network, images)
    assert network.eval()(images / 255).shape == (2, 7)
    assert tuple(network.features(images / 255, layers)) == layers


def test_input_is_repeated_resized_and_normalized_inside() -> None:
    network, pixels = _build({**RESNET, "scale": 2.0, "shift": 0.25}).eval(), _images(1) / 255
    prepared = 2 * (functional.interpolate(pixels.repeat(1, 3, 1, 1), 32, mode="bilinear") - 0.25)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), network.network(prepared))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"architecture": "torchvision:resnet19"}, "has no network 'resnet19'; close names: .*18"),
        ({"architecture": "timm:nothing_like_it"}, "timm has no network 'nothing_like_it'"),
        ({**RESNET, "options": {"depth": 3}}, "torchvision:resnet18: .*'depth'"),
    ],
)
def test_unknown_name_or_option_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^model.architecture: .*{message}"):
        _build(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"architecture": "torchvision"},
            "unknown network 'torchvision'; allowed: .*torchvision:N",
        ),
        ({"architecture": "resnet18:x"}, "unknown network 'resnet18:x'"),
        ({"options": {"width": 3}}, "options has no effect with architecture resnet18"),
    ],
)
def test_name_without_library_and_options_without_effect_are_refused(
    model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_dict({"task": {"dataset": "digits"}, "model": model})


def test_torchvision_is_imported_without_its_compiled_part() -> None:
    code = (
        "import torch\n"
        "from simreg_core.networks.libraries import define_missing_operators\n"
        "def fail(path): raise OSError(path)\n"
        "torch.ops.load_library = fail\n"
        "define_missing_operators()\n"
        "import torchvision.models\n"
        "model = torchvision.models.get_model('resnet18', weights=None).eval()\n"
        "print(tuple(model(torch.zeros(1, 3, 32, 32)).shape))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "(1, 1000)\n"
