"""Attacks on the attacked network itself, for audits: PGD, DeepFool, Carlini-Wagner, HopSkipJump.

Foolbox proposes; the wrapper here guarantees: results lie in [0, 1] and in the norm ball, success
is evaluated again on exactly what is returned, and norms are measured on it. Every parameter is
stated. Norms are over all values of an image, in pixel units of [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.robustness.boundary import starting_points
from simreg_core.robustness.foolbox_bridge import (
    draw_seed,
    frozen,
    predict,
    predict_all,
    run_foolbox,
)

Norm = Literal["linf", "l2"]
_BATCH_SIZE = 250


class AttackResult(NamedTuple):
    """What one attack achieved on N images."""

    adversarial: Tensor
    """(N, C, H, W) in [0, 1]. Of a minimal attack that failed: the image itself."""
    success: Tensor
    """bool (N,): the network misclassifies ``adversarial``."""
    norms: Tensor
    """float64 (N,): norm of ``adversarial - images``."""


def pgd_linf(model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> AttackResult:
    """Projected gradient ascent in the Linf ball (Madry et al., arXiv:1706.06083).

    Options as of :func:`pgd`.
    """
    return pgd(model, images, labels, norm="linf", **options)


def pgd_l2(model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> AttackResult:
    """Projected gradient ascent in the L2 ball; options as of :func:`pgd`."""
    return pgd(model, images, labels, norm="l2", **options)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    steps: int,
    rel_stepsize: float,
    restarts: int,
    rng: torch.Generator,
) -> AttackResult:
    """Gradient ascent on the cross-entropy from random starts; the worst restart counts.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        norm: Of the ball.
        epsilon: Radius of the ball, > 0.
        steps: Gradient steps of each restart.
        rel_stepsize: Length of a step in parts of epsilon. ``steps * rel_stepsize`` must be 2 or
            more: a random start may lie on the far side of the ball.
        restarts: Random starts; of each image the one with the lowest margin is returned.
        rng: Advanced.

    Raises:
        ValueError: the steps cannot cross the ball, or a count or epsilon is not positive.
    """
    if steps * rel_stepsize < 2:
        raise ValueError(f"steps * rel_stepsize must be at least 2, got {steps * rel_stepsize:g}")
    if epsilon <= 0 or restarts < 1:
        raise ValueError(f"epsilon and restarts must be positive, got {epsilon:g} and {restarts}")
    name = (
        "LinfProjectedGradientDescentAttack"
        if norm == "linf"
        else ("L2ProjectedGradientDescentAttack")
    )
    parameters = {
        "rel_stepsize": rel_stepsize,
        "abs_stepsize": None,
        "steps": steps,
        "random_start": True,
    }

    def attack(batch: Tensor, truth: Tensor) -> Tensor:
        best, lowest = batch, torch.full((len(batch),), torch.inf, device=batch.device)
        for _ in range(restarts):
            proposal = run_foolbox(
                name, parameters, model, batch, truth, seed=draw_seed(rng), epsilon=epsilon
            )
            proposal = inside(batch, proposal, norm, epsilon)
            margin = _margins(model, proposal, truth)
            is_worse = margin < lowest
            best = torch.where(is_worse[:, None, None, None], proposal, best)
            lowest = torch.where(is_worse, margin, lowest)
        return best

    return _result(model, images, labels, _in_batches(attack, images, labels), norm, epsilon)


def deepfool_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
) -> AttackResult:
    """Small L2 perturbations by linearising the network (DeepFool, arXiv:1511.04599).

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        steps: Linearisations.
        candidates: Most likely classes that are considered.
        overshoot: Part of the perturbation by which the boundary is crossed.
    """
    parameters = {
        "steps": steps,
        "candidates": candidates,
        "overshoot": overshoot,
        "loss": "logits",
    }
    return _minimal("L2DeepFoolAttack", parameters, model, images, labels)


def carlini_wagner_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 200,
    binary_search_steps: int = 9,
    stepsize: float = 0.05,
    initial_const: float = 1.0,
) -> AttackResult:
    """Small L2 perturbations by optimisation (Carlini, Wagner, arXiv:1608.04644).

    Images are optimised as tanh(w), whose slope almost vanishes at black and white pixels: the
    published step of 0.01 takes thousands of steps to move those. Median L2 of 30 images each on
    two Fashion-MNIST networks: 0.46 and 0.63 with these defaults, 0.48 and 0.65 by DeepFool, and
    0.81 and 0.87 with 200 steps of 0.01 and a first constant of 0.01. All steps are taken: Foolbox
    would stop a whole batch where its summed loss stalls.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        steps: Steps of Adam for each constant.
        binary_search_steps: Constants that are tried.
        stepsize: Learning rate of Adam.
        initial_const: First weight of the misclassification against the norm.
    """
    parameters = {
        "binary_search_steps": binary_search_steps,
        "steps": steps,
        "stepsize": stepsize,
        "confidence": 0,
        "initial_const": initial_const,
        "abort_early": False,
    }
    return _minimal("L2CarliniWagnerAttack", parameters, model, images, labels)


def hop_skip_jump(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    rng: torch.Generator,
    steps: int = 20,
    initial_gradient_eval_steps: int = 100,
    max_gradient_eval_steps: int = 1000,
) -> AttackResult:
    """Small L2 perturbations from decisions alone (HopSkipJump, arXiv:1904.02144).

    Starts from given images that the network assigns to another class; images without such a
    starting point are not fooled.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        rng: Advanced.
        steps: Gradient estimates.
        initial_gradient_eval_steps: Decisions asked for the first estimate; the s-th takes
            sqrt(s) times as many.
        max_gradient_eval_steps: Most decisions of one estimate.
    """
    parameters = {
        "init_attack": None,
        "steps": steps,
        "initial_gradient_eval_steps": initial_gradient_eval_steps,
        "max_gradient_eval_steps": max_gradient_eval_steps,
        "stepsize_search": "geometric_progression",
        "gamma": 1.0,
        "tensorboard": False,
        "constraint": "l2",
    }

    def starts(predicted: Tensor, batch: Tensor) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for index, start in starting_points(predicted, labels, batch, 1, rng):
            yield index, {"starting_points": images[start], "seed": draw_seed(rng)}

    return _minimal("HopSkipJumpAttack", parameters, model, images, labels, starts)


def inside(images: Tensor, proposal: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """``proposal`` moved into the norm ball around ``images`` and into [0, 1].

    A value that is not finite becomes the image's own.
    """
    change = torch.where(proposal.isfinite(), proposal - images, 0.0)
    if norm == "linf":
        change = change.clamp(-epsilon, epsilon)
    else:
        length = change.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        change = change * (epsilon / length).clamp_max(1)
    return (images + change).clamp(0, 1)


_Starts = Callable[[Tensor, Tensor], Iterator[tuple[Tensor, dict[str, Any]]]]


def _minimal(
    attack: str,
    parameters: Mapping[str, Any],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    starts: _Starts = lambda predicted, batch: iter([(batch, {})]),
) -> AttackResult:
    """An attack that minimises the L2 norm, on the images that are not misclassified anyway."""
    adversarial = images.clone()
    with frozen(model):
        predicted = predict_all(model, images, _BATCH_SIZE)
        for batch in (predicted == labels).nonzero()[:, 0].split(_BATCH_SIZE):
            for index, call in starts(predicted, batch) if len(batch) else ():
                proposal = run_foolbox(
                    attack, parameters, model, images[index], labels[index], **call
                )
                usable = torch.where(proposal.isfinite(), proposal, images[index]).clamp(0, 1)
                fools = predict(model, usable) != labels[index]
                adversarial[index[fools]] = usable[fools]
    return _result(model, images, labels, adversarial, "l2", None)


def _result(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    proposal: Tensor,
    norm: Norm,
    epsilon: float | None,
) -> AttackResult:
    """Project once more, and measure what is returned and nothing else."""
    adversarial = proposal if epsilon is None else inside(images, proposal, norm, epsilon)
    with frozen(model):
        predicted = predict_all(model, adversarial, _BATCH_SIZE)
    change = (adversarial - images).double().flatten(1)
    norms = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    return AttackResult(adversarial, predicted != labels, norms)


def _in_batches(
    attack: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor
) -> Tensor:
    batches = zip(images.split(_BATCH_SIZE), labels.split(_BATCH_SIZE), strict=True)
    return torch.cat([attack(batch, truth) for batch, truth in batches])


@torch.no_grad()
def _margins(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label minus the largest other one; below 0 the network is wrong."""
    with frozen(model):
        logits: Tensor = model(images)
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
