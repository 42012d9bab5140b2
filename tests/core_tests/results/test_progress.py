from __future__ import annotations

import time
from pathlib import Path

import pytest

from simreg_core import registry
from simreg_core.results.progress import study_progress
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.study_lock import HEARTBEAT_FILE, LOCK_FILE, StudyLock
from simreg_core.results.tables import ResultStore
from simreg_core.storage import base

SPACE = """name: demo
objectives: [clean_accuracy, robust_accuracy]
constraints: [clean_accuracy >= 0.5]
tuning: {num_trials: 3, confirm: null}
"""
PAIR = ("clean_accuracy", "robust_accuracy")
CONFIRMS = SPACE.replace("null", "{top: 1, seeds: 2}")


def write_study(folder: Path, num_complete: int = 2, space: str = SPACE) -> ResultStore:
    """A study whose later trials are better, but for the first, which misses the constraint."""
    folder.mkdir(parents=True, exist_ok=True)
    store = ResultStore(folder)
    store.create()
    (folder / SPACE_FILE).write_text(space)
    for number in range(num_complete):
        accuracies = {f"validation.{name}": 0.4 + number / 4 for name in PAIR}
        score = {"validation.tradeoff_score": number / 10 if number else 9.0}
        row = {"trial": number, "status": "complete", **accuracies, **score}
        store.write_trial("trials", number, [row])
    return store


def test_counts_best_trial_and_reasons(tmp_path: Path) -> None:
    store = write_study(tmp_path)
    store.write_trial("trials", 2, [{"trial": 2, "status": "failed", "reason": "no memory"}])
    store.write("confirmation", "a", [{"role": "baseline", "status": "complete"}])
    before = sorted(tmp_path.rglob("*"))
    found = study_progress(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.name, found.state, found.problem) == ("demo", "finished", None)
    assert (found.num_trials, found.num_ended) == (3, 3)
    assert found.trials == {"complete": 2, "failed": 1}
    assert found.failures == {"no memory": 1}
    assert found.confirmation == {"complete": 1}
    assert found.best is not None
    assert (found.best.trial, found.best.value, found.best.is_feasible) == (1, 0.1, True)


def test_running_study_says_what_it_does_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_HEARTBEAT_SECONDS", 0.02)
    write_study(tmp_path)
    with StudyLock(tmp_path) as lock:
        lock.enter_phase("trials")
        lock.ended(0)
        lock.progressed(2, 7, 1, 5)
        lock.ended(1)
        deadline = time.monotonic() + 300
        while not (found := study_progress(tmp_path)).running and time.monotonic() < deadline:
            time.sleep(0.02)
    assert (found.state, found.phase) == ("running", "trials")
    assert found.running == {"2": {"7": {"epochs_done": 1, "epochs": 5}}}
    assert {"host", "pid", "started_at", "updated_at"} == set(found.heartbeat)
    after = study_progress(tmp_path)
    assert (after.state, after.phase, after.running) == ("stopped", None, {})


@pytest.mark.parametrize(
    ("phase", "state"), [("trials", "stopped"), ("confirmation", "stopped"), ("done", "finished")]
)
def test_study_without_its_confirmation_is_not_finished(
    phase: str, state: str, tmp_path: Path
) -> None:
    write_study(tmp_path, 3, CONFIRMS)
    with StudyLock(tmp_path) as lock:
        lock.enter_phase(phase)
    assert study_progress(tmp_path).state == state


def test_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    (tmp_path / "study" / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    assert study_progress(tmp_path / "study").state == "stopped"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"pid": 3}', "[1]", "garbage", None])
def test_new_study_is_stopped_even_with_a_damaged_heartbeat(
    content: str | None, tmp_path: Path
) -> None:
    write_study(tmp_path, 0)
    if content is not None:
        (tmp_path / HEARTBEAT_FILE).write_text(content)
    found = study_progress(tmp_path)
    assert (found.state, found.num_trials, found.trials) == ("stopped", 3, {})
    assert (found.best, found.problem) == (None, None)


@pytest.mark.parametrize(
    "space",
    [
        "tuning: [",
        "tuning: [1]",
        SPACE.replace("num_trials", "trials"),
        SPACE.replace("[clean_accuracy, robust_accuracy]", "[beauty]"),
        SPACE.replace(">=", "about"),
    ],
)
def test_damaged_space_file_is_a_problem_and_trials_are_counted(space: str, tmp_path: Path) -> None:
    write_study(tmp_path, space=space)
    found = study_progress(tmp_path)
    assert (found.state, found.num_trials, found.num_ended) == ("unknown", None, 2)
    assert found.problem is not None
    assert SPACE_FILE in found.problem


@pytest.mark.parametrize("table", ["trials", "confirmation"])
def test_damaged_table_and_missing_folder_are_problems(table: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / table / "a.parquet").write_bytes(b"PAR1")
    found = study_progress(tmp_path)
    assert f"{table}/a.parquet" in (found.problem or "")
    assert found.num_trials == 3
    assert (found.num_ended is None) == (table == "trials")
    missing = study_progress(tmp_path / "nowhere")
    assert missing.state == "unknown"
    assert "nowhere" in (missing.problem or "")


def test_study_in_an_object_store(bucket: Path) -> None:
    folder = bucket / "search"
    write_study(folder)
    with StudyLock(folder):
        assert study_progress(folder).state == "running"
    found = study_progress(folder)
    assert (found.state, found.num_ended, found.problem) == ("stopped", 2, None)


def test_metrics_that_the_folder_names_are_shown_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "examples.own_metric:worst_accuracy"
    space = SPACE.replace("[clean_accuracy, robust_accuracy]", f"['{own}']")
    store = write_study(tmp_path, 0, space.replace("clean_accuracy >= 0.5", f"'{own} >= 0.5'"))
    for number, value in enumerate((0.6, 0.7, 0.4)):
        row = {"trial": number, "status": "complete", f"validation.{own}": value}
        store.write_trial("trials", number, [row])

    def load(name: str) -> None:
        raise AssertionError(f"{name} is imported")

    monkeypatch.setattr(registry, "load_function", load)
    found = study_progress(tmp_path)
    assert (found.state, found.problem) == ("finished", None)
    assert str(found.best) == "measured accuracy under the worst attack 0.700 (trial 1)"
    write_study(tmp_path / "new", 0, space.replace(own, "absent_module:run"))
    found = study_progress(tmp_path / "new")
    assert (found.state, found.problem, found.best) == ("stopped", None, None)
