"""Simulated V1 recordings, for which the noise-free rates are known.

Rates are responses of Gabor energy units (:mod:`simreg_core.regularizer.gabor`), and spike counts
are Poisson.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.neural.recordings import Recordings
from simreg_core.regularizer.gabor import GaborPopulation
from simreg_core.seeding import generator


def simulate(
    images: Tensor,
    *,
    num_neurons: int,
    repeats: int,
    mean_count: float,
    seed: int,
    population: GaborPopulation | None = None,
) -> tuple[Recordings, Tensor]:
    """Simulate spike counts of randomly chosen Gabor energy units.

    Args:
        images: uint8 (I, C, H, W).
        num_neurons: M, units drawn without replacement.
        repeats: Number of times that every image is shown.
        mean_count: Mean rate of every neuron over the images.
        seed: Seed of units and spikes. The units of a smaller M are among those of a larger M.
        population: Units to choose from; all of ``GaborPopulation()`` if None.

    Returns:
        The recordings and the noise-free rates behind them, float32 (I, M).

    Raises:
        ValueError: there are fewer units than neurons.
    """
    population = population or GaborPopulation()
    if not 1 <= num_neurons <= len(population):
        raise ValueError(f"expected 1 to {len(population)} neurons, found {num_neurons}")
    order = torch.randperm(len(population), generator=generator(seed, "simulated neurons"))
    amplitude = population.responses(images)[:, order[:num_neurons]]
    level = amplitude.mean(dim=0, dtype=torch.float64).to(torch.float32)
    rates = amplitude * (mean_count / torch.where(level > 0, level, 1.0))
    rng = generator(seed, "simulated spikes")
    recordings = Recordings(
        images=images,
        trials=torch.poisson(rates.repeat(repeats, 1), generator=rng),
        image_index=torch.arange(len(images)).repeat(repeats),
        neurons=tuple(map(str, range(num_neurons))),
    )
    return recordings, rates
