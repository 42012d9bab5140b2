"""Minimal perturbations by the decision-based boundary attack (Brendel et al., arXiv:1712.04248).

The attack uses only the decisions of the attacked network. It starts from other images, or noise,
that the network does not assign to the label, moves them straight towards the attacked image until
just before the decision changes, and walks along the decision boundary from there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import BoundaryConfig
from simreg_core.robustness.foolbox_bridge import (
    draw_seed,
    frozen,
    predict,
    predict_all,
    run_foolbox,
)

_BATCH_SIZE = 250  # results depend on it, because Foolbox shares its draws within a batch
_NUM_NOISE = 100  # images of uniform noise to start from, if no image of another class is known
_BISECTIONS = 10  # leaves a thousandth of the distance to the starting image
_PARAMETERS = {
    "init_attack": None,
    "spherical_step": 1e-2,
    "source_step": 1e-2,
    "source_step_convergance": 1e-7,
    "step_adaptation": 1.5,
    "tensorboard": False,
    "update_stats_every_k": 10,
}


class Perturbations(NamedTuple):
    """The smallest perturbations found for N images."""

    adversarial: Tensor
    """(N, C, H, W) in [0, 1]; the image itself if it is misclassified or nothing was found."""
    squared_distance: Tensor
    """float64 (N,): squared L2 distance to the image per pixel value; infinite if not found."""


def minimal_perturbations(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: BoundaryConfig,
    rng: torch.Generator,
    *,
    others: Tensor | None = None,
) -> Perturbations:
    """The smallest perturbation of every image that ``config.repeats`` boundary attacks find.

    Misclassified images have distance 0. An attack starts from one of the given images; if the
    network assigns all of them to the label, it starts from one of ``others`` or from uniform
    noise. If it assigns these to the label too, nothing is found.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1]; all are attacked.
        labels: int64 (N,).
        config: Steps and repeats.
        rng: Generator of all draws, on any device.
        others: Further images to start from, uint8 (M, C, H, W); converted only if needed.
    """
    found = Perturbations(
        images.clone(),
        torch.full((len(images),), math.inf, dtype=torch.float64, device=images.device),
    )
    with frozen(model):
        predicted = predict_all(model, images, _BATCH_SIZE)
        is_wrong = predicted != labels
        found.squared_distance[is_wrong] = 0
        attack = partial(_attack, model, images, labels, config, rng, found)
        attack(~is_wrong, images, predicted)
        is_left = found.squared_distance.isinf()
        if bool(is_left.any()):
            noise = torch.rand((_NUM_NOISE, *images.shape[1:]), generator=rng, device=rng.device)
            pool = noise.to(images)
            if others is not None:
                pool = torch.cat([others.to(images) / 255, pool])
            attack(is_left, pool, predict_all(model, pool, _BATCH_SIZE))
    return found


def _attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: BoundaryConfig,
    rng: torch.Generator,
    best: Perturbations,
    is_attacked: Tensor,
    pool: Tensor,
    predicted: Tensor,
) -> None:
    """Attack some of the images from points of ``pool``; keeps what is better in ``best``."""
    for batch in is_attacked.nonzero()[:, 0].split(_BATCH_SIZE):
        for index, starts in starting_points(predicted, labels, batch, config.repeats, rng):
            originals, truth = images[index], labels[index]
            proposal = run_foolbox(
                "BoundaryAttack",
                {**_PARAMETERS, "steps": config.steps},
                model,
                originals,
                truth,
                seed=draw_seed(rng),
                starting_points=to_boundary(model, originals, pool[starts], truth),
            ).clamp(0, 1)
            success = predict(model, proposal) != truth
            distance = (proposal - originals).double().flatten(1).square().mean(dim=1)
            is_better = success & (distance < best.squared_distance[index])
            better = index[is_better]
            best.adversarial[better] = proposal[is_better]
            best.squared_distance[better] = distance[is_better]


def starting_points(
    predicted: Tensor, labels: Tensor, batch: Tensor, repeats: int, rng: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each repeat, images of a batch, each with an image of a pool from another class.

    Repeats use different starting points until an image has no more; then they start over. Images
    without any are left out.

    Args:
        predicted: int64 (P,), the network's decisions on the pool.
        labels: int64 (N,).
        batch: int64 (B,), indices of the images to attack.
        repeats: Number of yields.
        rng: Generator on any device.

    Yields:
        Indices of attacked images and of their starting points, int64 of the same length.
    """
    is_start = predicted[None] != labels[batch][:, None]
    chance = torch.rand(is_start.shape, generator=rng, device=rng.device).to(labels.device)
    order = chance.masked_fill(~is_start, -1).argsort(dim=1, descending=True)
    count = is_start.sum(dim=1)
    has_start = count > 0
    for repeat in range(repeats if bool(has_start.any()) else 0):
        column = repeat % count[has_start]
        yield batch[has_start], order[has_start].gather(1, column[:, None])[:, 0]


def median_distance(perturbations: Perturbations) -> float | None:
    """Median of the squared distances per pixel value; None if infinite, or without images."""
    distances = perturbations.squared_distance.tolist()
    median = statistics.median(distances) if distances else math.inf
    return median if math.isfinite(median) else None


def to_boundary(model: nn.Module, originals: Tensor, starts: Tensor, labels: Tensor) -> Tensor:
    """The misclassified ``starts``, moved towards ``originals`` while they stay misclassified."""
    near = torch.zeros(len(starts), 1, 1, 1, dtype=starts.dtype, device=starts.device)
    far = torch.ones_like(near)  # known to be misclassified: the starting point itself
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        fools = (predict(model, originals.lerp(starts, middle)) != labels)[:, None, None, None]
        near, far = torch.where(fools, near, middle), torch.where(fools, middle, far)
    # lerp at 1 may differ from the starting point in the last digit.
    return torch.where(far == 1, starts, originals.lerp(starts, far)).clamp(0, 1)
