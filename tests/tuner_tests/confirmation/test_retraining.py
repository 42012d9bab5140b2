from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from simreg_core.registry import METRICS
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text
from tests.tuner_tests.spaces import make_space, write_space
from tuner.confirm import main
from tuner.confirmation.retraining import confirm, fresh_seeds
from tuner.confirmation.summary import SUMMARY_FILE, Candidate, confirmation_table, estimate
from tuner.execution.ray_session import Resources
from tuner.execution.worker import WorkerSettings
from tuner.space.search_space import SearchSpace


def trial(number: int, **validation: float | None) -> dict[str, Any]:
    values = {f"validation.{name}": value for name, value in validation.items()}
    status = "failed" if None in validation.values() else "complete"
    return {"trial": number, "status": status, "num_seeds": 1, **values}


# seeds and intervals


def test_fresh_seeds_skip_used_ones_and_more_begin_with_the_same() -> None:
    assert fresh_seeds(4, 1000, {1001, 1002, 5}) == [1000, 1003, 1004, 1005]
    assert fresh_seeds(5, 1000, {1001})[:3] == fresh_seeds(3, 1000, {1001})
    assert fresh_seeds(2, 2**32 - 1, {0}) == [2**32 - 1, 1]


def test_interval_is_that_of_scipy_and_one_value_has_none() -> None:
    for values in ([0.4, 0.6], [0.1, 0.4, 0.35], [0.9, 0.91, 0.87, 0.5, 0.77]):
        mean = sum(values) / len(values)
        low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
        assert estimate(values)[:2] == pytest.approx((mean, (high - low) / 2))
    assert estimate([1.0, 1.0]) == (1.0, 0.0, 2)
    assert estimate([0.7]) == (0.7, None, 1)


# the whole confirmation, with real training


class Confirmation(NamedTuple):
    space: SearchSpace
    store: ResultStore
    settings: WorkerSettings
    candidates: list[Candidate]

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.store.folder / "confirmation")

    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.store.folder / SUMMARY_FILE).read_text())
        return content

    def parts(self) -> dict[str, int]:
        folder = self.store.folder / "confirmation"
        return {part.name: part.stat().st_mtime_ns for part in folder.iterdir()}

    def again(self, chosen: dict[int, dict[str, Any]], num_seeds: int) -> tuple[Any, str]:
        """Confirm once more; returns the candidates and what was printed."""
        printed = io.StringIO()
        found = confirm(
            *(self.space, self.store, chosen, chosen, num_seeds, self.settings),
            Resources(cpus=1.0, gpus=0.0, max_concurrent=2),
            Console(file=printed, width=200),
        )
        return found, printed.getvalue()

    def copy(self, folder: Path) -> Confirmation:
        """The same confirmation in another folder, for a test that adds to it."""
        store = ResultStore(folder)
        for table in ("trials", "confirmation"):
            shutil.copytree(self.store.folder / table, folder / table)
        return self._replace(store=store)


CHOSEN = {
    4: {"regularizer.threshold": 0.5, "regularizer.alpha": 0.05},
    1: {"regularizer.threshold": 0.2, "regularizer.alpha": 0.5},
}


@pytest.fixture(scope="module")
def confirmation(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Confirmation:
    """Two candidates with three fresh seeds. Seeds 999999 to 1000001 were used by the search."""
    folder = tmp_path_factory.mktemp("confirmation")
    space = make_space(
        folder,
        ("baseline_seeds: [1, 2]", "baseline_seeds: [1, 1000001]"),
        ("num_epsilons: 3", "num_epsilons: 2\n    tradeoff_weight: 0.5"),
    )
    store = ResultStore(folder)
    store.create()
    for number in CHOSEN:
        row = {**trial(number, tradeoff_score=0.1 * number), "seed": 999_999, "num_seeds": 2}
        store.write("trials", f"{number:05d}", [row])
    store.write("trials", "00007", [trial(7, tradeoff_score=None)])  # without a configuration
    settings = WorkerSettings(folder, folder / "baselines", "cpu", 1)
    first = Confirmation(space, store, settings, [])
    candidates, _ = first.again(CHOSEN, 3)
    return first._replace(candidates=candidates)


trains = pytest.mark.slow  # nine networks


@trains
def test_every_network_has_one_row_with_a_fresh_seed_and_candidates_share_baselines(
    confirmation: Confirmation,
) -> None:
    assert confirmation.summary()["seeds"] == [1_000_002, 1_000_003, 1_000_004]
    rows = confirmation.rows()
    assert set(rows["seed"]) == {1_000_002, 1_000_003, 1_000_004}
    assert set(rows["status"]) == {"complete"}
    assert sorted(rows["trial"].dropna()) == [1, 1, 1, 4, 4, 4]
    baselines = rows[rows["role"] == "baseline"]
    assert sorted(baselines["seed"]) == [1_000_002, 1_000_003, 1_000_004]
    assert set(baselines["regularizer.alpha"]) == {0.0}
    for name in ("accuracy_cost", "robustness_gain", "tradeoff_score"):
        assert list(baselines[f"test.{name}"]) == [0, 0, 0]


@trains
def test_cost_gain_and_score_are_paired_with_the_baseline_of_the_same_seed(
    confirmation: Confirmation,
) -> None:
    rows = confirmation.rows().set_index(["role", "seed"])
    for candidate in confirmation.candidates:
        mine = rows[rows["trial"] == candidate.trial]
        costs, gains = [], []
        for _, seed in mine.index:
            own, baseline = mine.loc[("trial", seed)], rows.loc[("baseline", seed)]
            costs.append(baseline["test.clean_accuracy"] - own["test.clean_accuracy"])
            gains.append(own["test.robust_accuracy"] - baseline["test.robust_accuracy"])
        scores = [gain - 0.5 * cost for cost, gain in zip(costs, gains, strict=True)]
        for name, values in (
            ("accuracy_cost", costs),
            ("robustness_gain", gains),
            ("tradeoff_score", scores),
            ("clean_accuracy", list(mine["test.clean_accuracy"])),
            ("robust_accuracy", list(mine["test.robust_accuracy"])),
        ):
            assert list(mine[f"test.{name}"]) == pytest.approx(values)
            assert candidate.estimates[name] == pytest.approx(estimate(values))


@trains
def test_trial_whose_baseline_was_killed_is_paired_by_the_next_confirmation(
    confirmation: Confirmation, tmp_path: Path
) -> None:
    other = confirmation.copy(tmp_path)
    rows = {row["config_digest"]: row for row in other.store.read("confirmation")}
    unpaired = {f"test.{m.name}": None for m in METRICS.own.values() if m.against_baseline}
    for digest, row in rows.items():
        if row["role"] == "baseline" and row["seed"] == 1_000_003:
            (tmp_path / "confirmation" / f"baseline-{digest}.parquet").unlink()
        if row["role"] == "trial" and row["seed"] == 1_000_003:
            part = f"trial-{row['trial']:05d}-{digest}"
            other.store.write("confirmation", part, [row | unpaired])
    candidates, _ = other.again(CHOSEN, 3)
    assert [c.num_failed for c in candidates] == [0, 0]
    for row in other.store.read("confirmation"):
        for name in unpaired:
            assert row[name] == rows[row["config_digest"]][name]


@trains
def test_summary_says_what_was_found(confirmation: Confirmation) -> None:
    summary = confirmation.summary()
    assert summary["split"] == "test"
    assert [c["trial"] for c in summary["candidates"]] == [4, 1]
    assert [c["params"] for c in summary["candidates"]] == list(CHOSEN.values())
    assert [c["screened_score"] for c in summary["candidates"]] == [0.4, 0.1]
    for candidate, written in zip(confirmation.candidates, summary["candidates"], strict=True):
        assert written["num_failed"] == 0
        for name, value in candidate.estimates.items():
            assert written["estimates"][name] == value._asdict()
    rows = confirmation.rows()
    clean = rows[rows["role"] == "baseline"]["test.clean_accuracy"]
    (baseline,) = summary["baselines"]
    assert baseline["clean_accuracy"]["mean"] == pytest.approx(clean.mean())
    assert baseline["clean_accuracy"]["n"] == 3


@trains
def test_table_for_the_console_has_baseline_and_candidates(confirmation: Confirmation) -> None:
    printed = io.StringIO()
    table = confirmation_table(confirmation.store.folder / SUMMARY_FILE)
    Console(file=printed, width=200).print(table)
    title, _, *lines = printed.getvalue().splitlines()
    assert title.startswith("Confirmed on test, mean ± 95 % interval over 3 fresh seeds")
    assert [line.split()[:2] for line in lines] == [["baseline", "3"], ["4", "3"], ["1", "3"]]
    assert lines[1].rstrip().endswith("threshold 0.5, alpha 0.05")


@trains
def test_confirming_again_trains_nothing_and_says_the_same(confirmation: Confirmation) -> None:
    before, summary = confirmation.parts(), confirmation.summary()
    digest = confirmation.rows()["config_digest"][0]
    left = confirmation.settings.folder / "checkpoints" / f"confirmation-{digest}" / "state.pt"
    write_text(left, "by a kill after the row")
    assert confirmation.again(CHOSEN, 3)[0] == confirmation.candidates
    assert confirmation.parts() == before
    assert confirmation.summary() == summary
    assert not left.parent.exists()


@trains
def test_failed_network_is_recorded_and_named(confirmation: Confirmation, tmp_path: Path) -> None:
    other = confirmation.copy(tmp_path)
    diverging = {9: {"regularizer.threshold": 0.5, "regularizer.alpha": 1.0e30}}
    (candidate,), printed = other.again(diverging, 2)
    assert (candidate.num_failed, candidate.estimates) == (2, {})
    rows = other.rows()
    failed = rows[rows["status"] == "failed"]
    assert sorted(zip(failed["trial"], failed["seed"], strict=True)) == [
        (9, 1_000_002),
        (9, 1_000_003),
    ]
    assert set(failed["regularizer.alpha"]) == {1.0e30}
    for seed, reason in zip(failed["seed"], failed["reason"], strict=True):
        assert reason.startswith("task loss nan")
        assert f"failed: trial 9, seed {seed}: task loss nan" in printed
    assert other.summary()["candidates"][0]["num_failed"] == 2


@trains
def test_more_seeds_train_only_the_new_ones_and_what_failed_before(
    confirmation: Confirmation, tmp_path: Path
) -> None:
    other = confirmation.copy(tmp_path)
    lost = next(row for row in other.store.read("confirmation") if row["trial"] == 4)
    failed = {name: lost[name] for name in ("role", "trial", "config_digest", "seed")}
    part = f"trial-00004-{lost['config_digest']}"
    other.store.write("confirmation", part, [{**failed, "status": "failed", "reason": "lost"}])
    before = other.parts()
    (candidate,), _ = other.again({4: CHOSEN[4]}, 4)
    after = other.parts()
    assert {name for name in before if after[name] != before[name]} == {f"{part}.parquet"}
    rows = other.rows()
    assert sorted(rows[rows["seed"] == 1_000_005]["role"]) == ["baseline", "trial"]
    assert len(after) == len(before) + 2
    assert (candidate.num_failed, candidate.estimates["tradeoff_score"].n) == (0, 4)
    again = rows.set_index("config_digest").loc[lost["config_digest"]]
    assert again["status"] == "complete"
    assert again["test.robust_accuracy"] == lost["test.robust_accuracy"]


# the command line


@pytest.mark.parametrize(
    ("number", "reason"), [("1", "trial 1 is failed"), ("7", "trial 7 does not exist")]
)
def test_trial_without_metrics_is_refused(
    number: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(tmp_path)
    store = ResultStore(tmp_path)
    store.create()
    store.write_trial("trials", 0, [trial(0, tradeoff_score=0.1)])
    store.write_trial("trials", 1, [trial(1, tradeoff_score=None)])
    assert main([str(tmp_path), "--trials", "0", number]) == 2
    assert f"--trials: {reason}; complete: 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "no results of a search"),
        (["--trials", "0", "--top", "2"], "--top"),
        (["--seeds", "1"], "--seeds"),
        (["--top", "few"], "--top"),
    ],
)
def test_wrong_flag_or_folder_is_refused_in_one_line(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
