"""Results folders of somebody else's: one clear line, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.compare.__main__ import main as compare
from analysis.pareto.__main__ import main as pareto
from analysis.report.__main__ import main as report
from tests.analysis_tests.reports import (
    small_results,
    small_trials,
    write_audit,
    write_confirmation,
    write_space,
)

ODD = r"folder:/data/$\foo$"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = small_results(tmp_path / "demo")
    write_confirmation(folder, {0: (0.1, 0.01)})
    write_audit(folder / "audit.json", "d0", ["steep"])
    return folder


def _refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert report([str(folder), "--no-figures"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("number", ["1e999", "NaN", "1" * 400, "null", "[[1]]", "{}", '"x"'])
@pytest.mark.parametrize(("file", "key"), [("audit", "num_images"), ("confirmation", "mean")])
def test_number_that_is_none_is_a_warning(
    file: str, key: str, number: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / f"{file}.json"
    text = path.read_text()
    start = text.index(f'"{key}": ') + len(key) + 4
    end = min(text.index(sign, start) for sign in ",}" if sign in text[start:])
    path.write_text(text[:start] + number + text[end:])
    assert report([str(folder), "--no-figures"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith(f"WARNING: {file}.json")]
    assert "is damaged" in line
    assert err == ""


@pytest.mark.parametrize(
    "starts", [[{"regularizer.alpha": None}], [None], None, [[1]], [{"regularizer.alpha": [[1]]}]]
)
def test_warm_starts_without_numbers_are_none(starts: Any, folder: Path) -> None:
    write_space(folder, tuning={"num_trials": 4, "warm_starts": starts})
    assert report([str(folder), "--no-figures"]) == 0


@pytest.mark.parametrize(
    "objectives", [[["clean_accuracy"]], ["clean_accuracy", [[]]], {"a": 1}, 3]
)
def test_objectives_that_are_no_names_are_refused(
    objectives: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder, objectives=objectives)
    line = _refused(folder, capsys)
    assert "space.yaml: objectives: expected a list of names of metrics, found " in line


def test_number_that_no_float_holds_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder, tuning={"num_trials": 4, "warm_starts": [{"regularizer.alpha": 10**400}]})
    assert "space.yaml: not valid YAML" in _refused(folder, capsys)


@pytest.mark.parametrize("command", [report, pareto, compare], ids=["report", "pareto", "compare"])
def test_dataset_that_looks_like_a_formula_is_drawn(
    command: Callable[[list[str]], int], tmp_path: Path
) -> None:
    rows = [row | {"task.dataset": ODD, "study": ODD} for row in small_trials()]
    first, second = (small_results(tmp_path / f"$\\{name}$", rows) for name in ("one", "two"))
    others = [str(second)] if command is compare else []
    assert command([str(first), *others, "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("column", ["robustness.reference", "robustness.attacks"])
@pytest.mark.parametrize("text", ["[", "[1]", "3", '{"gaussian": "x"}', "[" * 100_000])
def test_damaged_attacks_are_refused(
    column: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attacks = {"robustness.reference": '{"gaussian": 0.1}', column: text}
    rows = [row | attacks for row in small_trials()]
    folders = [str(small_results(tmp_path / name, rows)) for name in ("one", "two")]
    assert compare([*folders, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_report_states_no_formula_of_a_spreadsheet(folder: Path) -> None:
    rows = [row | {"reason": "=1+1"} for row in small_trials()]
    small_results(folder, rows)
    assert report([str(folder), "--no-figures"]) == 0
    assert "isFormula" in (folder / "report" / "report.html").read_text()
    assert json.dumps("=1+1") in (folder / "report" / "report.html").read_text()
