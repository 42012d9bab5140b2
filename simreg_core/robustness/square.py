"""The Square Attack, Linf (Andriushchenko et al., arXiv:1912.00049).

A random search that sees only the scores of the attacked network. It starts from vertical stripes
at the surface of the Linf ball, and then sets one square after another to a corner of the ball in
each channel. A change is kept if it lowers the margin, the label's logit minus the largest other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from simreg_core.registry import attack
from simreg_core.robustness.attack import AttackInput, Perturbation
from simreg_core.robustness.foolbox_bridge import draw_seed

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries, in the paper


# It draws, but is not declared random: every run is a long search, of which draws move little.
@attack("square", label="Square Attack", max_epsilon=0.02, reference=0.02, queries=True)
def square(
    batch: AttackInput,
    *,
    queries: Annotated[int, Field(ge=2)] = 500,
    p_init: Annotated[float, Field(gt=0, le=1)] = 0.8,
) -> Perturbation:
    """Square Attack: a random search in the Linf ball by the scores of the attacked network.

    ``queries`` are per image and epsilon. The first squares cover a share ``p_init`` of the image.
    Every epsilon is one whole attack with the same draws.
    """
    assert batch.scores is not None
    scores, seed = batch.scores, draw_seed(batch.rng)

    def perturbed(epsilon: float) -> Tensor:
        rng = torch.Generator(batch.images.device).manual_seed(seed)
        return square_search(
            scores, batch.images, batch.labels, epsilon, queries=queries, p_init=p_init, rng=rng
        )

    return perturbed


def square_search(
    scores: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    queries: int,
    p_init: float,
    rng: torch.Generator,
) -> Tensor:
    """Images of the smallest margin that the attack finds, (B, C, H, W) in [0, 1].

    Images that are misclassified as they are stay as they are.

    Args:
        scores: Images (N, C, H, W) to logits (N, K).
        images: Float (B, C, H, W) in [0, 1].
        labels: int64 (B,).
        epsilon: Radius of the Linf ball, in pixel units.
        queries: Largest number of times that ``scores`` sees a version of an image, >= 2.
        p_init: Share of the pixels that the first squares cover.
        rng: Generator on the images' device. An image's draws depend on no other image.
    """
    count, channels, height, width = images.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand((count, *shape), generator=rng, device=images.device)

    found, smallest = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    left = (scores(images).argmax(dim=1) == labels).nonzero()[:, 0]
    candidate = _corners(images, epsilon, draw(channels, 1, width) < 0.5)[left]
    for step in range(2, queries + 1):
        if not len(left):
            break
        logits = scores(candidate)
        margin = margins(logits, labels[left])
        is_better = margin < smallest[left]
        better = left[is_better]
        found[better], smallest[better] = candidate[is_better], margin[is_better]
        left = left[logits.argmax(dim=1) == labels[left]]
        side = _side(step, queries, p_init, height, width)
        y, x = (draw(1, 1, 1) * (length - side + 1) for length in (height, width))
        is_inside = _covers(y, side, height).mT & _covers(x, side, width)
        raised = draw(channels, 1, 1) < 0.5
        candidate = _with_square(images, found, is_inside, raised, epsilon, left)
    return found


def _with_square(
    images: Tensor, found: Tensor, is_inside: Tensor, raised: Tensor, epsilon: float, left: Tensor
) -> Tensor:
    """The images that are left with a new square, which is inverted if it would change nothing."""
    images, found, is_inside, raised = (x[left] for x in (images, found, is_inside, raised))
    corners = _corners(images, epsilon, raised)
    is_idle = ~(is_inside & (corners != found)).flatten(1).any(dim=1)
    corners = _corners(images, epsilon, raised ^ is_idle[:, None, None, None])
    return torch.where(is_inside, corners, found)


def _corners(images: Tensor, epsilon: float, raised: Tensor) -> Tensor:
    return torch.where(raised, images + epsilon, images - epsilon).clamp(0, 1)


def _covers(start: Tensor, side: int, length: int) -> Tensor:
    """Which positions (B, 1, 1, length) lie in windows that begin at ``start``, (B, 1, 1, 1)."""
    offset = torch.arange(length, device=start.device) - start.floor()
    return (offset >= 0) & (offset < side)


def _side(step: int, queries: int, p_init: float, height: int, width: int) -> int:
    """Side of the squares, which cover a share of the pixels that is halved on a schedule."""
    halvings = sum(step * 10_000 / queries > limit for limit in _HALVINGS)
    side = round(math.sqrt(p_init / 2**halvings * height * width))
    return max(1, min(side, height, width))


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label minus the largest other, (B,)."""
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf).amax(dim=1)
    return logits.gather(1, own)[:, 0] - others
