"""PGD and MI-FGSM on a surrogate: closed forms, strength and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.networks.network import freeze
from simreg_core.robustness.attack import AttackInput
from simreg_core.robustness.iterated import mifgsm_changes
from simreg_core.seeding import generator, global_rng
from tests import oracles
from tests.core_tests.measuring import attack
from tests.linear_models import Linear, as_images

NAMES = ("transfer_pgd", "transfer_mifgsm")
EPSILON = 0.1


def _curved() -> nn.Module:
    """A network whose gradient turns within the ball."""
    with global_rng(3):
        first, last = nn.Linear(36, 40), nn.Linear(40, 5)
    with torch.no_grad():
        first.weight.mul_(12)
        last.weight.mul_(4)
    return freeze(nn.Sequential(nn.Flatten(), first, nn.Tanh(), last))


def _images() -> tuple[Tensor, Tensor]:
    flat = np.random.default_rng(1).uniform(-0.2, 1.2, (60, 36)).clip(0, 1)
    return as_images(flat), torch.arange(60) % 5


def _attacked(name: str, surrogate: nn.Module, epsilon: float = EPSILON, **options: Any) -> Tensor:
    batch = AttackInput(*_images(), generator(0, "unused"), surrogate)
    return attack(name, batch, options)(epsilon)


def _loss(surrogate: nn.Module, images: Tensor) -> float:
    return float(functional.cross_entropy(surrogate(images), _images()[1]))


@pytest.mark.parametrize("name", NAMES)
def test_best_attack_on_a_linear_surrogate_is_found(name: str) -> None:
    rng = np.random.default_rng(5)
    weights, bias = rng.normal(size=(2, 36)), rng.normal(size=2)
    flat, labels = rng.uniform(0.25, 0.75, (50, 36)), rng.integers(0, 2, 50)
    surrogate = freeze(Linear(weights, bias))
    batch = AttackInput(
        as_images(flat), torch.from_numpy(labels), generator(0, "unused"), surrogate
    )
    found = attack(name, batch)(0.05).flatten(1).numpy()
    np.testing.assert_allclose(found, oracles.fgsm(weights, flat, labels, 0.05), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_iterations_are_stronger_on_the_surrogate_than_one_step(name: str) -> None:
    surrogate = _curved()
    one, ten = (_loss(surrogate, _attacked(n, surrogate)) for n in ("transfer_fgsm", name))
    assert ten > one + 0.1


@pytest.mark.parametrize("epsilon", [0.003, 0.1, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_results_are_images_in_the_ball(name: str, epsilon: float) -> None:
    moved, (images, _) = _attacked(name, _curved(), epsilon), _images()
    assert float((moved - images).abs().max()) <= epsilon * (1 + 1e-4)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1


def test_momentum_is_that_of_the_paper() -> None:
    """The formula in double precision, up to the levels that are stored."""
    surrogate, (images, labels) = _curved().double(), _images()
    images = images.double()
    moved, velocity = images.clone(), torch.zeros_like(images)
    for _ in range(4):
        pixels = moved.clone().requires_grad_()
        functional.cross_entropy(surrogate(pixels), labels).backward()
        assert pixels.grad is not None
        norms = pixels.grad.abs().sum(dim=(1, 2, 3), keepdim=True)
        velocity = 0.5 * velocity + pixels.grad / norms
        moved = (moved + EPSILON / 4 * velocity.sign()).clamp(0, 1)
    changes = mifgsm_changes(surrogate, images, labels, epsilon=EPSILON, steps=4, decay=0.5)
    assert changes.dtype == torch.int8
    torch.testing.assert_close(
        changes.double() / 127 * EPSILON, moved - images, atol=EPSILON / 250, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_results_depend_on_no_batch_and_no_draw(name: str) -> None:
    surrogate, (images, labels) = _curved(), _images()
    parts = [
        attack(name, AttackInput(*part, generator(seed, "unused"), surrogate))(EPSILON)
        for seed, part in enumerate(zip(images.split(7), labels.split(7), strict=True))
    ]
    torch.testing.assert_close(torch.cat(parts), _attacked(name, surrogate), atol=1e-6, rtol=0)


def test_options_change_the_attack() -> None:
    surrogate = _curved()
    changes: dict[str, list[dict[str, Any]]] = {
        "transfer_pgd": [{"steps": 3}, {"step": 0.6}],
        "transfer_mifgsm": [{"steps": 3}, {"decay": 0.0}],
    }
    for name, settings in changes.items():
        usual = _attacked(name, surrogate)
        assert not any(torch.equal(usual, _attacked(name, surrogate, **own)) for own in settings)
