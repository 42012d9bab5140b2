from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner_tests.spaces import write_space
from tuner.run import main


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, str]]:
    """Runs the program dry on the good space, changed; returns the plan's lines by their label."""

    def make(*flags: str, changes: tuple[tuple[str, str], ...] = ()) -> dict[str, str]:
        space = write_space(tmp_path, *changes)
        code = main(["--space", str(space), "--dry-run", "--output", str(tmp_path / "out"), *flags])
        assert code == 0, capsys.readouterr().err
        lines = capsys.readouterr().out.splitlines()
        return {line[:13].strip(): line[13:] for line in lines if not line.startswith("  ")}

    return make


def test_results_go_to_the_name_of_the_space(
    plan: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    assert plan()["results"] == str(tmp_path / "out" / "tiny")


def test_results_go_to_the_name_that_is_given(
    plan: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    assert plan("--name", "mine")["results"] == str(tmp_path / "out" / "mine")


def test_name_may_look_like_a_number(plan: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    assert plan("--name", "2024")["results"] == str(tmp_path / "out" / "2024")


def test_taken_name_of_a_space_gets_the_next_free_number(
    plan: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    for name in ("tiny", "tiny-2"):
        (tmp_path / "out" / name).mkdir(parents=True)
    assert plan()["results"] == str(tmp_path / "out" / "tiny-3")


def test_flag_wins_over_the_file_and_over_set(plan: Callable[..., dict[str, str]]) -> None:
    text = plan("--set", "tuning.num_trials=5", "--num-trials", "9", "--seed", "4")["search"]
    assert text == "tiny: 9 trials, sampler random, seed 4"


def test_plan_says_what_is_pursued_on_which_split(plan: Callable[..., dict[str, str]]) -> None:
    changes = (("[clean_accuracy, robust_accuracy]", "[accuracy_cost, robustness_gain]"),)
    assert plan(changes=changes)["objectives"] == (
        "minimize accuracy_cost, maximize robustness_gain (validation split)"
    )


def test_plan_says_when_references_are_not_shared(plan: Callable[..., dict[str, str]]) -> None:
    assert plan()["references"].startswith("2 baselines and 1 surrogate (cached in")
    own = plan("--set", "search.model.scale={type: float, low: 1.0, high: 5.0}")["references"]
    assert own.startswith("2 baselines and 1 surrogate for every combination of task, model")


def test_plan_says_what_is_confirmed(plan: Callable[..., dict[str, str]]) -> None:
    assert plan()["confirmation"] == "none"
    confirmed = plan("--set", "tuning.confirm={top: 2, seeds: 4}")["confirmation"]
    assert confirmed == "top 2 and the baseline, 4 fresh seeds each"
    confirmed = plan("--set", "tuning.confirm={top: front, seeds: 2}")["confirmation"]
    assert confirmed.startswith("the whole front and the baseline")


def test_plan_says_what_is_demanded_and_what_is_stopped(
    plan: Callable[..., dict[str, str]],
) -> None:
    assert {"constraints", "stopped by"}.isdisjoint(plan())
    found = plan(
        *("--set", "constraints=[clean_accuracy >= 0.9, accuracy_cost <= 0.1]"),
        *("--set", "tuning.early_stopping={type: asha, metric: robust_accuracy}"),
        *("--set", "tuning.num_seeds=3"),
    )
    assert found["constraints"] == "clean_accuracy >= 0.9, accuracy_cost <= 0.1"
    assert found["stopped by"] == "asha on robust_accuracy of every epoch, grace_epochs 1"
    assert found["seeds"] == "3 per trial"


def test_plan_says_what_a_trial_uses(plan: Callable[..., dict[str, str]]) -> None:
    flags = ("--cpus-per-trial", "2", "--gpus-per-trial", "0.5", "--max-concurrent", "3")
    assert plan(*flags)["per trial"] == "2 CPUs, GPUs: 0.5; at once: 3"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-trials", "0"], "--num-trials: expected a whole number of at least 1, found '0'"),
        (["--seed", "-1"], "--seed: expected a whole number of at least 0, found '-1'"),
        (["--max-concurrent", "-1"], "--max-concurrent: expected a whole number of at least 1"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial: expected a number of at least 0.01"),
        (["--gpus-per-trial", "nan"], "--gpus-per-trial: expected a number of at least 0"),
        (["--trials", "3"], "unrecognized arguments: --trials 3"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_value_that_a_flag_does_not_take_is_a_usage_error(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", str(write_space(tmp_path)), *flags]) == 2
    assert message in capsys.readouterr().err


def test_space_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "one of --space FILE and --resume OUTPUT/NAME is required" in capsys.readouterr().err
