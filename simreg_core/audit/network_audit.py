"""Attack one network with full knowledge of it, and look for signs of masked gradients.

The search measures black-box attacks and noise. Whether a network only hides its gradients shows
when it is attacked itself: at the epsilons of the transferred attack by PGD with restarts, and by
attacks that look for the smallest perturbation.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.audit.masking import AuditCurve, MinimalNorms, masking_warnings
from simreg_core.audit.whitebox import (
    AttackResult,
    carlini_wagner_l2,
    deepfool_l2,
    hop_skip_jump,
    pgd_l2,
    pgd_linf,
)
from simreg_core.registry import ATTACKS
from simreg_core.robustness.attack import AttackInput, prepare
from simreg_core.robustness.foolbox_bridge import frozen, predict_all
from simreg_core.seeding import generator

if TYPE_CHECKING:
    from simreg_core.audit.whitebox import Norm

log = logging.getLogger(__name__)

LARGE_EPSILON = 0.5  # in this Linf ball lies a uniformly grey image, whatever the image
_BATCH_SIZE = 250


class AuditPlan(NamedTuple):
    """How hard a network is attacked."""

    epsilons: tuple[float, ...]
    """Ascending, above 0; those of the transferred attack. :data:`LARGE_EPSILON` joins them."""
    steps: int = 50
    few_steps: int = 10
    restarts: int = 3
    num_minimal: int = 30
    """Images, the first ones, that DeepFool, Carlini-Wagner and HopSkipJump attack."""
    carlini_wagner_steps: int = 200
    """Steps of Adam for each of nine constants."""
    hop_skip_jump_steps: int = 20
    seed: int = 0


class AuditReport(NamedTuple):
    """Everything that an audit found."""

    clean_accuracy: float
    num_images: int
    curves: list[AuditCurve]
    minimal: list[MinimalNorms]
    warnings: list[str]


def audit(
    model: nn.Module, surrogate: nn.Module, images: Tensor, labels: Tensor, plan: AuditPlan
) -> AuditReport:
    """Attack a network with and without knowing it, and compare.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        surrogate: The network that FGSM is transferred from.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        plan: Epsilons, steps, restarts, numbers of images, seed.
    """
    epsilons = tuple(sorted({*plan.epsilons, LARGE_EPSILON}))
    clean = float(_is_correct(model, images, labels).double().mean())

    def curve(
        name: str, norm: str, conditions: str, accuracy: Callable[[float], float]
    ) -> AuditCurve:
        log.info("%s (%s)", name, conditions)
        return AuditCurve(
            name, norm, conditions, len(labels), epsilons, tuple(map(accuracy, epsilons))
        )

    def black_box(name: str) -> AuditCurve:
        rng = generator(plan.seed, f"audit {name}", device=images.device)
        perturbed = prepare(ATTACKS.get(name), AttackInput(images, labels, rng, surrogate))
        return curve(
            name,
            "linf",
            "black box",
            lambda eps: float(_is_correct(model, perturbed(eps), labels).double().mean()),
        )

    blind = [black_box("transfer_fgsm"), black_box("uniform")]
    first, strong = _restarted(model, images, labels, epsilons, plan)
    few = curve(
        "pgd_linf",
        "linf",
        f"{plan.few_steps} steps, 1 restart",
        lambda eps: _pgd_accuracy(model, images, labels, "linf", eps, plan.few_steps, plan.seed),
    )
    root = math.sqrt(images[0].numel())
    l2 = curve(
        "pgd_l2",
        "l2",
        f"{plan.steps} steps, 1 restart, radius epsilon * {root:g}",
        lambda eps: _pgd_accuracy(model, images, labels, "l2", eps * root, plan.steps, plan.seed),
    )
    minimal, decision_based = _minimal_attacks(model, images, labels, plan)
    return AuditReport(
        clean,
        len(labels),
        [*blind, few, first, strong, l2],
        [*minimal, decision_based],
        masking_warnings(strong, few, first, blind, minimal, decision_based),
    )


def _restarted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilons: tuple[float, ...],
    plan: AuditPlan,
) -> tuple[AuditCurve, AuditCurve]:
    """Linf PGD after its first restart, and after all: an image counts if it withstood each."""
    first, all_ = [], []
    for epsilon in epsilons:
        log.info("pgd_linf (%d steps, %d restarts) at %g", plan.steps, plan.restarts, epsilon)
        withstands = torch.stack(
            [
                ~_pgd(model, images, labels, "linf", epsilon, plan.steps, plan.seed, n).success
                for n in range(plan.restarts)
            ]
        )
        first.append(float(withstands[0].double().mean()))
        all_.append(float(withstands.all(dim=0).double().mean()))
    conditions = f"{plan.steps} steps, {{}} restart{{}}"
    few = conditions.format(1, "")
    many = conditions.format(plan.restarts, "s" if plan.restarts > 1 else "")
    n = len(labels)
    return (
        AuditCurve("pgd_linf", "linf", few, n, epsilons, tuple(first)),
        AuditCurve("pgd_linf", "linf", many, n, epsilons, tuple(all_)),
    )


def _pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    steps: int,
    seed: int,
    restart: int,
) -> AttackResult:
    attack = pgd_linf if norm == "linf" else pgd_l2
    # In all 4 epsilon: across the ball, and as much again to follow curved gradients.
    return attack(
        model,
        images,
        labels,
        epsilon=epsilon,
        steps=steps,
        rel_stepsize=4 / steps,
        restarts=1,
        rng=generator(seed, f"audit pgd {norm} {steps}", restart),
    )


def _pgd_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    steps: int,
    seed: int,
) -> float:
    result = _pgd(model, images, labels, norm, epsilon, steps, seed, 0)
    return float((~result.success).double().mean())


def _minimal_attacks(
    model: nn.Module, images: Tensor, labels: Tensor, plan: AuditPlan
) -> tuple[list[MinimalNorms], MinimalNorms]:
    """DeepFool and Carlini-Wagner, then HopSkipJump, on the same first images."""
    log.info("deepfool_l2, carlini_wagner_l2, hop_skip_jump (%d images)", plan.num_minimal)
    images, labels = images[: plan.num_minimal], labels[: plan.num_minimal]
    rng = generator(plan.seed, "audit hop_skip_jump")
    deepfool = deepfool_l2(model, images, labels, steps=50)
    carlini_wagner = carlini_wagner_l2(
        model, images, labels, steps=plan.carlini_wagner_steps, binary_search_steps=9
    )
    decision_based = hop_skip_jump(model, images, labels, steps=plan.hop_skip_jump_steps, rng=rng)
    return (
        [
            _norms("deepfool_l2", "50 steps", deepfool),
            _norms(
                "carlini_wagner_l2",
                f"9 constants, {plan.carlini_wagner_steps} steps each",
                carlini_wagner,
            ),
        ],
        _norms("hop_skip_jump", f"{plan.hop_skip_jump_steps} steps", decision_based),
    )


def _norms(attack: str, conditions: str, result: AttackResult) -> MinimalNorms:
    norms = result.norms.where(result.success, torch.inf).tolist()
    median = statistics.median(norms)
    return MinimalNorms(
        attack,
        conditions,
        len(norms),
        float(result.success.double().mean()),
        median if math.isfinite(median) else None,
    )


def _is_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with frozen(model):
        return predict_all(model, images, _BATCH_SIZE) == labels
