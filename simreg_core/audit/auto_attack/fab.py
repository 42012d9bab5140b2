"""FAB, Linf, targeted (Croce, Hein, arXiv:1907.02044): minimal perturbations by linearisation.

The points of an attack move between the decision boundary and the attacked image. Each step
projects the point and the image onto the boundary of the linearised network within [0, 1], and
mixes both projections, the more of the image's the farther away the point is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simreg_core.robustness.gradients import slope

_EXTRAPOLATION = 1.05  # how far beyond the linearised boundary a step goes
_MOST_OF_IMAGE = 0.1  # largest weight of the image's projection
_BACKWARD = 0.9  # a point that fools the network moves back to this share of its distance
_TINY = 1e-12


def fab(model: nn.Module, images: Tensor, labels: Tensor, targets: Tensor, *, steps: int) -> Tensor:
    """The nearest misclassified points that are found, (N, C, H, W) in [0, 1].

    They are the images themselves where nothing is found. The attack knows no epsilon.

    Args:
        model: The attacked network.
        images: Float (N, C, H, W) in [0, 1], classified correctly.
        labels: int64 (N,).
        targets: int64 (N,), other classes to move towards.
        steps: Number of gradients per image.
    """
    both = torch.stack([targets, labels], dim=1)
    flat, shape = images.flatten(1), images.shape
    points, found = flat.clone(), flat.clone()
    nearest = torch.full_like(flat[:, 0], torch.inf)
    for _ in range(steps):
        at = slope(model, points.reshape(shape), lambda z: z.gather(1, both).diff(dim=1)[:, 0])
        # The value is that of the label minus that of the target, positive before the boundary.
        gradient = at.gradient.flatten(1)
        offset = at.value - (gradient * points).sum(dim=1)
        own, other = (_to_plane(x, gradient, offset) for x in (points, flat))
        sizes = [change.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) for change in (own, other)]
        weight = (sizes[0] / (sizes[0] + sizes[1])).clamp_max(_MOST_OF_IMAGE)
        points = (points + _EXTRAPOLATION * own) * (1 - weight)
        points = (points + (flat + _EXTRAPOLATION * other) * weight).clamp(0, 1)
        with torch.no_grad():
            is_wrong = model(points.reshape(shape)).argmax(dim=1) != labels
        distance = (points - flat).abs().amax(dim=1)
        is_nearer = is_wrong & (distance < nearest)
        found = torch.where(is_nearer[:, None], points, found)
        nearest = torch.where(is_nearer, distance, nearest)
        points = torch.where(is_wrong[:, None], flat + _BACKWARD * (points - flat), points)
    return found.reshape(shape)


def _to_plane(points: Tensor, weights: Tensor, offset: Tensor) -> Tensor:
    """The change of smallest Linf norm that leads to the plane weights @ x + offset = 0.

    All pixels move by the same amount towards the plane, but not beyond 0 or 1. If the plane is
    out of reach, they move as far as they can.

    Args:
        points: (N, D) in [0, 1].
        weights: (N, D).
        offset: (N,).
    """
    value = (weights * points).sum(dim=1) + offset
    direction = -value.sign()[:, None] * weights.sign()
    room = torch.where(direction > 0, 1 - points, points)
    slopes = weights.abs()
    # The value falls by the sum of slope * min(amount, room): linear between sorted rooms.
    sorted_room, order = room.sort(dim=1)
    sorted_slopes = slopes.gather(1, order)
    steep = sorted_slopes.flip(1).cumsum(dim=1).flip(1)  # of the pixels that still move
    used = (sorted_slopes * sorted_room).cumsum(dim=1)
    falls = used + sorted_room * (steep - sorted_slopes)
    piece = torch.searchsorted(falls, value.abs()[:, None]).clamp_max(falls.shape[1] - 1)
    before = (used - sorted_slopes * sorted_room).gather(1, piece)
    amount = (value.abs()[:, None] - before) / steep.gather(1, piece).clamp_min(_TINY)
    return direction * torch.minimum(amount.clamp_min(0), room)
