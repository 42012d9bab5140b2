"""A simulated V1 recording, for trying things out where the truth is known.

Rates are responses of Gabor energy units (:mod:`simreg_core.regularizer.gabor`). Spike counts are
Poisson.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simreg_core.neural.recordings import Recordings
from simreg_core.regularizer.gabor import GaborPopulation
from simreg_core.seeding import generator


class Simulation(NamedTuple):
    """What was recorded, and the noise-free rates behind it, float32 (I, M)."""

    recordings: Recordings
    rates: Tensor


def simulated_rates(
    images: Tensor,
    *,
    num_neurons: int,
    mean_count: float,
    seed: int,
    population: GaborPopulation | None = None,
) -> Tensor:
    """Expected spike counts of randomly chosen Gabor energy units, float32 (I, M).

    Args:
        images: uint8 (I, C, H, W).
        num_neurons: M; the units are drawn without replacement.
        mean_count: Mean of every neuron over the images.
        seed: Of the choice; a smaller M is a part of a larger one.
        population: Of the units; the default one if not given.

    Raises:
        ValueError: more neurons than there are units.
    """
    population = population or GaborPopulation()
    if not 1 <= num_neurons <= len(population):
        raise ValueError(f"expected 1 to {len(population)} neurons, found {num_neurons}")
    order = torch.randperm(len(population), generator=generator(seed, "simulated neurons"))
    amplitude = population.responses(images)[:, order[:num_neurons]]
    level = amplitude.mean(dim=0, dtype=torch.float64).to(torch.float32)
    return amplitude * (mean_count / torch.where(level > 0, level, 1.0))


def simulate(
    images: Tensor,
    *,
    num_neurons: int,
    repeats: int,
    mean_count: float,
    seed: int,
    population: GaborPopulation | None = None,
) -> Simulation:
    """Poisson spike counts of :func:`simulated_rates`, every image shown ``repeats`` times."""
    rates = simulated_rates(
        images,
        num_neurons=num_neurons,
        mean_count=mean_count,
        seed=seed,
        population=population,
    )
    rng = generator(seed, "simulated spikes")
    trials = torch.poisson(rates.repeat(repeats, 1), generator=rng)
    index = torch.arange(len(images)).repeat(repeats)
    names = tuple(str(number) for number in range(num_neurons))
    recordings = Recordings(images=images, trials=trials, image_index=index, neurons=names)
    return Simulation(recordings, rates)
