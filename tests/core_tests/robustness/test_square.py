"""The Square Attack against closed forms and its budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.errors import ConfigError
from simreg_core.plugins import check_options
from simreg_core.registry import ATTACKS
from simreg_core.robustness.attack import AttackInput
from simreg_core.seeding import generator
from tests import oracles
from tests.core_tests.measuring import attack
from tests.linear_models import Problem, as_images, problem

EPSILONS = (0.01, 0.02, 0.03)


class _Counting(nn.Module):
    """Counts the images that a network is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.shown = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.shown += len(pixels)
        assert not pixels.requires_grad
        logits: Tensor = self.model(pixels)
        return logits


def _square(
    p: Problem, scores: nn.Module, images: Tensor | None = None, seed: int = 0, **options: float
) -> dict[float, Tensor]:
    images = p.images if images is None else images
    batch = AttackInput(images, p.targets, generator(seed, "square"), nn.Flatten(), scores)
    perturbed = attack("square", batch, options)
    with torch.no_grad():
        return {epsilon: perturbed(epsilon) for epsilon in EPSILONS}


def _accuracy(p: Problem, images: Tensor) -> float:
    return float((p.model(images).argmax(dim=1) == p.targets).double().mean())


def test_linear_classifier_is_as_accurate_as_in_closed_form() -> None:
    p = problem(100)
    norms = oracles.linf_distances(p.weights, p.bias, p.flat, p.labels)
    found = {epsilon: _accuracy(p, images) for epsilon, images in _square(p, p.model).items()}
    assert found == {epsilon: float((norms > epsilon).mean()) for epsilon in EPSILONS}
    assert len(set(found.values())) == 3


def test_logits_without_gradients_do_not_stop_it() -> None:
    p = problem(100)

    class Rounded(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            scaled: Tensor = 50 * p.model(pixels)
            return scaled.round()

    (_, _, strongest) = _square(p, Rounded()).values()
    assert _accuracy(p, strongest) < 0.3


def test_results_are_images_in_the_ball() -> None:
    p = problem(50)
    anywhere = as_images(np.random.default_rng(6).uniform(-0.3, 1.3, p.flat.shape).clip(0, 1))
    for epsilon, moved in _square(p, p.model, anywhere, queries=60).items():
        assert float((moved - anywhere).abs().max()) <= epsilon * (1 + 1e-5)
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1


def test_no_more_queries_are_made_than_allowed_and_none_of_fooled_images() -> None:
    p = problem(50)
    unbreakable = _Counting(nn.Sequential(nn.Flatten(), _Constant(p.targets)))
    _square(p, unbreakable, queries=40)
    assert unbreakable.shown == 50 * 40 * len(EPSILONS)
    wrong = p._replace(labels=1 - p.labels)
    fooled = _Counting(p.model)
    for images in _square(wrong, fooled).values():
        assert torch.equal(images, p.images)
    assert fooled.shown == 50 * len(EPSILONS)
    some = _Counting(p.model)
    moved = _square(p, some, queries=400)
    standing = sum(_accuracy(p, images) for images in moved.values())
    assert 50 * 400 * standing < some.shown < 50 * 400 * (standing + 0.7)


class _Constant(nn.Module):
    """Always right, with margins that depend on the pixels."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, pixels: Tensor) -> Tensor:
        margin = 2 + pixels.mean(dim=1)
        return torch.stack([margin * (self.labels == 0), margin * (self.labels == 1)], dim=1)


def test_every_epsilon_reproduces_alone_and_follows_the_seed() -> None:
    p = problem(30)
    found, other = (_square(p, p.model, seed=seed, queries=30) for seed in (0, 1))
    batch = AttackInput(p.images, p.targets, generator(0, "square"), nn.Flatten(), p.model)
    with torch.no_grad():
        alone = attack("square", batch, {"queries": 30})(EPSILONS[1])
    assert torch.equal(alone, found[EPSILONS[1]])
    assert not torch.equal(other[EPSILONS[1]], found[EPSILONS[1]])


def test_draws_of_an_image_depend_on_no_other_image() -> None:
    """Whether another image is fooled early changes nothing for the ones that are left."""
    p = problem(30)
    wrong = p.labels.copy()
    wrong[::2] = 1 - wrong[::2]
    all_, some = (_square(q, p.model, queries=30) for q in (p, p._replace(labels=wrong)))
    for epsilon in EPSILONS:
        assert torch.equal(all_[epsilon][1::2], some[epsilon][1::2])


@pytest.mark.parametrize("options", [{"queries": 1}, {"queries": 2.5}, {"p_init": 0.0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    key = next(iter(options))
    with pytest.raises(ConfigError, match=f"^options.{key}: expected "):
        check_options(ATTACKS.get("square").function, options, "square", "options")
