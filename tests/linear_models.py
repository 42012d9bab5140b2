"""A linear classifier with known distances, as a network and as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests import oracles
from tests.oracles import Array

SIDE = 6


class Linear(nn.Module):
    """Two classes on SIDE x SIDE grey images; counts the images it is shown at once."""

    def __init__(self, weights: Array, bias: Array) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights).float())
        self.bias = nn.Parameter(torch.from_numpy(bias).float())
        self.largest_batch = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(pixels))
        return pixels.flatten(1) @ self.weights.T + self.bias


class Problem(NamedTuple):
    """Images away from the bounds that a linear classifier gets right, near its boundary."""

    weights: Array
    bias: Array
    flat: Array
    labels: NDArray[np.int64]

    @property
    def model(self) -> Linear:
        return Linear(self.weights, self.bias)

    @property
    def images(self) -> Tensor:
        return as_images(self.flat)

    @property
    def targets(self) -> Tensor:
        return torch.from_numpy(self.labels)

    @property
    def distances(self) -> Array:
        return oracles.boundary_distances(self.weights, self.bias, self.flat, self.labels)


def as_images(flat: Array) -> Tensor:
    return torch.from_numpy(flat).float().reshape(-1, 1, SIDE, SIDE)


def problem(num_images: int = 20, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(2, SIDE * SIDE))
    flat = rng.uniform(0.35, 0.65, (4 * num_images, SIDE * SIDE))
    bias = np.array([0.0, float(np.median(flat @ (weights[0] - weights[1])))])
    labels = (flat @ weights.T + bias).argmax(axis=1)
    distances = oracles.boundary_distances(weights, bias, flat, labels)
    chosen = np.flatnonzero(distances > 0.05)[:num_images]  # nothing on the boundary itself
    return Problem(weights, bias, flat[chosen], labels[chosen])
