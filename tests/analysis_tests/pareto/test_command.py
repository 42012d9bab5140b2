from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.pareto.__main__ import main
from tests.analysis_tests.result_rows import complete_row, ended_row, random_rows, write_results

STEM = "pareto_clean_accuracy_robust_accuracy_validation"
NAMES = [f"{STEM}.csv", f"{STEM}.pdf", f"{STEM}.png"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    trials = [
        complete_row(0, 0.9, 0.5, **{"regularizer.alpha": 1.0}),
        complete_row(1, 0.8, 0.7, **{"regularizer.alpha": 10.0}),
        complete_row(2, 0.7, 0.4, **{"regularizer.alpha": 100.0}),
        ended_row(3, "failed", "no memory"),
    ]
    return write_results(tmp_path / "demo", trials)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_three_files_beside_the_results(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    assert files_in(results / "figures") == NAMES
    out, err = capsys.readouterr()
    for name in NAMES:
        assert f"wrote {results / 'figures' / name}" in out
    assert "3 complete, 0 pruned, 1 failed trials" in out
    assert err == ""


def test_other_folder_metrics_and_split(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    options = ["--x", "accuracy_cost", "--y", "robust_accuracy.gaussian", "--split", "test"]
    assert main([str(results), *options, "--out", str(out)]) == 0
    stem = "pareto_accuracy_cost_robust_accuracy.gaussian_test"
    assert files_in(out) == [f"{stem}.csv", f"{stem}.pdf", f"{stem}.png"]
    assert not (results / "figures").exists()


def test_picture_has_its_size_and_is_not_blank(results: Path) -> None:
    main([str(results)])
    with Image.open(results / "figures" / f"{STEM}.png") as picture:
        assert picture.size == (1080, 840)
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    assert (results / "figures" / f"{STEM}.pdf").read_bytes().startswith(b"%PDF")


def test_csv_holds_every_complete_trial(results: Path) -> None:
    main([str(results)])
    table = pd.read_csv(results / "figures" / f"{STEM}.csv")
    assert table["trial"].tolist() == [0, 1, 2]
    assert table["on_front"].tolist() == [True, True, False]
    assert table["regularizer.alpha"].tolist() == [1.0, 10.0, 100.0]
    assert table["validation.robust_accuracy"].tolist() == [0.5, 0.7, 0.4]
    assert table["seed"].tolist() == [0, 0, 0]


def test_same_results_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    main([str(results), "--out", str(tmp_path / "a")])
    main([str(results), "--out", str(tmp_path / "b")])
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("num_trials", [1, 2, 300])
def test_any_number_of_trials(num_trials: int, tmp_path: Path) -> None:
    folder = write_results(tmp_path / "demo", random_rows(num_trials))
    assert main([str(folder)]) == 0
    assert len(pd.read_csv(folder / "figures" / f"{STEM}.csv")) == num_trials


def test_running_search_with_a_file_being_written(results: Path) -> None:
    (results / "trials" / ".00004.parquet.tmp").write_bytes(b"half")
    (results / "trials" / "_00004.parquet").write_bytes(b"half")
    assert main([str(results)]) == 0


def test_drawing_again_replaces_the_files(results: Path) -> None:
    main([str(results)])
    picture = results / "figures" / f"{STEM}.png"
    picture.write_bytes(b"old")
    main([str(results)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert files_in(results / "figures") == NAMES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--x", "accuracy"], "unknown metric 'accuracy'"),
        (["--y", "tradeoff_ratio"], "no direction"),
        (["--y", "robust_accuracy.salt_pepper"], "no complete trial has a value"),
        (["--split", "train"], "--split: invalid choice: 'train'"),
        (["--color", "alpha"], "unknown parameter 'alpha'"),
    ],
    ids=["metric", "direction", "no values", "split", "color"],
)
def test_bad_option_is_one_line_and_writes_nothing(
    options: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(results)
    assert main([str(results), *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert files_in(results) == before
    assert not (results / "figures").exists()


def test_folder_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: no trials/ in it" in capsys.readouterr().err
    assert files_in(tmp_path) == []


def test_output_folder_that_is_a_file(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine")
    assert main([str(results), "--out", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_all_trials_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [ended_row(i, "failed", r) for i, r in enumerate(["no memory", "NaN", "NaN"])]
    folder = write_results(tmp_path / "demo", trials)
    assert main([str(folder)]) == 1
    err = capsys.readouterr().err
    assert "none of 3 trials is complete (3 failed, 0 pruned)" in err
    assert "most frequent reason (2 times): NaN" in err
    assert err.count("\n") == 1
    assert not (folder / "figures").exists()


def test_command_runs_without_the_libraries_of_training(results: Path) -> None:
    program = (
        "import sys; from analysis.pareto.__main__ import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'ray', 'optuna', 'foolbox', 'matplotlib.pyplot'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(results)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "hypervolume" in done.stdout
