from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from simreg_core.regularizer.gabor import GaborPopulation

SIDE = 64  # finer than any unit, so gratings keep their form in uint8


def _grating(
    orientation: float, frequency: float, phase: float, contrast: float = 1.0, side: int = SIDE
) -> Tensor:
    """uint8 (1, 1, side, side), cosine grating at the centre's phase."""
    centres = (np.arange(side) + 0.5) / side - 0.5
    along = centres[None, :] * math.cos(orientation) + centres[:, None] * math.sin(orientation)
    wave = np.cos(2 * math.pi * frequency * along + phase)
    pixels = np.rint(127.5 * (1 + contrast * wave)).astype(np.uint8)
    return torch.from_numpy(pixels)[None, None]


def _noise(seed: int, num_images: int = 1, side: int = SIDE) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (num_images, 1, side, side)).astype(np.uint8))


def _interior(population: GaborPopulation) -> Tensor:
    """Units at least a period and a half from every edge."""
    units = population.units
    margin = 1.5 / units.frequency
    inside = [(c >= margin) & (c <= 1 - margin) for c in (units.x, units.y)]
    return inside[0] & inside[1]


@pytest.fixture(scope="module")
def population() -> GaborPopulation:
    return GaborPopulation(side=SIDE)


def test_population_is_a_grid_of_orientations_frequencies_and_positions() -> None:
    units = GaborPopulation().units
    assert len(GaborPopulation()) == 8 * (2**2 + 4**2 + 8**2)
    assert set(units.frequency.tolist()) == {2, 4, 8}
    assert len(set(units.orientation.tolist())) == 8
    assert len(set(zip(*(u.tolist() for u in units), strict=True))) == len(GaborPopulation())
    assert torch.all((units.x > 0) & (units.x < 1) & (units.y > 0) & (units.y < 1))


@pytest.mark.parametrize("frequency", [4, 8])
@pytest.mark.parametrize("turn", range(8))
def test_units_respond_most_to_their_own_orientation_and_frequency(
    population: GaborPopulation, turn: int, frequency: int
) -> None:
    response = population.responses(_grating(math.pi * turn / 8, frequency, 0.7))[0]
    units, interior = population.units, _interior(population)
    turns = (units.orientation * 8 / math.pi).round()
    means = {
        (t, f): float(response[interior & (units.frequency == f) & (turns == t)].mean())
        for t in range(8)
        for f in (4, 8)
    }
    assert max(means, key=lambda key: means[key]) == (turn, frequency)


@pytest.mark.parametrize("phase", [0, math.pi / 3, math.pi / 2, 2.5])
def test_response_to_the_own_grating_is_one_at_every_phase(
    population: GaborPopulation, phase: float
) -> None:
    chosen = _interior(population) & (population.units.orientation == 0)
    for frequency in (4, 8):
        response = population.responses(_grating(0, frequency, phase))[0]
        own = response[chosen & (population.units.frequency == frequency)]
        torch.testing.assert_close(own, torch.ones_like(own), atol=0.02, rtol=0)


def test_response_is_proportional_to_contrast(population: GaborPopulation) -> None:
    full, half = (population.responses(_grating(0.4, 4, 0, contrast)) for contrast in (1, 0.5))
    torch.testing.assert_close(half, full / 2, atol=2e-3, rtol=0)


def test_inverted_and_coloured_images_have_the_same_responses(population: GaborPopulation) -> None:
    image = _noise(0)
    for same in (255 - image, image.expand(-1, 3, -1, -1)):
        torch.testing.assert_close(
            population.responses(same), population.responses(image), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("value", [0, 128, 255])
def test_uniform_image_has_no_response(population: GaborPopulation, value: int) -> None:
    image = torch.full((1, 1, SIDE, SIDE), value, dtype=torch.uint8)
    assert population.responses(image).max() < 1e-5


def test_transposed_image_swaps_x_and_y_of_the_responses(population: GaborPopulation) -> None:
    image = _noise(1)
    units = population.units
    mirrored = (math.pi / 2 - units.orientation) % math.pi
    keys = torch.stack([units.frequency, mirrored, units.y, units.x], dim=1)
    own = torch.stack([units.frequency, units.orientation, units.x, units.y], dim=1)
    partner = torch.cdist(keys, own).argmin(dim=1)
    torch.testing.assert_close(
        population.responses(image.mT.contiguous())[0],
        population.responses(image)[0][partner],
        atol=1e-4,
        rtol=0,
    )


def test_shift_by_one_position_shifts_the_responses() -> None:
    """A patch moved by the grid's spacing excites the neighbours as it did the units before."""
    population = GaborPopulation(frequencies=(8,), orientations=4)
    rng = np.random.default_rng(2)
    image = np.full((32, 32), 128, dtype=np.uint8)
    image[14:18, 10:14] = rng.integers(0, 256, (4, 4))
    moved = np.roll(image, 4, axis=1)  # 32 / 8 pixels
    first, second = (
        population.responses(torch.from_numpy(i)[None, None]).reshape(4, 8, 8)
        for i in (image, moved)
    )
    torch.testing.assert_close(second[:, 3:5, 3:6], first[:, 3:5, 2:5], atol=5e-3, rtol=0)
    assert first[:, 3:5, 2:5].max() > 0.02


def test_responses_do_not_depend_on_how_images_are_grouped() -> None:
    images = _noise(3, 1030, 8)
    population = GaborPopulation(orientations=2, frequencies=(2,), side=8)
    torch.testing.assert_close(
        population.responses(images)[1020:], population.responses(images[1020:])
    )
    assert population.responses(images).dtype == torch.float32
