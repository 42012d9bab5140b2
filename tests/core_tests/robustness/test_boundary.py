from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.config.robustness import BoundaryConfig
from simreg_core.robustness.boundary import (
    Perturbations,
    median_distance,
    minimal_perturbations,
    starting_points,
)
from simreg_core.seeding import generator
from tests import oracles
from tests.linear_models import SIDE, Problem, as_images, problem


def _attack(p: Problem, *, steps: int = 50, repeats: int = 1, seed: int = 0) -> Perturbations:
    config = BoundaryConfig(steps=steps, repeats=repeats)
    return minimal_perturbations(p.model, p.images, p.targets, config, generator(seed, "boundary"))


def _ratios(p: Problem, found: Perturbations) -> oracles.Array:
    ratios: oracles.Array = np.sqrt(found.squared_distance.numpy() * SIDE * SIDE) / p.distances
    return ratios


@pytest.mark.slow
def test_many_steps_come_near_the_distance_to_the_plane_and_never_below() -> None:
    p = problem(10)
    ratios = _ratios(p, _attack(p, steps=4000))
    assert ratios.min() > 1 - 1e-4
    assert np.median(ratios) < 1.3


def test_result_is_what_it_says() -> None:
    p = problem(20)
    found = _attack(p)
    assert bool(found.squared_distance.isfinite().all())
    adversarial = found.adversarial.flatten(1).double().numpy()
    assert (oracles.margins(p.weights, p.bias, adversarial, p.labels) < 1e-5).all()
    assert p.model(found.adversarial).argmax(dim=1).tolist() == (1 - p.labels).tolist()
    squares = ((adversarial - p.images.flatten(1).double().numpy()) ** 2).mean(axis=1)
    np.testing.assert_allclose(found.squared_distance.numpy(), squares, rtol=1e-12)


def test_images_stay_images() -> None:
    flat = np.random.default_rng(0).uniform(-0.5, 1.5, (20, SIDE * SIDE)).clip(0, 1)
    p = problem()
    labels = (flat @ p.weights.T + p.bias).argmax(axis=1)
    found = _attack(p._replace(flat=flat, labels=labels), steps=100)
    assert float(found.adversarial.min()) >= 0
    assert float(found.adversarial.max()) <= 1


def test_more_steps_and_more_repeats_come_nearer() -> None:
    p = problem(20)
    few, many = (_ratios(p, _attack(p, steps=steps)) for steps in (1, 500))
    assert np.median(many) < 0.8 * np.median(few)
    one, five = (_attack(p, repeats=repeats).squared_distance for repeats in (1, 5))
    assert float(five.median()) < float(one.median())


def test_network_with_one_answer_has_no_boundary() -> None:
    p = problem(6)
    p = p._replace(bias=np.array([100.0, 0.0]), labels=np.zeros(6, dtype=np.int64))
    found = _attack(p)
    assert found.squared_distance.tolist() == [math.inf] * 6
    assert torch.equal(found.adversarial, p.images)
    assert median_distance(found) is None


class _Contrast(nn.Module):
    """Class 1 for images whose pixels vary, class 0 for flat ones."""

    def forward(self, images: Tensor) -> Tensor:
        spread = images.flatten(1).std(dim=1, correction=0)
        return torch.stack([torch.full_like(spread, 0.1), spread], dim=1)


@pytest.mark.parametrize("has_others", [False, True])
def test_images_of_one_class_are_attacked_from_elsewhere(has_others: bool) -> None:
    images = torch.linspace(0.4, 0.6, 5)[:, None, None, None].expand(5, 1, 4, 4).contiguous()
    others = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    others[..., ::2] = 255
    found = minimal_perturbations(
        _Contrast(),
        images,
        torch.zeros(5, dtype=torch.int64),
        BoundaryConfig(steps=200, repeats=2),
        generator(0, "boundary"),
        others=others if has_others else None,
    )
    # The nearest image of standard deviation 0.1 has a squared distance per pixel of 0.01.
    assert all(0.0099 < distance < 0.02 for distance in found.squared_distance.tolist())
    assert _Contrast()(found.adversarial).argmax(dim=1).tolist() == [1] * 5


@pytest.mark.parametrize(
    ("distances", "median"),
    [
        ([0.1, 0.3, 0.2], 0.2),
        ([0.1, 0.3], 0.2),
        ([0.0, 0.1, math.inf], 0.1),
        ([0.1, math.inf, math.inf], None),
        ([0.1, math.inf], None),
        ([], None),
    ],
)
def test_metric_is_the_median_over_all_images(distances: list[float], median: float | None) -> None:
    squared = torch.tensor(distances, dtype=torch.float64)
    empty = torch.zeros(len(distances), 1, 2, 2)
    assert median_distance(Perturbations(empty, squared)) == (
        None if median is None else pytest.approx(median)
    )


def test_same_generator_gives_the_same_perturbations_and_another_one_others() -> None:
    p = problem(10)
    one, same, other = (_attack(p, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.adversarial, same.adversarial)
    assert not torch.equal(one.adversarial, other.adversarial)


def test_images_network_and_global_generators_are_left_alone() -> None:
    p = problem(10)
    model, images = p.model.train(), p.images
    before = (torch.random.get_rng_state(), str(np.random.get_state()))
    config = BoundaryConfig(steps=5, repeats=2)
    minimal_perturbations(model, images, p.targets, config, generator(0, "boundary"))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]
    assert torch.equal(images, p.images)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_are_bounded() -> None:
    flat = np.random.default_rng(0).uniform(0.3, 0.7, (600, SIDE * SIDE))
    p = problem()
    model = p.model
    images = as_images(flat)
    labels = model(images).argmax(dim=1)
    model.largest_batch = 0
    config = BoundaryConfig(steps=2, repeats=1)
    minimal_perturbations(model, images, labels, config, generator(0, "boundary"))
    assert 0 < model.largest_batch <= 250


def test_starting_points_are_of_another_class_and_change_with_the_repeat() -> None:
    predicted = torch.tensor([0, 0, 1, 1, 1, 2])
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    batch = torch.arange(6)
    starts = list(starting_points(predicted, labels, batch, 6, generator(0, "starts")))
    for image in range(6):
        own = [int(start[index == image]) for index, start in starts]
        usable = [j for j in range(6) if predicted[j] != labels[image]]
        assert sorted(own[: len(usable)]) == usable
        assert set(own) == set(usable)
