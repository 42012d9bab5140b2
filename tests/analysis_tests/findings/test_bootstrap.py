from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.findings.bootstrap import percentile_interval, resampled_hypervolumes
from simreg_core.statistics.pareto import hypervolume

THREE = [[0.2, 0.9], [0.6, 0.6], [0.9, 0.1]]


def resampled(points: object, reference: tuple[float, float], maximize: list[bool]) -> object:
    rng = np.random.default_rng(7)
    return resampled_hypervolumes(np.array(points), reference, maximize, rng, 50)


class Drawing(np.random.Generator):
    """Draws the samples that it is given."""

    def __init__(self, samples: list[tuple[int, ...]]) -> None:
        super().__init__(np.random.PCG64(0))
        self.samples = samples

    def integers(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        return np.array(self.samples)


def test_two_points_by_hand() -> None:
    """Alone they dominate 0.2 x 0.9 = 0.18 and 0.6 x 0.5 = 0.3; together 0.18 + 0.4 x 0.5."""
    points = [[0.2, 0.9], [0.6, 0.5]]
    rng = Drawing([(0, 0), (1, 1), (0, 1), (1, 0)])
    found = resampled_hypervolumes(points, (0.0, 0.0), (True, True), rng, 4)
    assert found == pytest.approx([0.18, 0.3, 0.38, 0.38])


@pytest.mark.parametrize("maximize", list(itertools.product([True, False], repeat=2)))
def test_every_sample_agrees_with_the_exact_hypervolume(maximize: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(3)
    points = rng.integers(0, 5, (6, 2)) / 4  # ties, duplicates, and points at the reference
    reference = tuple(0.0 if larger else 1.0 for larger in maximize)
    samples = [tuple(rng.integers(0, 6, 6)) for _ in range(200)]
    found = resampled_hypervolumes(points, reference, maximize, Drawing(samples), 200)
    expected = [hypervolume(points[list(sample)], reference, maximize) for sample in samples]
    assert found == pytest.approx(expected, abs=1e-12)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resampled(THREE, (0.0, 0.0), [True, True])
    monkeypatch.setattr("analysis.findings.bootstrap._CELLS", 21)  # seven resamples at a time
    assert resampled(THREE, (0.0, 0.0), [True, True]) == pytest.approx(np.asarray(whole))


def test_interval_holds_the_middle_of_the_samples() -> None:
    assert percentile_interval(np.arange(0.0, 1001.0)) == pytest.approx((25.0, 975.0))
