from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from simreg_core.networks.checkpoint import save_weights
from tests.tuner_tests.export.cases import FILES, Case, case, python, trained
from tests.tuner_tests.spaces import assert_refused
from tuner.export.__main__ import export_trial

__all__ = ["case", "trained"]


@pytest.mark.parametrize(
    ("trial", "fragments"),
    [
        ("7", ["no trial 7", "2 to 5"]),
        ("4", ["trial 4 ", "NonFiniteLossError"]),
        ("5", ["trial 5 ", "pruned"]),
        ("3", ["00003/weights.pt"]),
        ("1.5", ["--trial", "'1.5'"]),
    ],
    ids=["unknown", "failed", "pruned", "no-weights", "fraction"],
)
def test_trial_without_a_network_is_refused(trial: str, fragments: list[str], case: Case) -> None:
    assert_refused(case.export(trial), case.to, fragments)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("checkpoints/00002/weights.pt", b"PK damaged"),
        ("trials/00003.parquet", b"PAR1"),
        ("confirmation.json", b"{"),
        ("confirmation.json", b'{"candidates": [{"trial": 2}], "seeds": []}'),
    ],
)
def test_damaged_file_is_refused_by_name(file: str, content: bytes, case: Case) -> None:
    (case.folder / file).write_bytes(content)
    assert_refused(case.export(), case.to, [f"{case.folder / file}"])


def test_weights_of_another_configuration_and_missing_results_are_refused(case: Case) -> None:
    other = case.config.model_copy(update={"seed": 9})
    save_weights(case.weights, other, case.result.model)
    assert_refused(case.export(), case.to, ["weights.pt", other.digest()])
    shutil.rmtree(case.folder / "trials")
    assert_refused(case.export(), case.to, [f"{case.folder}: "])
    shutil.rmtree(case.folder)
    assert_refused(case.export(), case.to, [f"{case.folder}: "])


def test_search_without_an_ended_trial_is_refused(case: Case) -> None:
    for number in (2, 3):
        case.store.write_trial("trials", number, [])
    assert_refused(case.export("best"), case.to, ["2 trials"])  # none of them complete
    shutil.rmtree(case.folder / "trials")
    case.store.create()
    for trial in ("0", "best"):
        assert_refused(case.export(trial), case.to, ["no trial"])


@pytest.mark.parametrize("kind", ["folder", "dangling-link", "below-a-file"])
def test_unusable_target_is_refused_and_left_alone(kind: str, case: Case) -> None:
    if kind == "folder":
        case.to.mkdir()
    elif kind == "dangling-link":
        case.to.symlink_to(case.to.parent / "nowhere")
    else:
        case.to.touch()
        case = case._replace(to=case.to / "network")
    before = list(case.folder.parent.rglob("*"))
    done = case.export()
    assert done.code == 2
    assert f"tuner.export: --to {case.to}: " in done.errors
    assert list(case.folder.parent.rglob("*")) == before


# Whole or not at all


@pytest.mark.parametrize("num_written", range(len(FILES)))
def test_failure_at_any_file_leaves_nothing(
    num_written: int, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    error = KeyboardInterrupt() if num_written % 2 else OSError(28, "No space left on device")
    replace = os.replace
    done: list[object] = []

    def failing(source: Path, target: Path) -> None:
        if len(done) == num_written:
            raise error
        done.append(target)
        replace(source, target)

    monkeypatch.setattr("simreg_core.storage.base.os.replace", failing)
    assert case.export().code == (2 if isinstance(error, OSError) else 130)
    assert list(case.to.parent.iterdir()) == []


def test_killed_before_the_folder_has_its_name_only_a_hidden_draft_is_left(case: Case) -> None:
    done = python(
        "import os, signal",
        "from pathlib import Path",
        "from tuner.export.__main__ import export_trial",
        "Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)",
        f"export_trial(Path({str(case.folder)!r}), 2, Path({str(case.to)!r}))",
    )
    assert done.returncode == -9
    (draft,) = case.to.parent.iterdir()
    assert draft.name.startswith(".network.")
    assert export_trial(case.folder, 2, case.to)[0] == 2
    assert sorted(path.name for path in case.to.iterdir()) == FILES
