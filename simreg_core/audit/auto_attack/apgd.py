"""Auto-PGD, Linf, and its losses (Croce, Hein, arXiv:2003.01690, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.audit.whitebox import inside
from simreg_core.robustness.gradients import Slope, slope
from simreg_core.robustness.square import margins

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (N, K), labels (N,) and target classes (N,) to values (N,) to be raised."""

_MOMENTUM = 0.75
_ENOUGH = 0.75  # share of the steps since a checkpoint that must have raised the loss
_FIRST, _SHORTEST, _SHRINK = 0.22, 0.06, 0.03  # distances of checkpoints, in shares of all steps
_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy. Its gradient vanishes where the softmax is saturated."""
    return functional.cross_entropy(logits, labels, reduction="none")


def logit_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """DLR: minus the margin, over the difference of the first and third largest logits.

    With two classes there is no third, and the loss is minus the margin.
    """
    margin = margins(logits, labels)
    if logits.shape[1] < 3:
        return -margin
    top = logits.topk(3, dim=1).values
    return -margin / (top[:, 0] - top[:, 2] + _TINY)


def targeted_logit_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR, for four classes or more."""
    top = logits.topk(4, dim=1).values
    scale = top[:, 0] - top[:, 2:].mean(dim=1) + _TINY
    return (_of(logits, targets) - _of(logits, labels)) / scale


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    epsilon: float,
    loss: Loss,
    steps: int,
    rng: torch.Generator,
) -> Tensor:
    """Misclassified images within the Linf ball, (N, C, H, W); unchanged ones if none is found.

    The attack ascends with momentum from a random start. At checkpoints, it halves the steps of the
    images whose loss rises too seldom, and goes on from their best points.
    """
    found = images.clone()
    noise = torch.empty_like(images).uniform_(-1, 1, generator=rng)
    start = inside(images, images + epsilon * noise / _largest(noise), "linf", epsilon)
    own = partial(_slope, model, loss)
    at = own(start, labels, targets)
    run = _Run(
        *(torch.arange(len(images), device=images.device), images, labels, targets),
        *(start, start, at.value, at.gradient, start, at.value, at.gradient),
        step=torch.full_like(at.value, 2 * epsilon),
        rises=torch.zeros_like(at.value),
        halved=torch.ones_like(labels, dtype=torch.bool),  # nothing to compare with, at first
        best_before=at.value,
    )
    run.drop(at.logits.argmax(dim=1) != labels, found)
    left = _checkpoints(steps)
    window = interval = next(left)
    for number in range(steps):
        if not len(run.labels):
            break
        run.move(epsilon, 1.0 if number == 0 else _MOMENTUM)
        at = own(run.current, run.labels, run.targets)
        run.record(at)
        run.drop(at.logits.argmax(dim=1) != run.labels, found)
        window -= 1
        if window == 0:
            run.check(interval)
            window = interval = next(left)
    return found


def _checkpoints(steps: int) -> Iterator[int]:
    """Distances between checkpoints, in steps."""
    first, shortest, shrink = (max(1, int(part * steps)) for part in (_FIRST, _SHORTEST, _SHRINK))
    while True:
        yield first
        first = max(first - shrink, shortest)


def _slope(model: nn.Module, loss: Loss, points: Tensor, labels: Tensor, targets: Tensor) -> Slope:
    return slope(model, points, lambda logits: loss(logits, labels, targets))


def _largest(change: Tensor) -> Tensor:
    return change.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(_TINY)


@dataclass
class _Run:
    """What the attack knows of the images that it has not fooled, one row per image."""

    position: Tensor
    images: Tensor
    labels: Tensor
    targets: Tensor
    current: Tensor
    previous: Tensor
    value: Tensor
    gradient: Tensor
    best: Tensor
    best_value: Tensor
    best_gradient: Tensor
    step: Tensor
    rises: Tensor
    """Steps since the last checkpoint that raised the loss."""
    halved: Tensor
    """Whether the last checkpoint halved the step."""
    best_before: Tensor
    """The best value at the last checkpoint."""

    def move(self, epsilon: float, weight: float) -> None:
        """One step; ``weight`` is that of the new direction against the last one."""
        step = self.step[:, None, None, None] * self.gradient.sign()
        ahead = inside(self.images, self.current + step, "linf", epsilon)
        new = self.current + weight * (ahead - self.current)
        new = new + (1 - weight) * (self.current - self.previous)
        self.previous, self.current = self.current, inside(self.images, new, "linf", epsilon)

    def record(self, at: Slope) -> None:
        """What was found at the current points."""
        self.rises = self.rises + (at.value > self.value)
        self.value, self.gradient = at.value, at.gradient
        is_better = at.value > self.best_value
        rows = is_better[:, None, None, None]
        self.best = torch.where(rows, self.current, self.best)
        self.best_gradient = torch.where(rows, at.gradient, self.best_gradient)
        self.best_value = torch.where(is_better, at.value, self.best_value)

    def check(self, interval: int) -> None:
        """Halve the steps of images that make no progress; they go on from their best points."""
        is_stuck = ~self.halved & (self.best_before >= self.best_value)
        self.halved = (self.rises <= _ENOUGH * interval) | is_stuck
        rows = self.halved[:, None, None, None]
        self.step = torch.where(self.halved, self.step / 2, self.step)
        self.current = torch.where(rows, self.best, self.current)
        self.gradient = torch.where(rows, self.best_gradient, self.gradient)
        self.value = torch.where(self.halved, self.best_value, self.value)
        self.rises, self.best_before = torch.zeros_like(self.rises), self.best_value

    def drop(self, is_fooled: Tensor, found: Tensor) -> None:
        """Put the current points of fooled images into ``found``, and forget these images."""
        found[self.position[is_fooled]] = self.current[is_fooled]
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[~is_fooled])
