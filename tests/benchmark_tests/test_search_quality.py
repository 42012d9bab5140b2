from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_quality import main, share_as_chosen
from benchmarks.simulated_trainings import Truth


def test_means_are_those_of_the_real_trainings() -> None:
    """T goes through the cells; alpha 0.1732 and threshold 0.3 with two seeds."""
    path = Path(main.__code__.co_filename).with_name("digits_grid.csv")
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    both = [list(map(float, row[3:])) for row in rows if row[:2] == ["0.1732", "0.3"]]
    clean, gaussian, fgsm = np.mean(both, axis=0)
    alpha = 0.01 * 300 ** (4 / 8)
    found = Truth("T", 0).means({"alpha": alpha, "threshold": 0.3})
    assert found == pytest.approx([clean, (gaussian + fgsm) / 2], abs=1e-9)


def test_who_knows_the_truth_chooses_the_whole_hypervolume() -> None:
    truth = Truth("T", 0)
    true = np.array([[0.98, 0.55], [0.95, 0.6], [0.9, 0.62]])
    whole = truth.share(true)
    assert share_as_chosen(truth, true, true) == pytest.approx(whole, rel=1e-3)
    assert share_as_chosen(truth, true[::-1], true) < 0.95 * whole


def test_a_run_is_continued_and_every_search_sees_the_same_noise(tmp_path: Path) -> None:
    def run(name: str, *options: str) -> list[dict[str, object]]:
        common = ["--truths", "T", "--searches", "random", "--workers", "1", "--processes", "1"]
        main([str(tmp_path / name), *common, *options])
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    first = run("split", "--trainings", "13", "--repetitions", "1")
    both = run("split", "--trainings", "13", "16", "--repetitions", "2")
    assert both[:2] == first
    assert len(both) == 8  # two repetitions, two numbers of trainings, two fronts
    assert run("split", "--repetitions", "0") == both
    at_once = run("whole", "--trainings", "13", "16", "--repetitions", "2")
    assert sorted(map(str, at_once)) == sorted(map(str, both))
