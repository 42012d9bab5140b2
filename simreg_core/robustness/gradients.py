"""Gradients of functions of the logits with respect to the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Slope(NamedTuple):
    """A function of the logits of N images, and how it changes with their pixels."""

    logits: Tensor
    """(N, K)."""
    value: Tensor
    """(N,)."""
    gradient: Tensor
    """(N, C, H, W); 0 where it is not finite."""


def slope(model: nn.Module, images: Tensor, function: Callable[[Tensor], Tensor]) -> Slope:
    """A function (N, K) to (N,) of the logits of images (N, C, H, W)."""
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        logits = model(pixels)
        value = function(logits)
        (gradient,) = torch.autograd.grad(value.sum(), pixels)
    finite = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return Slope(logits.detach(), value.detach(), finite)
