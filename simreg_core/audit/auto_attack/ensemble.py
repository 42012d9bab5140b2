"""The four attacks of AutoAttack in sequence, each on the images that still stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.audit.auto_attack.apgd import (
    Loss,
    apgd,
    cross_entropy,
    logit_ratio,
    targeted_logit_ratio,
)
from simreg_core.audit.auto_attack.fab import fab
from simreg_core.audit.whitebox import inside
from simreg_core.robustness.foolbox_bridge import frozen, predict
from simreg_core.robustness.square import square_search
from simreg_core.seeding import generator

_BATCH_SIZE = 250
_MOST_TARGETS = 9
_P_INIT = 0.8


class Budget(NamedTuple):
    """Strength of the attacks; 100 steps and 5,000 queries in the paper."""

    steps: int
    """Gradients per image, of FAB and targeted APGD for each target class."""
    queries: int
    """Scores per image, of Square."""


class AutoAttackResult(NamedTuple):
    """Which images withstand AutoAttack."""

    stands: Tensor
    """bool (E, N): image n is classified correctly under all attacks at epsilon e."""
    broken: Mapping[str, tuple[int, ...]]
    """By attack, for each epsilon: the images that it was the first to break there or below."""


def auto_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    budget: Budget,
    seed: int = 0,
) -> AutoAttackResult:
    """Attack images with APGD on the cross-entropy, APGD on DLR, FAB and Square, Linf.

    APGD on DLR and FAB go towards each of the nine other classes with the largest logits; with
    three classes or fewer, DLR is untargeted. What breaks an image at one epsilon lies in the balls
    of all larger ones, so the image is not attacked again. FAB depends on no epsilon and attacks an
    image once. Every result is moved into the ball and into [0, 1] before the network judges it.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        epsilons: Radii, ascending.
        budget: Steps and queries.
        seed: Seed of all draws.
    """
    batches = zip(images.split(_BATCH_SIZE), labels.split(_BATCH_SIZE), strict=True)
    with frozen(model):
        runs = [
            _Sequence(
                model, *batch, budget, generator(seed, "auto_attack", n, device=images.device)
            )
            for n, batch in enumerate(batches)
        ]
        for run in runs:
            for epsilon in epsilons:
                run.attack(epsilon)
    broken = {
        name: tuple(sum(counts) for counts in zip(*(run.broken[name] for run in runs), strict=True))
        for name in runs[0].broken
    }
    return AutoAttackResult(torch.cat([torch.stack(run.stood) for run in runs], dim=1), broken)


class _Sequence:
    """The attacks on one batch."""

    def __init__(
        self, model: nn.Module, images: Tensor, labels: Tensor, budget: Budget, rng: torch.Generator
    ) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.budget, self.rng = budget, rng
        with torch.no_grad():
            logits = model(images)
        self.stands = logits.argmax(dim=1) == labels
        ranked = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
        self.targets = ranked[:, : min(_MOST_TARGETS, logits.shape[1] - 1)]
        can_target = logits.shape[1] > 3
        self.dlr: tuple[Loss, int] = (
            (targeted_logit_ratio, self.targets.shape[1]) if can_target else (logit_ratio, 1)
        )
        self.nearest = images.clone()  # the points that FAB found
        self.is_measured = torch.zeros_like(self.stands)  # by FAB
        self.stood: list[Tensor] = []
        self.broken: dict[str, list[int]] = {}

    def attack(self, epsilon: float) -> None:
        """Run all attacks at an epsilon, which is above those before."""
        attacks: dict[str, Callable[[float], None]] = {
            "apgd_ce": partial(self._apgd, cross_entropy, 1),
            "apgd_dlr": partial(self._apgd, *self.dlr),
            "fab": self._fab,
            "square": self._square,
        }
        for name, run in attacks.items():
            before = int(self.stands.sum())
            if before:
                run(epsilon)
            counts = self.broken.setdefault(name, [])
            counts.append((counts or [0])[-1] + before - int(self.stands.sum()))
        self.stood.append(self.stands.clone())

    def _judge(self, index: Tensor, proposal: Tensor, epsilon: float) -> None:
        moved = inside(self.images[index], proposal, "linf", epsilon)
        self.stands[index] = predict(self.model, moved) == self.labels[index]

    def _apgd(self, loss: Loss, num_targets: int, epsilon: float) -> None:
        for target in self.targets[:, :num_targets].unbind(dim=1):
            index = self.stands.nonzero()[:, 0]
            if not len(index):
                return
            task = self.images[index], self.labels[index], target[index]
            proposal = apgd(
                *(self.model, *task),
                epsilon=epsilon,
                loss=loss,
                steps=self.budget.steps,
                rng=self.rng,
            )
            self._judge(index, proposal, epsilon)

    def _fab(self, epsilon: float) -> None:
        new = (self.stands & ~self.is_measured).nonzero()[:, 0]
        images, labels = self.images[new], self.labels[new]
        distances = torch.full_like(images[:, 0, 0, 0], torch.inf)
        for target in self.targets.unbind(dim=1) if len(new) else ():
            points = fab(self.model, images, labels, target[new], steps=self.budget.steps)
            change = (points - images).abs().amax(dim=(1, 2, 3))
            is_nearer = (change > 0) & (change < distances)
            distances = torch.where(is_nearer, change, distances)
            self.nearest[new[is_nearer]] = points[is_nearer]
        self.is_measured[new] = True
        index = self.stands.nonzero()[:, 0]
        self._judge(index, self.nearest[index], epsilon)

    def _square(self, epsilon: float) -> None:
        index = self.stands.nonzero()[:, 0]
        with torch.no_grad():
            proposal = square_search(
                *(self.model, self.images[index], self.labels[index], epsilon),
                queries=self.budget.queries,
                p_init=_P_INIT,
                rng=self.rng,
            )
        self._judge(index, proposal, epsilon)
