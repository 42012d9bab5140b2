"""What the report says: the answer, how sure it is, commands and warnings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.findings.study import Study, load_study
from analysis.report.answer import answer
from analysis.report.caveats import warnings_of
from analysis.report.header import header
from analysis.report.tables import confirmed_table, cost, failures
from simreg_core.results.delivered import best_of, delivered_in
from tests.analysis_tests.noisy_searches import SPACE as NOISY_SPACE
from tests.analysis_tests.noisy_searches import noisy_rows, search
from tests.analysis_tests.reports import (
    small_results,
    small_trials,
    write_audit,
    write_confirmation,
    write_space,
)
from tests.analysis_tests.result_rows import complete_row, ended_row, write_part

ACCURACIES = ["clean_accuracy", "robust_accuracy"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_results(tmp_path / "demo")


def load(folder: Path, split: str = "validation") -> Study:
    return load_study(folder, split)


def has(found: list[str], *parts: str) -> bool:
    return any(all(part in text for part in parts) for text in found)


def test_header_has_the_conditions(folder: Path) -> None:
    said = dict(header(load(folder)))
    assert said["Trials"] == "3 complete, 0 pruned, 1 failed, 0 running; 4 asked for"
    assert said["Split"] == "validation, n = 100 images"
    assert said["Seeds"] == "one seed per trial (0)"
    assert "seeds 101, 102, 103" in said["Baseline"]
    assert said["Device"] == "cpu (x)"


def test_running_trials_are_those_of_the_heartbeat(folder: Path) -> None:
    content = {"phase": "search", "running": {"4": {}, "5": {}}, "updated_at": "then"}
    (folder / "heartbeat.json").write_text(json.dumps(content))
    assert "2 running (as of then)" in dict(header(load(folder)))["Trials"]


def test_without_confirmation_it_is_a_screening(folder: Path) -> None:
    found = answer(load(folder))
    assert found.verdict == "Perhaps: screening only"
    assert found.recommended == 1
    assert "trial 1 with a tradeoff score of +0.160" in found.sentences[0]
    assert "the largest of 3 scores" in found.sentences[1]
    assert found.commands[0].command == f"python -m tuner.confirm {folder} --trials 1 0 --seeds 5"
    assert f"tuner.export {folder} --trial 1 --to demo-trial-1" in found.commands[1].command


def test_score_of_a_single_trial_proves_little(tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo", small_trials()[:1])
    sentence = answer(load(folder)).sentences[1]
    assert "standard errors" in sentence
    assert sentence.endswith("one trial proves little.")


@pytest.mark.parametrize(
    ("scores", "verdict", "recommended", "first"),
    [
        ({0: (0.1, 0.05), 1: (0.2, 0.3)}, "Yes, confirmed", 0, "tuner.export"),
        ({0: (0.1, 0.2)}, "Not shown", 0, "tuner.confirm"),
        ({0: (-0.3, 0.1), 1: (-0.2, 0.1)}, "No: every confirmed", 1, "tuner.confirm"),
        ({0: (0.1, None)}, "Not shown", 0, "tuner.confirm"),
    ],
)
def test_confirmation_decides(
    folder: Path,
    scores: dict[int, tuple[float, float | None]],
    verdict: str,
    recommended: int,
    first: str,
) -> None:
    write_confirmation(folder, scores)
    found = answer(load(folder))
    assert found.verdict.startswith(verdict)
    assert found.recommended == recommended
    assert first in found.commands[0].command


def test_intervals_are_narrowed_of_the_confirmed_trials_alone(folder: Path) -> None:
    write_confirmation(folder, {0: (-0.01, 0.05), 2: (0.0, 0.05)})
    command = answer(load(folder)).commands[0].command
    assert command == f"python -m tuner.confirm {folder} --trials 2 0 --seeds 10"


def test_front_of_test_figures_chooses_nothing_to_confirm(folder: Path) -> None:
    command = answer(load(folder, "test")).commands[0].command
    assert command == f"python -m tuner.confirm {folder} --top 3 --seeds 5"


def test_confirmed_trials_with_their_intervals(folder: Path) -> None:
    write_confirmation(folder, {0: (0.1, 0.05), 1: (0.2, 0.3)})
    assert "tradeoff score +0.100 (+0.050 to +0.150)" in answer(load(folder)).sentences[0]
    table = confirmed_table(load(folder))
    assert table is not None
    assert [row[0] for row in table.rows] == ["1", "0"]
    assert table.rows[1][6] == "0.1000 ± 0.0500"
    assert "fresh seeds (1000, 1001)" in table.caption


def test_damaged_confirmation_is_told(folder: Path) -> None:
    (folder / "confirmation.json").write_text('{"candidates": 3}')
    study = load(folder)
    assert has(warnings_of(study), "confirmation.json is damaged")
    assert "screening only" in answer(study).verdict


def test_nothing_complete_names_how_to_go_on(tmp_path: Path) -> None:
    found = answer(load(small_results(tmp_path / "demo", [ended_row(0, "failed", "no memory")])))
    assert (found.verdict, found.recommended) == ("No results yet", None)
    assert "tuner.run --resume" in found.commands[1].command


@pytest.mark.parametrize("objectives", [["tradeoff_score"], ["robust_accuracy"], ACCURACIES])
@pytest.mark.parametrize("seed", [0, 2])
def test_recommended_trial_is_the_one_that_status_names(
    objectives: list[str], seed: int, tmp_path: Path
) -> None:
    space = {**NOISY_SPACE, "objectives": list(objectives), "tuning": {"num_trials": 30}}
    folder = search(tmp_path / "demo", noisy_rows(30, seed=seed), space)
    best = best_of(delivered_in(folder))
    assert best is not None
    assert answer(load(folder)).recommended == best.trial


def test_warns_of_validation_figures_alone(folder: Path) -> None:
    assert has(warnings_of(load(folder)), "validation values alone")
    assert has(warnings_of(load(folder, "test")), "selected on test values")
    write_confirmation(folder, {0: (0.1, 0.05)})
    found = warnings_of(load(folder))
    assert not has(found, "validation values alone")
    assert has(found, "confirmed on test: only trial 0.")


def test_warns_of_differences_within_noise(tmp_path: Path) -> None:
    trials = [complete_row(n, 0.9 + n / 1000, 0.5 - n / 1000) for n in range(6)]
    found = warnings_of(load(small_results(tmp_path / "demo", trials)))
    assert has(found, "On the front with a probability below 0.5")
    assert has(found, "+0.060, is within noise")


def test_warns_of_a_best_value_at_an_end_of_its_range(tmp_path: Path) -> None:
    trials = small_trials()
    folder = small_results(tmp_path / "demo", trials)
    assert not has(warnings_of(load(folder)), "range")
    for alpha, is_at_end in ((1.2, True), (1.4, False), (80.0, True), (70.0, False)):
        trials[1]["regularizer.alpha"] = alpha  # of 1 to 100, logarithmic
        found = warnings_of(load(small_results(tmp_path / str(alpha), trials)))
        assert has(found, f"has regularizer.alpha {alpha:g}", "(1 to 100)") == is_at_end
    for number, row in enumerate(trials[:3]):
        row["regularizer.batch_size"] = (8, 4, 16)[number]
    folder = small_results(tmp_path / "integers", trials)
    write_space(folder, search={"regularizer.batch_size": {"type": "int", "low": 4, "high": 32}})
    assert has(warnings_of(load(folder)), "has regularizer.batch_size 4", "(4 to 32)")


def test_warns_of_audits_with_signs_of_masking(tmp_path: Path) -> None:
    trials = small_trials()
    trials[1]["config_digest"] = "abc"
    folder = small_results(tmp_path / "demo", trials)
    write_audit(folder / "audit-1.json", "abc", ["uniform beats the white-box attack", "more"])
    write_audit(folder / "audits" / "good.json", "abc", [])
    write_audit(folder / "checkpoints" / "00002" / "a.json", "other", ["restarts matter"])
    (folder / "notes.json").write_text("[1, 2]")
    (folder / "broken.json").write_text("{")
    study = load(folder)
    (folder / "audits" / "cut.json").write_text('{"weights"')
    study = load(folder)
    assert len(study.audits) == 4
    found = warnings_of(study)
    assert has(
        found,
        "audit of trial 1, which is on the front (audit-1.json, n = 200 images)",
        "2 signs of masked gradients: uniform beats",
    )
    assert has(found, "a network of another search", "1 sign of masked gradients")
    assert not has(found, "good.json")
    assert has(found, "audits/cut.json is damaged and ignored: Exp")
    said = dict(header(study))["Audits"]
    assert "trial 1: 2 signs of masked gradients (n = 200 images); trial 1: no signs" in said
    assert not any("simreg_core.audit" in item.command for item in answer(study).commands)


def test_warns_of_failed_infeasible_and_unusable_trials(tmp_path: Path) -> None:
    trials = [
        *small_trials(),
        complete_row(4, float("nan"), 0.5),
        complete_row(5, 0.99, 0.99, feasible=False),
    ]
    study = load(small_results(tmp_path / "demo", trials))
    found = warnings_of(study)
    assert has(found, "1 of 6 trials failed")
    assert has(found, "1 complete trial without a finite")
    assert has(found, "1 complete trial outside the constraints")
    assert study.trials["trial"].tolist() == [0, 1, 2, 5]
    assert study.on_front.tolist() == [True, True, False, False]


def test_warns_of_a_missing_baseline(tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo")
    (folder / "curves" / "baseline-base0.parquet").unlink()
    assert has(warnings_of(load(folder)), "no baseline")


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    trials = [
        complete_row(0, 0.9, 0.5),
        ended_row(1, "failed", "no\n memory"),
        ended_row(2, "failed", "no memory"),
        ended_row(3, "pruned", "asha"),
        ended_row(4, "failed", None),
    ]
    table = failures(load(small_results(tmp_path / "demo", trials)))
    assert table is not None
    assert table.rows == [
        ["failed", "no memory", "2", "trials 1 and 2"],
        ["failed", "none recorded", "1", "trial 4"],
        ["pruned", "asha", "1", "trial 3"],
    ]


def test_cost_of_the_search_and_its_warm_starts(folder: Path) -> None:
    study = load(folder)
    assert cost(study).rows[0] == ("training", "3", "1700", "1700", "1700", "5100")
    assert "In all 3 CPU-hours" in cost(study).caption
    assert study.warm_starts.tolist() == [1]


def test_one_objective_shows_the_front_of_accuracies(folder: Path) -> None:
    write_space(folder, objectives=["tradeoff_score"])
    study = load(folder)
    assert study.objectives == ("clean_accuracy", "robust_accuracy")
    assert "tradeoff score was searched" in dict(header(study))["Objectives"]


def test_seeds_of_trials_with_several_networks(tmp_path: Path) -> None:
    rows = [complete_row(0, 0.9, 0.5) | {"seed": seed} for seed in (0, 1)]
    folder = small_results(tmp_path / "demo", [complete_row(0, 0.9, 0.5, num_seeds=2)])
    write_part(folder, "seeds", "00000.parquet", rows)
    assert dict(header(load(folder)))["Seeds"].startswith("mean of 2 seeds per trial")
