"""Which folders can be resumed, and what status says of them; without Ray."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simreg_core.errors import ConfigError
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from tests.tuner_tests.spaces import make_space
from tuner.run import main as run
from tuner.space.search_space import SearchSpace
from tuner.status import main as status
from tuner.study.folder import SearchPlan, check_resumable, create_folder, resume_plan
from tuner.study.study import open_study, tell

MakeSearch = Callable[..., SearchPlan]


def _finish(store: ResultStore, number: int, score: float, **columns: Any) -> dict[str, Any]:
    names = ("clean_accuracy", "robust_accuracy", "tradeoff_score")
    row: dict[str, Any] = {"trial": number, "status": "complete", "reason": None, "feasible": True}
    row |= {f"validation.{name}": score for name in names} | columns
    store.write_trial("trials", number, [row])
    return row


def _ask_and_finish(plan: SearchPlan, num_trials: int) -> None:
    study, store = open_study(plan.folder, plan.space), ResultStore(plan.folder)
    for number in range(num_trials):
        trial = study.ask(plan.space.distributions())
        tell(study, trial, _finish(store, number, number / 10), plan.space)


@pytest.fixture
def make_search(tmp_path: Path) -> MakeSearch:
    """Factory of searches of which some trials have finished and some have begun."""

    def make(*changes: tuple[str, str], finished: int = 3, begun: int = 0) -> SearchPlan:
        space = make_space(tmp_path, ("num_trials: 2", "num_trials: 4"), *changes)
        plan = SearchPlan(space, tmp_path / "out" / "tiny")
        plan = create_folder(plan)
        _ask_and_finish(plan, finished)
        study = open_study(plan.folder, space)
        for _ in range(begun):
            study.ask(space.distributions())
        return plan

    return make


def test_consistent_results_and_a_new_folder_can_be_resumed(make_search: MakeSearch) -> None:
    plan = make_search(finished=2, begun=1)
    new = create_folder(replace(plan, folder=plan.folder.with_name("new")))
    for folder in (plan.folder, new.folder):
        assert run(["--resume", str(folder), "--dry-run"]) == 0


def test_lost_study_is_refused_before_anything_is_overwritten(
    make_search: MakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_search()
    (plan.folder / "study.journal").unlink()
    before = sorted(path.name for path in plan.folder.iterdir())
    assert run(["--resume", str(plan.folder), "--dry-run"]) == 2
    assert f"{plan.folder}: has no study" in capsys.readouterr().err
    assert sorted(path.name for path in plan.folder.iterdir()) == before


def test_lost_trials_and_rows_and_a_damaged_study_are_refused(make_search: MakeSearch) -> None:
    plan = make_search()
    journal = plan.folder / "study.journal"
    whole = journal.read_text()
    lines = whole.splitlines(keepends=True)
    cut = max(n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 4)  # a new trial
    for content, message in (
        ("".join(lines[:cut]), "its study has lost trial 2"),
        ("garbage\n" + whole, r"study\.journal: damaged: "),
    ):
        journal.write_text(content)
        with pytest.raises(ConfigError, match=message):
            check_resumable(resume_plan(plan.folder, None, ()))
    journal.write_text(whole)
    ResultStore(plan.folder).write_trial("trials", 1, [])
    with pytest.raises(ConfigError, match="trials/ has lost the row of trial 1"):
        check_resumable(resume_plan(plan.folder, None, ()))


@pytest.mark.parametrize(("finished", "begun"), [(3, 0), (2, 1), (0, 3)])
def test_fewer_trials_than_have_begun_are_refused(
    finished: int, begun: int, make_search: MakeSearch
) -> None:
    plan = make_search(finished=finished, begun=begun)
    check_resumable(resume_plan(plan.folder, None, ["tuning.num_trials=3"]))
    with pytest.raises(ConfigError, match=r"num_trials: 2 .* 3 trials; allowed: 3 or"):
        check_resumable(resume_plan(plan.folder, None, ["tuning.num_trials=2"]))


def test_warm_starts_beyond_the_first_trials_are_tried_when_there_are_more(tmp_path: Path) -> None:
    starts = "[{regularizer.alpha: 0.1}, {regularizer.alpha: 0.2}, {regularizer.alpha: 0.3}]"

    def space(num_trials: int) -> SearchSpace:
        tuning = f"num_trials: {num_trials}, warm_starts: {starts}"
        return make_space(tmp_path, ("num_trials: 2", tuning))

    plan = create_folder(SearchPlan(space(1), tmp_path / "starts"))
    for num_trials in (1, 3):
        study = open_study(plan.folder, space(num_trials))
        while len([t for t in study.trials if t.state.name != "WAITING"]) < num_trials:
            study.ask(plan.space.distributions())
    assert [t.params["regularizer.alpha"] for t in study.trials] == [0.1, 0.2, 0.3]


def test_name_and_storage_cannot_be_changed(
    make_search: MakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_search().folder
    with pytest.raises(ConfigError, match="--set name: "):
        resume_plan(folder, None, ["name=other"])
    url = "postgresql://me@127.0.0.1:1/absent"
    assert run(["--resume", str(folder), "--storage", url, "--dry-run"]) == 2
    assert "leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_damaged_or_missing_table_is_named(
    content: bytes | None, make_search: MakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_search().folder
    (path,) = (folder / "trials").glob("0*.parquet")
    if content is None:
        shutil.rmtree(folder / "trials")
    else:
        path.write_bytes(content)
    for main in (status, lambda words: run(["--resume", *words])):
        assert main([str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (f"{folder}: no trials/" if content is None else str(path)) in line


# status


def test_status_of_a_stopped_search(
    make_search: MakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(make_search().folder)
    assert status([folder]) == 0
    shown = capsys.readouterr().out
    for part in (f"--resume {folder}", "3 of 4 (3 complete)", "(trial 2)"):
        assert part in shown
    assert status([folder, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["trials"], found["num_trials"]) == ("stopped", {"complete": 3}, 4)
    assert found["best"]["trial"] == 2


def test_running_search_says_what_runs(
    make_search: MakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_search()
    shown = ""
    with StudyLock(plan.folder) as lock:
        lock.enter_phase("trials")
        lock.progressed(3, 0, 1, 5)
        until = time.monotonic() + 300
        while "running: trials" not in shown and time.monotonic() < until:  # a thread writes it
            assert status([str(plan.folder)]) == 0
            shown = capsys.readouterr().out
    assert "running: trials" in shown
    assert "trial 3: 1 of 5 epochs" in shown
