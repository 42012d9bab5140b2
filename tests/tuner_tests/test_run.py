from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner_tests.spaces import make_space, write_space
from tuner.run import main
from tuner.study.folder import SearchPlan, create_folder


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


@pytest.mark.parametrize(
    ("flags", "name"),
    [((), "tiny"), (("--name", "2024"), "2024"), ((), "tiny-3")],
)
def test_results_go_to_the_given_name_or_the_next_free_one_of_the_space(
    flags: tuple[str, ...], name: str, plan: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    if name == "tiny-3":
        for taken in ("tiny", "tiny-2"):
            (tmp_path / "out" / taken).mkdir(parents=True)
    assert plan(*flags)["results"] == str(tmp_path / "out" / name)


def test_flag_wins_over_the_file_and_over_set(plan: Callable[..., dict[str, str]]) -> None:
    text = plan("--set", "tuning.num_trials=5", "--num-trials", "9", "--seed", "4")["search"]
    assert text == "tiny: 9 trials, sampler random, seed 4"


def test_plan_says_what_is_pursued_demanded_stopped_confirmed_and_used(
    plan: Callable[..., dict[str, str]],
) -> None:
    plain = plan()
    assert {"constraints", "stopped by"}.isdisjoint(plain)
    assert plain["confirmation"] == "none"
    found = plan(
        *("--set", "constraints=[clean_accuracy >= 0.9, accuracy_cost <= 0.1]"),
        *("--set", "tuning.early_stopping={type: asha, metric: robust_accuracy}"),
        *("--set", "tuning.num_seeds=3"),
        *("--set", "tuning.confirm={top: 2, seeds: 4}"),
        *("--cpus-per-trial", "2", "--gpus-per-trial", "0.5", "--max-concurrent", "3"),
        changes=(("[clean_accuracy, robust_accuracy]", "[accuracy_cost, robustness_gain]"),),
    )
    assert found["objectives"].startswith("minimize accuracy_cost, maximize robustness_gain")
    assert found["constraints"] == "clean_accuracy >= 0.9, accuracy_cost <= 0.1"
    assert found["stopped by"].startswith("asha on robust_accuracy")
    assert found["seeds"] == "3 per trial"
    assert found["confirmation"].startswith("top 2 ")
    assert found["per trial"] == "2 CPUs, GPUs: 0.5; at once: 3"
    shared = plan("--trials-per-gpu", "4")["per trial"]
    assert shared == "at most 1 CPU, trials per GPU: 4; at once: as many as fit"


def test_plan_says_when_references_are_not_shared(plan: Callable[..., dict[str, str]]) -> None:
    assert "cached" in plan()["baselines"]
    own = plan("--set", "search.model.scale={type: float, low: 1.0, high: 5.0}")["baselines"]
    assert "every combination" in own


@pytest.mark.parametrize(
    "flags",
    [
        "--num-trials 0",
        "--cpus-per-trial 0",
        "--gpus-per-trial nan",
        "--trials-per-gpu 0",
        "--trials-per-gpu many",
        "--trials-per-gpu 101",
        "--trials 3",
    ],
)
def test_wrong_flag_is_a_usage_error(
    flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", str(write_space(tmp_path)), *flags.split()]) == 2
    assert flags.split()[0] in capsys.readouterr().err
    assert main(flags.split()) == 2  # without a space


def test_file_in_the_working_directory_is_named_before_it_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "dry_attack.py"
    changes = (
        ("{gaussian: {max_epsilon: 0.4}", '{"dry_attack:stripes": {max_epsilon: 0.4}'),
        ("{gaussian: 0.4,", '{"dry_attack:stripes": 0.4,'),
    )
    source = "def stripes(batch):\n    return lambda epsilon: batch.images\n"
    file.write_text(source)
    folder = create_folder(
        SearchPlan(make_space(tmp_path, *changes), tmp_path / "out" / "x")
    ).folder
    told = f"importing {file}, for dry_attack:stripes"
    for flags in (["--space", "space.yaml", "--output", "new"], ["--resume", str(folder)]):
        sys.modules.pop("dry_attack", None)
        file.write_text(f"import sys\nprint('imported', file=sys.stderr)\n{source}")
        assert main([*flags, "--dry-run"]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines == [told, "imported"]
    sys.modules.pop("dry_attack", None)
