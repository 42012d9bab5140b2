"""Attack one network with full knowledge of it, and look for signs of masked gradients.

The search measures black-box attacks and noise only. To see whether a network merely masks its
gradients, this audit attacks the network itself: by PGD with restarts at the epsilons of the
transferred attack, by AutoAttack, and by attacks that minimise the perturbation.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.audit.auto_attack.ensemble import Budget, auto_attack
from simreg_core.audit.masking import (
    AuditCurve,
    MinimalNorms,
    masking_warnings,
    weakness_warnings,
)
from simreg_core.audit.whitebox import (
    AttackResult,
    Norm,
    carlini_wagner_l2,
    deepfool_l2,
    hop_skip_jump,
    pgd,
)
from simreg_core.errors import counted
from simreg_core.registry import ATTACKS
from simreg_core.robustness.attack import AttackInput, prepare
from simreg_core.robustness.foolbox_bridge import frozen, predict_all
from simreg_core.seeding import generator

log = logging.getLogger(__name__)

LARGE_EPSILON = 0.5  # this Linf ball contains a uniformly grey image, around any image
_BATCH_SIZE = 250


class AuditPlan(NamedTuple):
    """Strength of the attacks."""

    epsilons: tuple[float, ...]
    """Ascending, > 0, those of a Linf attack. :data:`LARGE_EPSILON` is added to them."""
    steps: int = 50
    few_steps: int = 10
    restarts: int = 3
    num_minimal: int = 30
    """Number of (first) images for DeepFool, Carlini-Wagner and HopSkipJump."""
    num_auto: int = 50
    """Number of (first) images for AutoAttack; 0: none."""
    auto_steps: int = 100
    """Gradients per image of AutoAttack's gradient attacks, for each target class."""
    auto_queries: int = 1000
    """Scores per image of AutoAttack's Square; 5,000 in the paper."""
    carlini_wagner_steps: int = 200
    """Steps of Adam for each of nine constants."""
    hop_skip_jump_steps: int = 20
    seed: int = 0


class AuditReport(NamedTuple):
    """All results of an audit."""

    clean_accuracy: float
    num_images: int
    curves: list[AuditCurve]
    minimal: list[MinimalNorms]
    broken: Mapping[str, tuple[int, ...]]
    """Images that each attack of AutoAttack was the first to break, up to each epsilon."""
    warnings: list[str]


def audit(
    model: nn.Module, surrogate: nn.Module, images: Tensor, labels: Tensor, plan: AuditPlan
) -> AuditReport:
    """Attack a network on images (N, C, H, W) in [0, 1] with labels (N,), int64.

    The attacks have full knowledge of ``model``, or use FGSM transferred from ``surrogate``, noise
    or decisions only.
    """
    audited = _Audit(model, images, labels, plan)
    black_box = [audited.black_box(name, surrogate) for name in ("transfer_fgsm", "uniform")]
    first, strong, strong_on_few_images = audited.restarted()
    few = audited.pgd_curve("linf", plan.few_steps)
    l2 = audited.pgd_curve("l2", plan.steps)
    *minimal, decision_based = audited.minimal()
    warnings = masking_warnings(strong, few, first, black_box, minimal, decision_based)
    curves = [*black_box, few, first, strong, l2]
    broken: Mapping[str, tuple[int, ...]] = {}
    if plan.num_auto:
        auto, broken = audited.auto_attack()
        curves.append(auto)
        warnings += weakness_warnings(strong_on_few_images, auto)
    return AuditReport(
        float(audited.is_correct(images).double().mean()),
        len(labels),
        curves,
        [*minimal, decision_based],
        broken,
        warnings,
    )


@dataclass(frozen=True)
class _Audit:
    model: nn.Module
    images: Tensor
    labels: Tensor
    plan: AuditPlan

    @property
    def epsilons(self) -> tuple[float, ...]:
        return tuple(sorted({*self.plan.epsilons, LARGE_EPSILON}))

    def curve(
        self, attack: str, norm: Norm, conditions: str, withstands: Callable[[float], Tensor]
    ) -> AuditCurve:
        log.info("%s (%s)", attack, conditions)
        withstood = [withstands(eps).double() for eps in self.epsilons]
        accuracies = tuple(float(found.mean()) for found in withstood)
        return AuditCurve(attack, norm, conditions, len(withstood[0]), self.epsilons, accuracies)

    def is_correct(self, images: Tensor) -> Tensor:
        with frozen(self.model):
            return predict_all(self.model, images, _BATCH_SIZE) == self.labels

    def black_box(self, name: str, surrogate: nn.Module) -> AuditCurve:
        rng = generator(self.plan.seed, f"audit {name}", device=self.images.device)
        source = AttackInput(self.images, self.labels, rng, surrogate)
        perturbed = prepare(ATTACKS.get(name), source)
        return self.curve(name, "linf", "black box", lambda eps: self.is_correct(perturbed(eps)))

    def pgd_curve(self, norm: Norm, steps: int) -> AuditCurve:
        """PGD with one restart. The L2 radius is that of the corners of the Linf ball."""
        root, conditions = 1.0, f"{counted(steps, 'step')}, 1 restart"
        if norm == "l2":
            root = math.sqrt(self.images[0].numel())
            conditions += f", radius epsilon * {root:g}"

        def withstands(epsilon: float) -> Tensor:
            return self.withstands_pgd(norm, epsilon * root, steps)

        return self.curve(f"pgd_{norm}", norm, conditions, withstands)

    def restarted(self) -> tuple[AuditCurve, AuditCurve, AuditCurve]:
        """Linf PGD after the first restart and after all; an image must withstand each restart.

        The third curve is the second on the images of AutoAttack alone.
        """
        steps, restarts, num_auto = self.plan.steps, self.plan.restarts, self.plan.num_auto
        passed = {}
        for epsilon in self.epsilons:
            log.info("pgd_linf (%d steps, %d restarts) at %g", steps, restarts, epsilon)
            passed[epsilon] = torch.stack(
                [self.withstands_pgd("linf", epsilon, steps, n) for n in range(restarts)]
            )
        one, many = (f"{counted(steps, 'step')}, {counted(n, 'restart')}" for n in (1, restarts))
        return (
            self.curve("pgd_linf", "linf", one, lambda eps: passed[eps][0]),
            self.curve("pgd_linf", "linf", many, lambda eps: passed[eps].all(dim=0)),
            self.curve("pgd_linf", "linf", many, lambda eps: passed[eps].all(dim=0)[:num_auto]),
        )

    def auto_attack(self) -> tuple[AuditCurve, Mapping[str, tuple[int, ...]]]:
        """AutoAttack on the first images, and what each of its attacks broke."""
        n, budget = self.plan.num_auto, Budget(self.plan.auto_steps, self.plan.auto_queries)
        log.info("auto_attack (%d images)", n)
        task = self.model, self.images[:n], self.labels[:n]
        found = auto_attack(*task, self.epsilons, budget, self.plan.seed)
        stands = dict(zip(self.epsilons, found.stands, strict=True))
        conditions = f"{counted(budget.steps, 'step')}, {budget.queries} queries"
        return self.curve("auto_attack", "linf", conditions, stands.__getitem__), found.broken

    def withstands_pgd(self, norm: Norm, epsilon: float, steps: int, restart: int = 0) -> Tensor:
        result = pgd(
            self.model,
            self.images,
            self.labels,
            norm=norm,
            epsilon=epsilon,
            steps=steps,
            # 4 epsilon in total: across the ball, and the same again to follow curved gradients.
            rel_stepsize=4 / steps,
            rng=generator(self.plan.seed, f"audit pgd {norm} {steps}", restart),
        )
        return ~result.success

    def minimal(self) -> list[MinimalNorms]:
        """DeepFool, Carlini-Wagner and, last, HopSkipJump on the same first images."""
        plan = self.plan
        n, wagner, jumps = plan.num_minimal, plan.carlini_wagner_steps, plan.hop_skip_jump_steps
        log.info("deepfool_l2, carlini_wagner_l2, hop_skip_jump (%d images)", n)
        task = self.model, self.images[:n], self.labels[:n]
        rng = generator(plan.seed, "audit hop_skip_jump")
        deepfool = deepfool_l2(*task)
        carlini = carlini_wagner_l2(*task, steps=wagner)
        decision_based = hop_skip_jump(*task, steps=jumps, rng=rng)
        return [
            _norms("deepfool_l2", "50 steps", deepfool),
            _norms("carlini_wagner_l2", f"9 constants, {counted(wagner, 'step')} each", carlini),
            _norms("hop_skip_jump", counted(jumps, "step"), decision_based),
        ]


def _norms(attack: str, conditions: str, result: AttackResult) -> MinimalNorms:
    norms = result.norms.where(result.success, torch.inf).tolist()
    found = statistics.median(norms)
    median = found if math.isfinite(found) else None
    rate = float(result.success.double().mean())
    return MinimalNorms(attack, conditions, len(norms), rate, median)
