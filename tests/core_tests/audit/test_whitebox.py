from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.audit.whitebox import (
    AttackResult,
    carlini_wagner_l2,
    deepfool_l2,
    hop_skip_jump,
    inside,
    pgd,
)
from simreg_core.seeding import generator
from tests import oracles
from tests.linear_models import SIDE, as_images, problem
from tests.oracles import Array

pgd_linf, pgd_l2 = partial(pgd, norm="linf"), partial(pgd, norm="l2")
OPTIONS: dict[str, Any] = {"steps": 60, "rel_stepsize": 0.1}
FEW_STEPS: dict[str, Any] = {"steps": 2, "rel_stepsize": 1.0}


def _attack(
    attack: Callable[..., AttackResult],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int = 0,
    **options: Any,
) -> AttackResult:
    rng = generator(seed, "pgd")
    return attack(model, images, labels, **{"epsilon": 0.1, "rng": rng, **OPTIONS, **options})


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("linf", 0.01), ("linf", 0.1), ("l2", 0.05), ("l2", 0.3)]
)
def test_pgd_is_the_best_attack_on_a_linear_model(norm: str, epsilon: float) -> None:
    """Away from the bounds the margin falls by eps times the dual norm of the weights."""
    p = problem(50)
    attack, order, dual = (pgd_linf, np.inf, 1) if norm == "linf" else (pgd_l2, 2, 2)
    perturbed = _flat(_attack(attack, p.model, p.images, p.targets, epsilon=epsilon))
    before, after = (oracles.margins(p.weights, p.bias, x, p.labels) for x in (p.flat, perturbed))
    best = epsilon * np.linalg.norm(p.weights[0] - p.weights[1], dual)
    np.testing.assert_allclose(before - after, best, rtol=1e-3)
    sizes = np.linalg.norm(perturbed - p.flat, order, axis=1)
    assert sizes.max() <= epsilon * (1 + 1e-5)

    rng = np.random.default_rng(6)
    anywhere = as_images(rng.uniform(-0.3, 1.3, p.flat.shape).clip(0, 1))
    perturbed = _flat(_attack(attack, p.model, anywhere, p.targets, epsilon=epsilon))
    assert perturbed.min() >= 0
    assert perturbed.max() <= 1


# Attacks that minimise the norm: never below the distance to the plane, and near it


def _flat(result: AttackResult) -> Array:
    found: Array = result.adversarial.flatten(1).double().numpy()
    return found


MINIMAL: list[Any] = [
    pytest.param(deepfool_l2, {}, 0.05, id="deepfool"),
    pytest.param(carlini_wagner_l2, {}, 0.02, id="carlini_wagner"),
    pytest.param(hop_skip_jump, {"steps": 15}, 0.1, id="hop_skip_jump"),
]


def _minimal(
    attack: Callable[..., AttackResult], options: dict[str, Any], targets: Tensor
) -> AttackResult:
    p = problem()
    if attack is hop_skip_jump:
        options = {**options, "rng": generator(0, "attack")}
    return attack(p.model, p.images, targets, **options)


@pytest.mark.parametrize(("attack", "options", "tolerance"), MINIMAL)
def test_minimal_attack_finds_the_plane(
    attack: Callable[..., AttackResult], options: dict[str, Any], tolerance: float
) -> None:
    p = problem()
    result = _minimal(attack, options, p.targets)
    assert bool(result.success.all())
    adversarial = _flat(result)
    assert (oracles.margins(p.weights, p.bias, adversarial, p.labels) < 0).all()
    ratio = np.linalg.norm(adversarial - p.flat, axis=1) / p.distances
    assert ratio.min() > 1 - 1e-3
    assert np.median(ratio) < 1 + tolerance
    assert ratio.max() < 1 + 4 * tolerance
    sizes = np.linalg.norm(adversarial - p.images.flatten(1).double().numpy(), axis=1)
    np.testing.assert_allclose(result.norms.numpy(), sizes, rtol=1e-12)


@pytest.mark.parametrize(("attack", "options", "tolerance"), MINIMAL)
def test_misclassified_images_are_left_as_they_are(
    attack: Callable[..., AttackResult], options: dict[str, Any], tolerance: float
) -> None:
    p = problem()
    wrong = p.targets.clone()
    wrong[:3] = 1 - wrong[:3]
    result = _minimal(attack, options, wrong)
    assert torch.equal(result.adversarial[:3], p.images[:3])
    assert result.success[:3].tolist() == [True] * 3
    assert result.norms[:3].tolist() == [0] * 3


def test_hop_skip_jump_in_a_batch_is_as_strong_as_alone() -> None:
    """Foolbox itself takes steps that are too short by the root of the batch size."""
    p = problem(40)
    result = hop_skip_jump(p.model, p.images, p.targets, steps=6, rng=generator(0, "attack"))
    assert float((result.norms / torch.from_numpy(p.distances)).median()) < 1.3


def test_without_a_starting_point_nothing_is_found() -> None:
    p = problem()
    one = p.targets == 0
    result = hop_skip_jump(
        p.model, p.images[one], p.targets[one], steps=1, rng=generator(0, "attack")
    )
    assert not bool(result.success.any())
    assert torch.equal(result.adversarial, p.images[one])


# What the wrapper guarantees


class _Hostile(nn.Module):
    """Logits whose gradient is not a number."""

    def forward(self, pixels: Tensor) -> Tensor:
        total = pixels.flatten(1).sum(dim=1)
        return torch.stack([total, 0 * (total * 0).sqrt()], dim=1)


@pytest.mark.parametrize("attack", [pgd_linf, pgd_l2])
def test_gradients_that_are_not_numbers_leave_images(attack: Callable[..., AttackResult]) -> None:
    p = problem(5)
    result = _attack(attack, _Hostile(), p.images, torch.zeros(5, dtype=torch.int64))
    assert bool(result.adversarial.isfinite().all())
    assert result.success.tolist() == [False] * 5


@pytest.mark.parametrize(("norm", "order"), [("linf", torch.inf), ("l2", 2)])
def test_proposals_are_moved_into_ball_and_range(norm: Any, order: float) -> None:
    images = torch.rand(10, 3, 4, 4, generator=generator(0, "images"))
    wild = images + 5 * torch.randn(images.shape, generator=generator(1, "noise"))
    moved = inside(images, wild, norm, 0.2)
    sizes = torch.linalg.vector_norm((moved - images).flatten(1), ord=order, dim=1)
    assert float(sizes.max()) <= 0.2 * (1 + 1e-5)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    near = images.lerp(moved, 0.5)
    torch.testing.assert_close(inside(images, near, norm, 0.2), near)


def test_success_is_what_the_network_says_of_the_result() -> None:
    p = problem(30)
    result = _attack(pgd_linf, p.model, p.images, p.targets, epsilon=0.03)
    assert 0 < int(result.success.sum()) < 30
    predicted = p.model(result.adversarial).argmax(dim=1)
    assert result.success.tolist() == (predicted != p.targets).tolist()


def test_network_is_left_as_it_was_and_so_are_the_global_generators() -> None:
    p = problem(5)
    model = p.model.train()
    model(p.images).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    before = torch.random.get_rng_state()
    _attack(pgd_linf, model, p.images, p.targets)
    deepfool_l2(model, p.images, p.targets)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(a is b.grad for a, b in zip(gradients, model.parameters(), strict=True))


def test_same_generator_gives_the_same_attack_and_another_one_another() -> None:
    p = problem(5)
    one, same, other = (
        _attack(pgd_l2, p.model, p.images, p.targets, seed, **FEW_STEPS).adversarial
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_batches_are_bounded() -> None:
    flat = np.random.default_rng(0).uniform(0.3, 0.7, (600, SIDE * SIDE))
    p = problem()
    model = p.model
    labels = model(as_images(flat)).argmax(dim=1)
    model.largest_batch = 0
    _attack(pgd_linf, model, as_images(flat), labels, **FEW_STEPS)
    deepfool_l2(model, as_images(flat), labels, steps=2)
    assert model.largest_batch <= 250
