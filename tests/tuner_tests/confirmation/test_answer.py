from __future__ import annotations

from tuner.confirmation.summary import Candidate, Estimate, answer_of


def candidate(trial: int, gain: Estimate, cost: Estimate, score: Estimate) -> Candidate:
    names = ("robustness_gain", "accuracy_cost", "tradeoff_score")
    found = dict(zip(names, (gain, cost, score), strict=True))
    return Candidate(trial, {"regularizer.threshold": 0.25}, None, found, 0, [1, 2])


def test_answer_is_of_the_score_with_the_best_lower_end() -> None:
    steady = candidate(
        3, Estimate(0.09, 0.03, 6), Estimate(0.01, 0.005, 6), Estimate(0.08, 0.03, 6)
    )
    lucky = candidate(7, Estimate(0.2, 0.3, 6), Estimate(0.0, 0.0, 6), Estimate(0.2, 0.3, 6))
    expected = (
        "trial 3 (threshold 0.25): robust accuracy +0.090 ± 0.030 for -0.010 ± 0.005 of clean "
        "accuracy (6 fresh seeds, test split)"
    )
    assert answer_of([lucky, steady]) == expected
    assert answer_of([lucky]) == (
        "no gain shown: trial 7 (threshold 0.25): robust accuracy +0.200 ± 0.300 for "
        "+0.000 ± 0.000 of clean accuracy (6 fresh seeds, test split)"
    )


def test_answer_without_an_interval_or_without_networks() -> None:
    alone = candidate(1, Estimate(0.1, None, 1), Estimate(0.02, None, 1), Estimate(0.08, None, 1))
    assert answer_of([alone]) == (
        "no gain shown: trial 1 (threshold 0.25): robust accuracy +0.100 for -0.020 of clean "
        "accuracy (1 fresh seed, test split)"
    )
    assert answer_of([alone._replace(estimates={})]) is None
