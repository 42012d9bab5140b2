"""AutoAttack and its parts against closed forms, and on networks without usable gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.audit.auto_attack.apgd import (
    Loss,
    apgd,
    cross_entropy,
    logit_ratio,
    targeted_logit_ratio,
)
from simreg_core.audit.auto_attack.ensemble import Budget, auto_attack
from simreg_core.audit.auto_attack.fab import fab
from simreg_core.audit.whitebox import pgd
from simreg_core.seeding import generator
from tests import oracles
from tests.linear_models import SIDE, Linear, Problem, as_images

EPSILONS = (0.04, 0.08, 0.12)
BUDGET = Budget(steps=20, queries=300)
Wrap = Callable[[Tensor], Tensor]


def _problem(num_classes: int, num_images: int = 60) -> Problem:
    """Images away from black and white that a linear classifier gets right."""
    rng = np.random.default_rng(num_classes)
    weights, bias = rng.normal(size=(num_classes, SIDE * SIDE)), rng.normal(size=num_classes)
    flat = rng.uniform(0.25, 0.75, (num_images, SIDE * SIDE))
    return Problem(weights, bias, flat, (flat @ weights.T + bias).argmax(axis=1))


def _norms(p: Problem) -> oracles.Array:
    return oracles.linf_distances(p.weights, p.bias, p.flat, p.labels)


class _Wrapped(nn.Module):
    def __init__(self, p: Problem, wrap: Wrap) -> None:
        super().__init__()
        self.model, self.wrap = p.model, wrap

    def forward(self, pixels: Tensor) -> Tensor:
        return self.wrap(self.model(pixels))


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_robust_accuracy_of_a_linear_classifier_is_the_closed_form(num_classes: int) -> None:
    p = _problem(num_classes)
    norms = _norms(p)
    epsilons = [float(np.quantile(norms, share)) for share in (0.1, 0.5, 0.9)]
    found = auto_attack(p.model, p.images, p.targets, epsilons, BUDGET)
    expected = [norms > epsilon for epsilon in epsilons]
    # An image at a quantile itself may fall to either side of the rounding.
    is_clear = np.abs(norms[None] / np.array(epsilons)[:, None] - 1).min(axis=0) > 1e-4
    assert is_clear.sum() >= 57
    assert np.array_equal(found.stands.numpy()[:, is_clear], np.stack(expected)[:, is_clear])
    totals = np.sum(list(found.broken.values()), axis=0)
    assert totals.tolist() == (~found.stands).sum(dim=1).tolist()


@pytest.mark.parametrize("loss", [cross_entropy, logit_ratio, targeted_logit_ratio])
def test_apgd_finds_what_exists_in_the_ball_and_nothing_else(loss: Loss) -> None:
    p = _problem(5)
    targets = torch.from_numpy((p.flat @ p.weights.T + p.bias).argsort(axis=1)[:, -2].copy())
    own = [
        oracles.linf_distances(p.weights[[y, t]], p.bias[[y, t]], x[None], np.array([0]))[0]
        for x, y, t in zip(p.flat, p.labels, targets.tolist(), strict=True)
    ]
    attack = partial(apgd, p.model, p.images, p.targets, targets, loss=loss, steps=30)
    for epsilon in EPSILONS:
        found = attack(epsilon=epsilon, rng=generator(0, "apgd"))
        is_broken = (p.model(found).argmax(dim=1) != p.targets).numpy()
        assert float((found - p.images).abs().max()) <= epsilon * (1 + 1e-4)
        assert not is_broken[_norms(p) > epsilon * (1 + 1e-4)].any()
        assert is_broken[np.array(own) < epsilon * (1 - 1e-3)].all()
        assert torch.equal(found[~is_broken], p.images[~is_broken])


@pytest.mark.parametrize("loss", [logit_ratio, targeted_logit_ratio])
def test_ratio_of_logits_is_that_of_the_paper_at_any_scale(loss: Loss) -> None:
    logits = torch.tensor([[5.0, 1.0, 4.0, 2.0], [1.0, 5.0, 2.0, 4.0]])
    labels, targets = torch.tensor([0, 0]), torch.tensor([3, 1])
    targeted = [(2 - 5) / (5 - (2 + 1) / 2), (5 - 1) / (5 - (2 + 1) / 2)]
    expected = [-(5 - 4) / (5 - 2), (5 - 1) / (5 - 2)] if loss is logit_ratio else targeted
    for scale in (1, 1e6):
        found = loss(scale * logits - 3 * scale, labels, targets)
        torch.testing.assert_close(found, torch.tensor(expected))


def test_steps_of_apgd_shrink_until_a_small_target_is_hit() -> None:
    """Only a small part of the ball is misclassified, which steps of a fixed size pass over."""
    images = torch.full((1, 1, SIDE, SIDE), 0.5)
    centre = images + 0.1 * (torch.rand(images.shape, generator=generator(0, "centre")) - 0.5)

    class Hole(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            distance = (pixels - centre).flatten(1).norm(dim=1)
            return torch.stack([distance, torch.full_like(distance, 0.02)], dim=1)

    labels = torch.zeros(1, dtype=torch.int64)
    task = Hole(), images, labels, 1 - labels
    found = apgd(*task, epsilon=0.1, loss=logit_ratio, steps=100, rng=generator(0, "apgd"))
    assert task[0](found).argmax().item() == 1


@pytest.mark.parametrize("num_classes", [2, 5])
def test_fab_finds_the_smallest_perturbation(num_classes: int) -> None:
    p = _problem(num_classes)
    nearest = torch.full((60,), torch.inf, dtype=torch.float64)
    for shift in range(1, num_classes):
        targets = (p.targets + shift) % num_classes
        found = fab(p.model, p.images, p.targets, targets, steps=15)
        is_found = p.model(found).argmax(dim=1) != p.targets
        norms = (found - p.images).abs().amax(dim=(1, 2, 3)).double()
        nearest = torch.minimum(nearest, norms.where(is_found, torch.inf))
        assert torch.equal(found[~is_found], p.images[~is_found])
    ratio = nearest.numpy() / _norms(p)
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.02


def test_fab_moves_only_pixels_that_can_move() -> None:
    """With half of the pixels at the bounds that they would pass, the others move twice as far."""
    weights = np.stack([np.full(SIDE * SIDE, -1.0), np.full(SIDE * SIDE, 1.0)])
    flat = np.full((1, SIDE * SIDE), 0.2)
    flat[:, ::2] = 1.0
    model = Linear(weights, np.array([2.0 * (0.6 + 0.05) * SIDE * SIDE, 0.0]))
    label = torch.zeros(1, dtype=torch.int64)
    found = fab(model, as_images(flat), label, 1 - label, steps=10)
    change = (found - as_images(flat)).flatten(1)[0].numpy()
    np.testing.assert_allclose(change[::2], 0, atol=1e-6)
    np.testing.assert_allclose(change[1::2], 0.1, rtol=0.02)


def _scaled(logits: Tensor) -> Tensor:
    return 1e4 * logits


def _rounded(logits: Tensor) -> Tensor:
    return (20 * logits).round()


@pytest.mark.parametrize(("wrap", "breaker"), [(_scaled, "apgd_dlr"), (_rounded, "square")])
def test_networks_that_mask_gradients_from_pgd_are_broken(wrap: Wrap, breaker: str) -> None:
    p = _problem(5)
    model, epsilon = _Wrapped(p, wrap), EPSILONS[2]
    rng = generator(0, "pgd")
    task = model, p.images, p.targets
    masked = pgd(*task, norm="linf", epsilon=epsilon, steps=50, rel_stepsize=0.08, rng=rng)
    assert float(masked.success.double().mean()) < 0.2
    found = auto_attack(*task, EPSILONS, BUDGET)
    broken = {name: counts[-1] for name, counts in found.broken.items()}
    assert broken[breaker] == max(broken.values()) > 30
    assert float(found.stands[-1].double().mean()) <= (_norms(p) > epsilon).mean() + 0.15


def test_results_follow_the_seed_and_wrong_images_are_not_attacked() -> None:
    p = _problem(4, 12)
    targets = p.targets.clone()
    targets[:5] = (targets[:5] + 1) % 4
    weak = Budget(steps=2, queries=5)
    one, same = (auto_attack(p.model, p.images, targets, EPSILONS, weak, 3) for _ in range(2))
    assert torch.equal(one.stands, same.stands)
    assert one.broken == same.broken
    assert not bool(one.stands[:, :5].any())
    assert sum(counts[-1] for counts in one.broken.values()) <= 7


def test_gradients_that_are_not_numbers_break_nothing() -> None:
    def hostile(logits: Tensor) -> Tensor:
        return torch.stack([logits[:, 0] * 0 + 1, 0 * (logits[:, 1] * 0).sqrt()], dim=1)

    p = _problem(2, 8)
    model, labels = _Wrapped(p, hostile), torch.zeros(8, dtype=torch.int64)
    found = auto_attack(model, p.images, labels, EPSILONS, Budget(steps=3, queries=5))
    assert bool(found.stands.all())
