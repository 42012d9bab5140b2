from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.findings.delivered import delivered_front
from analysis.findings.study import read_space
from analysis.pareto.__main__ import main
from analysis.results.load import load_results
from tests.analysis_tests.noisy_searches import SPACE, noisy_rows, search
from tests.analysis_tests.programs import assert_refused, files_in, runs_without_training_libraries
from tests.analysis_tests.result_rows import alpha_rows, ended_row, write_results

CONTRAST = "robust_accuracy.corruption:contrast"
STEM = "pareto_clean_accuracy_robust_accuracy_validation"
NAMES = {f"{STEM}.csv", f"{STEM}.pdf", f"{STEM}.png"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "demo", [*alpha_rows(), ended_row(3, "failed", "no memory")])


def test_three_files_beside_the_results(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "trials" / ".00004.parquet.tmp").write_bytes(b"half")  # the search still runs
    assert main([str(results)]) == 0
    figures = results / "figures"
    assert files_in(figures) == NAMES
    out, err = capsys.readouterr()
    assert all(f"wrote {figures / name}" in out for name in NAMES)
    assert "3 complete, 0 pruned, 1 failed trials" in out
    assert err == ""
    with Image.open(figures / f"{STEM}.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    table = pd.read_csv(figures / f"{STEM}.csv")
    assert table["trial"].tolist() == [0, 1, 2]
    assert table["on_front"].tolist() == [True, True, False]
    assert table["regularizer.alpha"].tolist() == [1.0, 10.0, 100.0]
    assert table["validation.robust_accuracy"].tolist() == [0.5, 0.7, 0.4]


def test_other_folder_metrics_and_split(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    options = ["--x", "accuracy_cost", "--y", "robust_accuracy.gaussian", "--split", "test"]
    assert main([str(results), *options, "--out", str(out)]) == 0
    stem = "pareto_accuracy_cost_robust_accuracy.gaussian_test"
    assert files_in(out) == {f"{stem}.csv", f"{stem}.pdf", f"{stem}.png"}
    assert not (results / "figures").exists()


@pytest.mark.parametrize(
    ("flags", "x", "y"),
    [
        ([], "clean_accuracy", CONTRAST),
        (["--x", CONTRAST], CONTRAST, "clean_accuracy"),
        (["--y", "clean_accuracy"], CONTRAST, "clean_accuracy"),
        (["--y", "tradeoff_score"], "clean_accuracy", "tradeoff_score"),
    ],
)
def test_default_metrics_are_the_objectives(
    flags: list[str], x: str, y: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, f"validation.{CONTRAST}": 0.3, f"test.{CONTRAST}": 0.3} for row in alpha_rows()]
    folder = search(tmp_path / "demo", rows, {**SPACE, "objectives": ["clean_accuracy", CONTRAST]})
    assert main([str(folder), *flags]) == 0
    is_other = {x, y} != {"clean_accuracy", CONTRAST}
    assert ("The search optimizes" in capsys.readouterr().out) == is_other
    stem = f"pareto_{x}_{y}_validation".replace(":", "_")
    assert files_in(folder / "figures") == {f"{stem}.{end}" for end in ("csv", "pdf", "png")}


def test_same_results_replace_the_files_by_the_same_bytes(results: Path) -> None:
    contents = []
    for _ in range(2):
        main([str(results)])
        contents.append({name: (results / "figures" / name).read_bytes() for name in NAMES})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--x", "accuracy"], "unknown metric 'accuracy'"),
        (["--split", "train"], "--split: invalid choice: 'train'"),
        (["--color", "alpha"], "unknown parameter 'alpha'"),
        (["--out", "TAKEN"], "--out: cannot be written"),
        (["--front", "none"], "--front: invalid choice"),
    ],
    ids=["metric", "split", "color", "out", "front"],
)
def test_bad_option_is_one_line_and_writes_nothing(
    options: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = results / "taken"
    taken.write_text("mine")
    before = files_in(results)
    options = [str(taken) if option == "TAKEN" else option for option in options]
    assert_refused(main, [results, *options], message, capsys)
    assert files_in(results) == before
    assert taken.read_text() == "mine"


def test_folder_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(main, [tmp_path], str(tmp_path), capsys)
    assert files_in(tmp_path) == set()


def test_command_runs_without_the_libraries_of_training(results: Path) -> None:
    assert "hypervolume" in runs_without_training_libraries("analysis.pareto", results)


def test_modelled_front_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path / "demo", noisy_rows(24))
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    results = load_results(folder)
    metrics = [results.metrics[name] for name in ("clean_accuracy", "robust_accuracy")]
    found = delivered_front(results, read_space(folder), "validation", metrics)
    start = next(n for n, line in enumerate(lines) if line.startswith("Modelled Pareto front"))
    rows = [line.split() for line in lines[start + 3 : start + 3 + int(found.on_front.sum())]]
    assert {int(row[0]) for row in rows} == set(found.trials[found.on_front].tolist())
    table = pd.read_csv(folder / "figures" / f"{STEM}.csv")
    assert table["on_modelled_front"].tolist() == found.on_front.tolist()
    assert table["validation.robust_accuracy.low"].to_list() == pytest.approx(found.low[:, 1])


def test_raw_front_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path / "demo", noisy_rows(24))
    assert main([str(folder), "--front", "raw"]) == 0
    assert "\nPareto front, clean accuracy" in capsys.readouterr().out
    assert files_in(folder / "figures") == {f"{STEM}_raw.{end}" for end in ("csv", "pdf", "png")}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (noisy_rows(3), "that of the measured values: 3 configurations are too few"),
        (noisy_rows(24, feasible=False), "there is no Pareto front"),
    ],
    ids=["too few trials", "none feasible"],
)
def test_front_without_a_model_or_without_members(
    rows: list[dict[str, object]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", rows)
    assert main([str(folder)]) == 0
    assert message in capsys.readouterr().out
