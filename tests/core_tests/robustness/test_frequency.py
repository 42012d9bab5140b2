"""Against NumPy, closed forms, and a model whose answer is one Fourier coefficient."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.config.robustness import BoundaryConfig, RobustnessConfig
from simreg_core.data.images import Split
from simreg_core.results.schema import SPECTRUM_COLUMNS
from simreg_core.robustness.frequency import (
    CORNER_EDGE,
    DEFAULT_EPSILON,
    SpectrumPoint,
    band_edges,
    band_noise,
    measure_frequencies,
    radial_power,
)

SIZES = [(16, 16), (32, 32), (28, 28), (10, 10), (7, 9), (3, 2)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grating(side: int, vertical: int, horizontal: int) -> Tensor:
    """A cosine of so many cycles per image in each direction, (1, 1, side, side)."""
    y, x = np.mgrid[0:side, 0:side]
    wave = np.cos(2 * np.pi * (vertical * y + horizontal * x) / side)
    return torch.from_numpy(wave)[None, None]


def spectrum_by_loops(image: np.ndarray, edges: list[float]) -> list[float]:
    """Shares of the power of (C, H, W) in the bands, by the definition of the transform."""
    channels, height, width = image.shape
    power = [0.0] * (len(edges) - 1)
    y, x = np.mgrid[0:height, 0:width]
    for v in range(height):
        for u in range(width):
            fv = (v if v <= height / 2 else v - height) / height
            fu = (u if u <= width / 2 else u - width) / width
            wave = np.exp(-2j * np.pi * (v * y / height + u * x / width))
            total = sum(abs((image[c] * wave).sum()) ** 2 for c in range(channels))
            radius = round(math.sqrt(fv * fv + fu * fu), 9)
            band = max(b for b in range(len(power)) if round(edges[b], 9) <= radius)
            power[band] += total
    return [value / sum(power) for value in power]


# bands


def test_bands_of_the_published_image_size() -> None:
    assert band_edges(32, 32) == [*(i / 16 for i in range(9)), CORNER_EDGE]
    assert math.sqrt(0.5) < CORNER_EDGE


def test_band_without_a_frequency_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2x2 pixels, found 1x4"):
        band_edges(1, 4)
    with pytest.raises(ValueError, match=r"8x8 have no frequency in \[0.01, 0.02\)"):
        band_noise(torch.zeros(1, 1, 8, 8), 0.01, 0.02, 0.1, rng())


# power


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_shares_are_those_of_the_definition(height: int, width: int) -> None:
    images = normal(1, 2, height, width)
    expected = spectrum_by_loops(images[0].double().numpy(), band_edges(height, width))
    np.testing.assert_allclose(radial_power(images).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("vertical", "horizontal", "band"),
    [(0, 0, 0), (0, 3, 1), (3, 0, 1), (4, 4, 2), (0, 15, 7), (16, 0, 8), (16, 16, 8)],
)
def test_grating_lies_in_its_band(vertical: int, horizontal: int, band: int) -> None:
    share = radial_power(grating(32, vertical, horizontal))
    assert float(share[band]) == pytest.approx(1, abs=1e-12)


def test_large_perturbations_do_not_dominate() -> None:
    low, high = grating(16, 0, 1), grating(16, 0, 7)
    share = radial_power(torch.cat([1000 * low, high]))
    assert sorted(share.tolist())[-2:] == pytest.approx([0.5, 0.5], abs=1e-12)


# noise


@pytest.mark.parametrize(("height", "width"), SIZES[:5])
def test_noise_has_power_in_its_band_only(height: int, width: int) -> None:
    edges = band_edges(height, width)
    assert (edges[0], edges[-2:]) == (0, [0.5, CORNER_EDGE])
    grey = torch.full((3, 2, height, width), 0.5, dtype=torch.float64)
    for band, (low, high) in enumerate(pairwise(edges)):
        noise = band_noise(grey, low, high, 1e-3, rng()) - 0.5  # too weak to be clipped
        assert float(radial_power(noise)[band]) == pytest.approx(1, abs=1e-9)


def test_noise_has_the_asked_standard_deviation_in_every_pixel() -> None:
    grey = torch.full((4000, 1, 8, 8), 0.5, dtype=torch.float64)
    for low, high in [(0.0, 0.125), (0.25, 0.375), (0.5, CORNER_EDGE)]:
        noise = band_noise(grey, low, high, 0.02, rng(1)) - 0.5
        # The standard error of a standard deviation of 4000 values is 1.1 %.
        np.testing.assert_allclose(noise.std(dim=0).numpy(), 0.02, rtol=0.05)
        np.testing.assert_allclose(noise.mean(dim=0).numpy(), 0, atol=5 * 0.02 / 4000**0.5)


def test_noise_of_a_whole_spectrum_is_the_white_noise_itself() -> None:
    noise = band_noise(torch.full((2, 3, 8, 8), 0.5), 0, CORNER_EDGE, 0.01, rng(3)) - 0.5
    np.testing.assert_allclose(noise, 0.01 * normal(2, 3, 8, 8, seed=3), atol=1e-6)


def test_noise_is_independent_per_image_and_channel() -> None:
    noise = band_noise(torch.full((40, 3, 16, 16), 0.5), 0.25, 0.375, 0.01, rng()) - 0.5
    correlation = np.corrcoef(noise.flatten(0, 1).flatten(1).numpy())
    assert np.abs(correlation - np.eye(120)).max() < 0.6


def test_noisy_images_are_clipped_to_pixels() -> None:
    images = torch.rand(4, 1, 8, 8, generator=rng())
    noisy = band_noise(images, 0, 0.25, 5.0, rng())
    assert (float(noisy.min()), float(noisy.max())) == (0, 1)


# measuring


class Checkerboard(nn.Module):
    """Class 1 if an image correlates with the checkerboard, the highest frequency; else 0."""

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        sign = (-1.0) ** torch.arange(side)
        response = (images[:, 0] * sign[:, None] * sign[None, :]).mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(response), response], dim=1)


def config(**changes: object) -> RobustnessConfig:
    return RobustnessConfig.model_validate(
        {"frequency": True, "boundary": BoundaryConfig(), "batch_size": 7, **changes}
    )


def board(num_images: int = 100) -> Split:
    """Grey images with a checkerboard of 10/255: class 1, and only its frequency can undo it."""
    sign = (-1) ** np.arange(8)
    image = 128 + 10 * np.outer(sign, sign)
    images = torch.from_numpy(np.broadcast_to(image, (num_images, 1, 8, 8)).astype(np.uint8))
    return Split(images, torch.ones(num_images, dtype=torch.int64))


def noise_points(points: list[SpectrumPoint]) -> list[SpectrumPoint]:
    return [point for point in points if point.kind == "band_noise_accuracy"]


def test_network_of_one_frequency_is_disturbed_by_its_band_only() -> None:
    points = measure_frequencies(Checkerboard(), board(), "test", config(), normal(3, 1, 8, 8))
    *others, corners = noise_points(points)
    assert [point.value for point in others] == [1.0] * 4
    # The response to the noise is one of its coefficients, which share eps^2 evenly.
    assert corners.epsilon is not None
    frequencies = np.fft.fftfreq(8)
    num_corners = int((np.hypot(frequencies[:, None], frequencies) >= 0.5).sum())
    deviation = corners.epsilon / math.sqrt(num_corners)
    expected = 0.5 * (1 + math.erf((10 / 255) / deviation / math.sqrt(2)))
    assert corners.value == pytest.approx(expected, abs=0.15)
    assert {point.num_images for point in noise_points(points)} == {100}


def test_power_is_that_of_the_perturbations_that_move() -> None:
    moved, still = normal(3, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    found = [
        measure_frequencies(Checkerboard(), board(5), "validation", config(), perturbations)
        for perturbations in (torch.cat([moved, still]), still)
    ]
    power, none = ([p for p in points if p.kind == "perturbation_power"] for points in found)
    assert [point.value for point in power] == radial_power(moved).tolist()
    assert {(p.split, p.epsilon, p.num_images) for p in power} == {("validation", None, 3)}
    assert none == []


MAX = {"max_epsilon": 0.4}


@pytest.mark.parametrize(
    ("changes", "epsilon"),
    [
        ({"reference": {"gaussian": 0.07}}, 0.07),
        ({"reference": {"uniform": 0.1}}, 0.1),
        ({"attacks": {"gaussian": MAX, "uniform": MAX}, "reference": {"uniform": 0.1}}, 0.4),
        ({"attacks": {"uniform": MAX}, "reference": {"uniform": 0.3}}, DEFAULT_EPSILON),
    ],
    ids=["reference", "maximum of cifar10", "maximum", "neither"],
)
def test_epsilon_of_the_noise(changes: dict[str, object], epsilon: float) -> None:
    settings = config(**changes)
    points = measure_frequencies(Checkerboard(), board(2), "test", settings, normal(1, 1, 8, 8))
    assert {point.epsilon for point in noise_points(points)} == {epsilon}


def test_measuring_twice_gives_the_same_and_leaves_no_trace() -> None:
    model = Checkerboard().train()
    state = torch.random.get_rng_state()
    perturbations = normal(2, 1, 8, 8)
    first, again = (
        measure_frequencies(model, board(9), "test", config(), perturbations) for _ in range(2)
    )
    assert first == again
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fields_are_columns_of_the_table() -> None:
    assert set(SpectrumPoint._fields) < {column.name for column in SPECTRUM_COLUMNS}
