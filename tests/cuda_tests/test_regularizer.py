"""Networks, the regularizer and its pairs: a GPU against the CPU, in float32 without TF32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import ModelConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import build_network
from simreg_core.neural.model import FittedModel, NeuralConfig, PredictiveNetwork
from simreg_core.registry import NETWORKS, TARGETS
from simreg_core.regularizer.pairs import PairSampler, in_range
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.seeding import generator
from simreg_core.training.steps import autocast
from tests.cuda_tests.comparing import CPU, MakeConfig, assert_near, begin

pytestmark = pytest.mark.cuda

FEATURES, LOGITS = 1e-5, 1e-4  # float32 against float64 on a CPU: below 2e-6 and 1e-5
LOSS, GRADIENT = 1e-4, 5e-3
RANGES: dict[str, dict[str, Any]] = {
    name: {"regularizer.pairs": name} for name in ("all", "high", "low", "positive", "negative")
}
RANGES["double"] = {"regularizer.pairs": "double", "regularizer.threshold_low": 0.1}


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [n for n in NETWORKS.known if not NETWORKS.known[n].argument])
def test_forward_pass(name: str, channels: int, is_training: bool, device: torch.device) -> None:
    config = ModelConfig(architecture=name, base_channels=8)
    pixels = torch.rand((8, channels, 32, 32), generator=generator(0, "pixels"))
    found, statistics = [], []
    for place in (device, CPU):
        network = build_network(config, channels=channels, num_classes=10, seed=0).to(place)
        network.train(is_training)
        with torch.no_grad():
            features = network.features(pixels.to(place))
            found.append({**features, "logits": network(pixels.to(place))})
        statistics.append(dict(network.named_buffers()))
    assert list(found[0]) == [*network.layer_names, "logits"]
    for layer, expected in found[1].items():
        assert found[0][layer].device.type == device.type
        assert_near(found[0][layer], expected, LOGITS if layer == "logits" else FEATURES, layer)
    for buffer, expected in statistics[1].items():
        assert_near(statistics[0][buffer], expected, FEATURES, buffer)


def test_forward_pass_in_bf16(device: torch.device) -> None:
    config = ModelConfig(base_channels=16)
    pixels = torch.rand((16, 3, 32, 32), generator=generator(0, "pixels")).to(device)
    network = build_network(config, channels=3, num_classes=10, seed=0).to(device)
    with torch.no_grad():
        expected = network(pixels)
        with autocast(device, "bf16"):
            found = network(pixels)
    assert found.dtype == torch.bfloat16
    assert_near(found, expected, 0.05)  # bfloat16 has 8 bits: 0.004 for each of some 20 layers


@pytest.fixture
def neural_model(tmp_path: Path) -> str:
    """File of an unfitted model of 20 neurons."""
    config = NeuralConfig(image_size=16, channels=4)
    ones = torch.ones(20, dtype=torch.float64)
    model = FittedModel(
        config=config,
        network=PredictiveNetwork(config, 20),
        neurons=tuple(map(str, range(20))),
        prediction_mean=0 * ones,
        prediction_std=ones,
        validation_correlation=ones / 2,
        test_correlation=ones / 2,
        noise_ceiling=ones,
        records=(),
    )
    model.save(tmp_path / "neurons.pt")
    return str(tmp_path / "neurons.pt")


def assert_same_regularizer(
    changes: dict[str, Any], make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    """Drawn pairs, similarities, loss, running means and gradients of one step."""
    config = make_config(changes)
    found: list[dict[str, Tensor]] = []
    for place in (device, CPU):
        state = begin(config, data, place)
        assert state.regularizer is not None
        pairs = state.regularizer.draw(3, generator(0, "pairs"))
        assert pairs.device == CPU
        state.model.train()
        loss = state.regularizer(pairs[1].to(place))
        loss.backward()
        compared = state.regularizer.last
        assert compared is not None
        parameters = [*state.model.named_parameters(), *state.regularizer.named_parameters()]
        found.append(
            {
                "pairs": pairs,
                "s_target": compared.s_target,
                "s_cnn": compared.s_cnn,
                "loss": loss,
                **{f"mean {name}": value for name, value in state.regularizer.named_buffers()},
                **{name: p.grad for name, p in parameters if p.grad is not None},
            }
        )
    assert torch.equal(found[0].pop("pairs"), found[1].pop("pairs"))
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 20
    tolerances = {"s_target": 1e-5, "s_cnn": 1e-5, "loss": LOSS}
    for name, expected in found[1].items():
        allowed = FEATURES if name.startswith("mean") else tolerances.get(name, GRADIENT)
        assert_near(found[0][name], expected, allowed, name)


@pytest.mark.parametrize("changes", RANGES.values(), ids=RANGES)
def test_regularizer_with_each_range_of_pairs(
    changes: dict[str, Any], make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    assert_same_regularizer(changes, make_config, data, device)


@pytest.mark.parametrize("target", sorted(TARGETS.known))
def test_regularizer_with_each_target(
    target: str,
    neural_model: str,
    make_config: MakeConfig,
    data: TaskData,
    device: torch.device,
    tmp_path: Path,
) -> None:
    path = tmp_path / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(data.num_stored, 9)))
    takes_path = bool(TARGETS.known[target].argument)
    changes = {"regularizer.target": f"{target}:{path}" if takes_path else target}
    if TARGETS.known[target].needs is not None:
        changes["regularizer.neural_model"] = neural_model
    assert_same_regularizer(changes, make_config, data, device)


@pytest.mark.parametrize(
    "changes",
    [
        {"regularizer.transform": "identity"},
        {"regularizer.gamma": "section2"},
        {"regularizer.gamma": "uniform", "regularizer.layers": ["stem", "section3"]},
        {"regularizer.shuffle_targets": True},
        {"regularizer.dataset": "natural"},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_regularizer_with_other_options(
    changes: dict[str, Any], make_config: MakeConfig, data: TaskData, device: torch.device
) -> None:
    if "regularizer.gamma" in changes or "regularizer.dataset" in changes:
        changes = {**changes, "regularizer.alpha": 1.0}
    assert_same_regularizer(changes, make_config, data, device)


@pytest.mark.parametrize("pairs", ["all", "low", "high"])
def test_pairs_of_50000_images(pairs: Any, device: torch.device, is_cuda: bool) -> None:
    """``low`` is common and drawn by rejection, ``high`` is rare (0.5 %) and listed."""
    number = 50_000 if is_cuda else 5_000  # a CPU takes a minute for all pairs of 50,000
    rng = generator(0, "images")
    patterns = torch.randint(256, (200, 1, 32, 32), generator=rng)
    noise = torch.randint(-20, 21, (number, 1, 32, 32), generator=rng)
    kind = torch.randint(200, (number,), generator=rng)
    images = (patterns[kind] + noise).clamp(0, 255).to(torch.uint8).to(device)
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    config = RegularizerConfig(pairs=pairs, threshold=0.5)
    sampler = PairSampler(config, PixelSimilarity(images))
    drawn = sampler.batches(100, 16, generator(0, "pairs"))
    assert drawn.shape == (100, 2, 16)
    first, second = drawn.transpose(0, 1).flatten(1)
    assert bool((first < second).all())
    assert int(second.max()) < number
    on_cpu = PixelSimilarity(images.cpu())(first, second)
    assert bool(in_range(on_cpu, config).all())
    is_alike = kind[first] == kind[second]
    assert {"low": not is_alike.any(), "high": bool(is_alike.all())}.get(pairs, True)
    if is_cuda:  # unit vectors take 0.2 GB; a matrix of all pairs would take 10 GB
        assert torch.cuda.max_memory_allocated() - before < 2e9
