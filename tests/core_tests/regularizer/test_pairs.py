from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.errors import ConfigError
from simreg_core.regularizer import pairs as pairs_module
from simreg_core.regularizer.pairs import PairSampler, sample_pairs
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.seeding import generator
from tests import oracles

RANGES = {
    "high": lambda s, th, low: abs(s) > th,
    "low": lambda s, th, low: abs(s) < th,
    "positive": lambda s, th, low: s > th or abs(s) < th,
    "negative": lambda s, th, low: s < -th or abs(s) < th,
    "double": lambda s, th, low: abs(s) > th or abs(s) < low,
}


@given(st.integers(2, 60), st.integers(1, 50), st.integers(0, 1000))
def test_pairs_are_ordered_and_in_range(num_images: int, num_pairs: int, seed: int) -> None:
    first, second = sample_pairs(num_images, num_pairs, generator(seed, "pairs"))
    assert first.shape == second.shape == (num_pairs,)
    assert bool(((first >= 0) & (first < second) & (second < num_images)).all())


def assert_uniform(drawn: tuple[Tensor, Tensor], pairs: list[tuple[int, int]]) -> None:
    """400 draws of each pair, by the chi-square distribution."""
    first, second = drawn
    counts = np.array([int(((first == i) & (second == j)).sum()) for i, j in pairs])
    assert counts.sum() == 400 * len(pairs)
    chi_square = float(((counts - 400) ** 2 / 400).sum())
    degrees = len(pairs) - 1
    # Four standard deviations above the mean of the chi-square distribution.
    assert chi_square <= degrees + 4 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("num_images", [2, 3, 7, 12])
def test_pairs_are_uniform_over_all_pairs(num_images: int) -> None:
    pairs = oracles.all_pairs(num_images)
    drawn = sample_pairs(num_images, 400 * len(pairs), generator(11, "pairs"))
    assert_uniform(drawn, pairs)


def test_pairs_of_many_images_need_no_list_of_pairs() -> None:
    # 5 * 10**17 pairs: whatever enumerates them does not return.
    first, second = sample_pairs(10**9, 16, generator(0, "pairs"))
    assert len(first) == len(second) == 16


# Ranges of similarity


def images_of(num_images: int, seed: int = 0) -> Tensor:
    shape = (num_images, 1, 3, 3)
    return torch.randint(256, shape, generator=generator(seed, "images"), dtype=torch.uint8)


def sampler(images: Tensor, **options: Any) -> PairSampler:
    return PairSampler(RegularizerConfig(**options), PixelSimilarity(images))


def allowed_pairs(images: Tensor, name: str, th: float, low: float) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i, j in oracles.all_pairs(len(images))
        if RANGES[name](oracles.pixel_similarity(images.numpy(), i, j), th, low)
    }


def options_of(name: str, threshold: float = 0.5) -> dict[str, Any]:
    low = {"threshold_low": 0.2} if name == "double" else {}
    return {"pairs": name, "threshold": threshold, **low}


@pytest.fixture(params=["rejected", "listed", "too many to list"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How pairs of a range are found, in small tiles and chunks."""
    monkeypatch.setattr(pairs_module, "_RARE", 0.0 if request.param == "rejected" else 2.0)
    monkeypatch.setattr(pairs_module, "_TILE", 4)
    monkeypatch.setattr(pairs_module, "_CHUNK", 7)
    if request.param == "too many to list":
        monkeypatch.setattr(pairs_module, "_MAX_LISTED", 3)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", RANGES)
def test_every_pair_of_the_range_is_drawn_and_no_other(name: str) -> None:
    images = images_of(14)
    draw = sampler(images, **options_of(name))
    first, second = draw(4000, generator(0, "pairs"))
    assert first.dtype == second.dtype == torch.int64
    drawn = set(zip(first.tolist(), second.tolist(), strict=True))
    expected = allowed_pairs(images, name, 0.5, 0.2)
    assert 0 < len(expected) < len(oracles.all_pairs(14))
    assert drawn == expected
    steps = draw.batches(5, 9, generator(0, "pairs"))
    assert steps.shape == (5, 2, 9)
    assert {(int(i), int(j)) for step in steps for i, j in step.T} <= expected
    assert len({tuple(step.flatten().tolist()) for step in steps}) > 1


@pytest.mark.usefixtures("way")
def test_pairs_are_uniform_within_the_range() -> None:
    images = images_of(12)
    expected = sorted(allowed_pairs(images, "high", 0.5, 0.0))
    draw = sampler(images, **options_of("high"))
    assert_uniform(draw(400 * len(expected), generator(3, "pairs")), expected)


def test_all_pairs_are_those_of_the_plain_sampler() -> None:
    drawn = sampler(images_of(9), pairs="all")(50, generator(5, "pairs"))
    expected = sample_pairs(9, 50, generator(5, "pairs"))
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


def test_many_steps_of_all_pairs_are_those_drawn_step_by_step() -> None:
    draw, rng = sampler(images_of(20)), generator(0, "pairs")
    expected = torch.stack([torch.stack(draw(6, rng)) for _ in range(4)])
    assert torch.equal(draw.batches(4, 6, generator(0, "pairs")), expected)


def test_single_pair_among_many_is_found() -> None:
    # All images are noise but the last, a near copy of the first: one pair above 0.999.
    images = images_of(300, seed=4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    images[-1] = images[0]
    images[-1, 0, 0, 0] ^= 1
    first, second = sampler(images, pairs="high", threshold=0.999)(5, generator(0, "pairs"))
    assert first.tolist() == [0] * 5
    assert second.tolist() == [299] * 5


def test_empty_range_is_refused_with_the_counts() -> None:
    with pytest.raises(ConfigError, match=r"^regularizer\.pairs: .*0 of 190 pairs of 20 images"):
        sampler(images_of(20), pairs="high", threshold=0.999)
