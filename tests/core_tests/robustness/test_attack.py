from __future__ import annotations

from collections.abc import Callable

import foolbox
import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from simreg_core.config.trial import ModelConfig
from simreg_core.networks.network import build_network, freeze
from simreg_core.registry import ATTACKS
from simreg_core.robustness.attack import AttackInput
from simreg_core.seeding import generator
from tests import oracles
from tests.core_tests.measuring import attack
from tests.linear_models import Linear
from tests.oracles import Array

NAMES = tuple(ATTACKS.own)
RANDOM_ATTACKS = ("gaussian", "uniform", "salt_pepper")


def _surrogate(channels: int = 1) -> nn.Module:
    config = ModelConfig(base_channels=4, blocks=(1, 1))
    return freeze(build_network(config, channels=channels, num_classes=5, seed=0))


def _batch(
    images: Tensor,
    *,
    seed: int = 0,
    surrogate: nn.Module | None = None,
    labels: Tensor | None = None,
) -> AttackInput:
    labels = torch.arange(len(images)) % 5 if labels is None else labels
    surrogate = _surrogate(images.shape[1]) if surrogate is None else surrogate
    return AttackInput(images, labels, generator(seed, "noise"), surrogate, scores=_Favours(labels))


class _Favours(nn.Module):
    """Scores by which all images are classified correctly, whatever is done to them."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, pixels: Tensor) -> Tensor:
        logits = nn.functional.one_hot(self.labels, 5).to(pixels)
        return logits + 1e-3 * pixels.flatten(1)[:, :5]


def _images(batch: int = 8, channels: int = 1, side: int = 8) -> Tensor:
    """Images whose pixels lie anywhere in [0, 1], 0 and 1 included."""
    shape = (batch, channels, side, side)
    images = torch.rand(shape, generator=generator(1, "images")) * 1.4 - 0.2
    return images.clamp(0, 1)


def _grey(batch: int, channels: int = 1, side: int = 16) -> Tensor:
    return torch.full((batch, channels, side, side), 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_zero_changes_nothing_and_no_epsilon_the_clean_images(name: str) -> None:
    images = _images()
    before = images.clone()
    perturbation = attack(name, _batch(images))
    assert torch.equal(perturbation(0.0), before)
    perturbation(0.3)
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_perturbed_images_are_images(name: str, epsilon: float, channels: int) -> None:
    images = _images(channels=channels)
    perturbed = attack(name, _batch(images))(epsilon)
    assert perturbed.shape == images.shape
    assert perturbed.dtype == images.dtype
    assert bool(((perturbed >= 0) & (perturbed <= 1)).all())
    assert not torch.equal(perturbed, images)


@pytest.mark.parametrize("name", RANDOM_ATTACKS)
def test_noise_depends_on_the_seed_alone_and_differs_between_images(name: str) -> None:
    labels = torch.zeros(8, dtype=torch.int64)
    one = attack(name, _batch(_images(), seed=3))(0.2)
    same = attack(name, _batch(_images(), seed=3, surrogate=nn.Flatten(), labels=labels))(0.2)
    assert torch.equal(one, same)
    assert not torch.equal(one, attack(name, _batch(_images(), seed=4))(0.2))
    assert len(torch.unique(attack(name, _batch(_grey(20)))(0.2), dim=0)) == 20


@pytest.mark.parametrize("name", ["gaussian", "uniform"])
def test_noise_grows_in_proportion_to_epsilon(name: str) -> None:
    perturbation = attack(name, _batch(_grey(4)))
    small, large = perturbation(0.01) - 0.5, perturbation(0.04) - 0.5
    torch.testing.assert_close(4 * small, large, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "distribution"), [("gaussian", "norm"), ("uniform", scipy.stats.uniform(-1, 2).cdf)]
)
def test_noise_has_its_distribution_in_every_channel(
    name: str, distribution: str | Callable[[Array], Array]
) -> None:
    noise = (attack(name, _batch(_grey(10, 3)))(0.05) - 0.5) / 0.05
    for channel in noise.double().unbind(dim=1):
        assert scipy.stats.kstest(channel.flatten().numpy(), distribution).pvalue > 1e-3
    assert not torch.equal(noise[:, 0], noise[:, 1])


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 0.9, 1.0])
def test_salt_pepper_hits_each_pixel_with_probability_epsilon(epsilon: float) -> None:
    perturbed = attack("salt_pepper", _batch(_grey(40)))(epsilon)
    num_pixels = perturbed.numel()
    num_hit = int((perturbed != 0.5).sum())
    spread = (num_pixels * epsilon * (1 - epsilon)) ** 0.5
    assert abs(num_hit - epsilon * num_pixels) <= 4 * spread


def test_salt_pepper_makes_whole_pixels_black_or_white_with_equal_chances() -> None:
    perturbed = attack("salt_pepper", _batch(_grey(40, 3)))(0.5)
    assert torch.equal(perturbed, perturbed[:, :1].expand_as(perturbed))
    hit = perturbed[:, 0][perturbed[:, 0] != 0.5]
    assert set(hit.tolist()) == {0.0, 1.0}
    assert abs(float(hit.mean()) - 0.5) < 4 * 0.5 / len(hit) ** 0.5


def test_salt_pepper_keeps_its_hits_as_epsilon_grows() -> None:
    perturbation = attack("salt_pepper", _batch(_grey(10)))
    weak, strong = perturbation(0.1), perturbation(0.4)
    is_hit = weak != 0.5
    assert torch.equal(strong[is_hit], weak[is_hit])
    assert int((strong != 0.5).sum()) > int(is_hit.sum())


# Transferred FGSM


@pytest.mark.parametrize("epsilon", [0.001, 0.05, 0.2])
@pytest.mark.parametrize(("low", "high"), [(0.25, 0.75), (-0.3, 1.3)], ids=["inside", "clipped"])
def test_transfer_fgsm_is_the_best_attack_on_a_linear_surrogate(
    low: float, high: float, epsilon: float
) -> None:
    rng = np.random.default_rng(5)
    weights, bias = rng.normal(size=(2, 36)), rng.normal(size=2)
    labels, flat = rng.integers(0, 2, 50), rng.uniform(low, high, (50, 36)).clip(0, 1)
    surrogate = freeze(Linear(weights, bias).double())
    images = torch.from_numpy(flat).reshape(-1, 1, 6, 6)
    batch = _batch(images, surrogate=surrogate, labels=torch.from_numpy(labels))
    perturbed = attack("transfer_fgsm", batch)(epsilon).flatten(1).numpy()
    np.testing.assert_allclose(
        perturbed, oracles.fgsm(weights, flat, labels, epsilon), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
@pytest.mark.parametrize("epsilon", [0.001, 0.02, 0.1, 0.5, 0.9])
def test_transfer_fgsm_is_foolbox_run_at_that_epsilon(epsilon: float, channels: int) -> None:
    surrogate, images = _surrogate(channels), _images(10, channels)
    labels = torch.arange(10) % 5
    model = foolbox.PyTorchModel(surrogate, bounds=(0, 1))
    foolboxes = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, expected, _ = foolboxes(model, images, labels, epsilons=epsilon)
    perturbed = attack("transfer_fgsm", _batch(images, surrogate=surrogate, labels=labels))(epsilon)
    torch.testing.assert_close(perturbed, expected, atol=1e-6, rtol=0)


def test_transfer_fgsm_draws_nothing_and_asks_the_surrogate_once_for_all_epsilons() -> None:
    surrogate, calls = _surrogate(), []
    surrogate.register_forward_hook(lambda *_: calls.append(1))
    batch = _batch(_images(), surrogate=surrogate)
    before, global_before = batch.rng.get_state(), torch.random.get_rng_state()
    perturbation = attack("transfer_fgsm", batch)
    num_calls = len(calls)
    for epsilon in (0.01, 0.1, 0.2):
        perturbation(epsilon)
    assert len(calls) == num_calls
    assert torch.equal(batch.rng.get_state(), before)
    assert torch.equal(torch.random.get_rng_state(), global_before)
    assert all(parameter.grad is None for parameter in surrogate.parameters())
