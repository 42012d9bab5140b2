"""Trainings that cost nothing: noisy values of accuracies whose means over seeds are known.

``digits_grid.csv`` holds the accuracies of 166 real trainings on digits: 9 alphas x 9 thresholds x
2 seeds, and 4 baseline networks (alpha 0). The objectives are clean accuracy and the mean accuracy
under Gaussian noise 0.4 and transferred FGSM 0.15. The noise of one training depends on its true
clean error, as the differences of the two seeds do: a collapsed network scatters more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy.ndimage import map_coordinates
from scipy.special import expit, logit

from simreg_core.statistics.pareto import hypervolume

Array = NDArray[np.float64]
Name = Literal["M", "T", "L", "P4", "Md"]

TRUTHS: dict[Name, str] = {
    "M": "Gaussian-process draws through the grid of trainings, alpha up to 3",
    "T": "bilinear through the grid itself, whose own seed noise counts as truth",
    "L": "as M, alpha up to 0.3",
    "P4": "as M, with batch size and dataset of the regularizer searched too",
    "Md": "as M, with twice the noise",
}
OBJECTIVES = ("clean_accuracy", "robust_accuracy")
NUM_DRAWS = 20
REFERENCE = np.array([0.9871, 0.4873]) - 0.1  # the means of the baseline networks, less 0.1

_CELLS = 9  # per axis
_FINE = 121  # points per axis of a surface
_COARSE = 31  # points per axis at which the process is drawn
_ERRORS = (0.0, 0.012, 0.017, 0.05, 0.11, 0.22, 0.4, 0.65, 1.0)  # true clean errors
_NOISE = (  # standard deviations over seeds there, of either objective
    (0.003, 0.003, 0.0055, 0.0065, 0.02, 0.085, 0.13, 0.05, 0.05),
    (0.033, 0.033, 0.043, 0.05, 0.055, 0.085, 0.09, 0.055, 0.05),
)
_DECADES = float(np.log10(3.0 / 0.01))  # of alpha in the grid
# Of the two further parameters, on robust accuracy; natural images also act like 4 times the alpha.
_OF_BATCH = {4: -0.015, 8: -0.005, 16: 0.0, 32: 0.0}
_OF_DATASET = {"digits": 0.0, "natural": -0.015}
_NATURAL_SHIFT = 0.6  # decades of alpha


class Truth:
    """A search space with known means over seeds.

    Args:
        name: One of :data:`TRUTHS`.
        draw: Which draw of the process; T has only one.
    """

    def __init__(self, name: Name, draw: int) -> None:
        self._surface = _raw_surface() if name == "T" else _drawn_surface(draw)
        self._noise = 2.0 if name == "Md" else 1.0
        self._max_alpha = 0.3 if name == "L" else 3.0
        self.search: dict[str, BaseDistribution] = {
            "alpha": FloatDistribution(0.01, self._max_alpha, log=True),
            "threshold": FloatDistribution(0.1, 0.9),
        }
        if name == "P4":
            self.search["batch_size"] = CategoricalDistribution(list(_OF_BATCH))
            self.search["dataset"] = CategoricalDistribution(list(_OF_DATASET))
        self.best = self._volume(self._everywhere())
        """The best possible hypervolume."""

    def means(self, params: dict[str, Any]) -> Array:
        """Objectives (2,) of a configuration, averaged over seeds."""
        found: Array = self._at(
            np.log10([params["alpha"] / 0.01]) / _DECADES,
            (np.array([params["threshold"]]) - 0.1) / 0.8,
            params.get("batch_size", 32),
            params.get("dataset", "digits"),
        )[0]
        return found

    def train(self, params: dict[str, Any], rng: np.random.Generator) -> Array:
        """Objectives (2,) of one simulated training."""
        means = self.means(params)
        spread = [np.interp(1 - means[0], _ERRORS, deviations) for deviations in _NOISE]
        noisy: Array = means + self._noise * np.array(spread) * rng.standard_normal(2)
        return noisy.clip(0, 1)

    def share(self, means: Array) -> float:
        """Hypervolume of means (n, 2), as a share of the best possible one."""
        return self._volume(means) / self.best

    def _volume(self, means: Array) -> float:
        return hypervolume(means, REFERENCE, [True, True])

    def _everywhere(self) -> Array:
        """Means (n, 2) on a grid over the whole space."""
        has_four = "dataset" in self.search
        side = np.linspace(0, 1, 81 if has_four else 161)
        top = np.log10(self._max_alpha / 0.01) / _DECADES
        alphas, thresholds = (axis.ravel() for axis in np.meshgrid(side * top, side))
        if not has_four:
            return self._at(alphas, thresholds, 32, "digits")
        parts = [self._at(alphas, thresholds, k, name) for k in _OF_BATCH for name in _OF_DATASET]
        return np.concatenate(parts)

    def _at(self, alphas: Array, thresholds: Array, batch_size: int, dataset: str) -> Array:
        """Means (n, 2) at positions (n,) in the grid of trainings, each in [0, 1]."""
        if dataset == "natural":
            alphas = (alphas + _NATURAL_SHIFT / _DECADES).clip(0, 1)
        places = np.stack([alphas, thresholds]) * (_FINE - 1)
        found = [map_coordinates(one, places, order=1, mode="nearest") for one in self._surface]
        found[1] += _OF_BATCH[batch_size] + _OF_DATASET[dataset]
        return np.stack(found, axis=-1)


@cache
def _grid() -> Array:
    """Objectives (2, 9, 9) of the trainings over (alpha, threshold), means of two seeds."""
    table = np.genfromtxt(Path(__file__).with_name("digits_grid.csv"), delimiter=",", names=True)
    table = np.sort(table[table["alpha"] > 0], order=["alpha", "th", "seed"])
    robust = (table["gauss04"] + table["fgsm015"]) / 2
    means: Array = np.stack([table["clean"], robust]).reshape(2, _CELLS, _CELLS, 2).mean(axis=-1)
    return means


@cache
def _raw_surface() -> Array:
    """(2, 121, 121), bilinear."""
    places = np.meshgrid(*[np.linspace(0, _CELLS - 1, _FINE)] * 2, indexing="ij")
    return np.stack([map_coordinates(one, places, order=1) for one in _grid()])


@cache
def _drawn_surface(draw: int) -> Array:
    """(2, 121, 121), a draw of a Gaussian process over the logits of the grid.

    The noise of the means of two seeds is known, so it is not part of the draw.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    errors = 1 - _grid()[0].clip(0.5, 1)
    places = np.meshgrid(*[np.linspace(0, _COARSE - 1, _FINE)] * 2, indexing="ij")
    surfaces = []
    for number, (means, deviations) in enumerate(zip(_grid(), _NOISE, strict=True)):
        noise = np.interp(errors, _ERRORS, deviations) / np.sqrt(2) / (means * (1 - means))
        values = logit(means.clip(1e-4, 1 - 1e-4))
        kernel = ConstantKernel(10.0, "fixed") + ConstantKernel(1.0, (0.01, 100)) * Matern(
            [0.5, 0.5], (0.15, 5), nu=2.5
        )
        process = GaussianProcessRegressor(
            kernel, alpha=noise.ravel() ** 2, n_restarts_optimizer=3, random_state=0
        )
        process.fit(_square(_CELLS), values.ravel() - values.mean())
        drawn = process.sample_y(_square(_COARSE), random_state=2 * draw + number)
        fine = map_coordinates(drawn.reshape(_COARSE, _COARSE), places, order=3)
        surfaces.append(expit(values.mean() + fine))
    return np.stack(surfaces)


def _square(side: int) -> Array:
    """A grid (side^2, 2) over the unit square."""
    axis = np.linspace(0, 1, side)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
