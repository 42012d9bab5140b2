from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from analysis.poster.__main__ import SOURCES, Source, collect, command, main
from analysis.poster.layout import ROWS
from tests.analysis_tests.posters import designed, write_output, write_study
from tests.analysis_tests.programs import (
    ROOT,
    assert_refused,
    files_in,
    runs_without_training_libraries,
)
from tests.analysis_tests.result_rows import ended_row, write_part
from tuner.space.loading import load_space

PANELS = (
    "2_similarity",
    "4i_curves",
    "4i_datasets",
    "4ii_spectra",
    "4iii_cost",
    "5_tradeoff",
    "6_components",
)
FILES = {f"{name}.{kind}" for name in PANELS for kind in ("png", "pdf")} | {"poster.png"}


class Run(NamedTuple):
    output: Path
    figures: Path
    code: int
    printed: str


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All searches of the poster; not to be changed."""
    return write_output(tmp_path_factory.mktemp("poster"))


@pytest.fixture(scope="module")
def run(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The program on all searches, run once."""
    figures = tmp_path_factory.mktemp("figures")
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        code = main([str(complete), "--out", str(figures)])
    return Run(complete, figures, code, stream.getvalue())


@pytest.fixture
def only(complete: Path, tmp_path: Path) -> Callable[..., Path]:
    """Factory of an output folder with some of the results, to change."""

    def make(*places: str) -> Path:
        output = tmp_path / "output"
        output.mkdir()
        for place in places:
            if (complete / place).is_dir():
                shutil.copytree(complete / place, output / place)
            else:
                shutil.copy(complete / place, output / place)
        return output

    return make


def test_every_panel_and_the_poster_are_written(run: Run) -> None:
    assert run.code == 0
    assert files_in(run.figures) == FILES
    assert "not drawn" not in run.printed
    for name in FILES:
        assert f"wrote {run.figures / name}" in run.printed
        content = (run.figures / name).read_bytes()
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")


def test_poster_holds_every_panel(run: Run) -> None:
    with Image.open(run.figures / "poster.png") as picture:
        assert picture.width == 2100
        pixels = np.asarray(picture.convert("RGB"))
    # Ink in every twelfth of the height.
    parts = np.array_split((pixels != 255).any(axis=(1, 2)), 12)
    assert all(part.any() for part in parts)
    assert {name for row in ROWS for name in row} == set(PANELS)
    assert sorted(source.panel for source in SOURCES) == sorted(PANELS)


def test_missing_and_unusable_results_are_named_and_their_earlier_pictures_removed(
    only: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    output = only("tradeoff", "cost")
    shutil.rmtree(output / "cost" / "trials")
    write_part(output / "cost", "trials", "0.parquet", [ended_row(0, "failed", "no memory")])
    figures = output / "figures"
    figures.mkdir()
    for name in ("2_similarity.png", "mine.png"):
        (figures / name).touch()
    assert main([str(output)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert files_in(figures) == {"5_tradeoff.pdf", "5_tradeoff.png", "poster.png", "mine.png"}
    assert f"removed {figures / '2_similarity.png'}, which showed earlier results" in out
    assert out.count("not drawn: ") == 6
    assert f"not drawn: 4.iii (cost): {output / 'cost'}: none of 1 trial is complete" in out
    assert f"not drawn: 6 (components): {output / 'components'} is not there" in out
    assert f"python -m tuner.run --space search_spaces/poster/cost.yaml --output {output}" in out
    assert f"python -m simreg_core.neural compare --output {output / 'pairs.parquet'}" in out


def test_nothing_at_all_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, [tmp_path], f"{tmp_path}: nothing to draw", capsys)
    assert files_in(tmp_path) == set()


def test_split_is_passed_on(complete: Path) -> None:
    panels, missing = collect(complete, "validation")
    assert missing == {}
    assert "validation split, n = 400 images" in panels["5_tradeoff"].note


@pytest.mark.parametrize("source", SOURCES[1:], ids=lambda source: source.section)
def test_commands_name_space_files_whose_results_the_panel_reads(
    source: Source, tmp_path: Path
) -> None:
    words = command(source, tmp_path).replace(")", "").split()
    spaces = [ROOT / word for word in words if word.endswith(".yaml")]
    assert [load_space(space).name for space in spaces] == [source.place] * 2


def test_command_of_the_similarities_compares_the_targets_of_a_search(tmp_path: Path) -> None:
    assert command(SOURCES[0], tmp_path).endswith(" --dataset NAME --target NAME --target NAME")
    write_study(tmp_path / "curves", designed([{"target": "pixel"}], 2))
    same = "--dataset digits --target pixel_raw --target v1_gabor"
    assert command(SOURCES[0], tmp_path).endswith(f" {same}")
    variants = [{"target": name, "dataset": "natural"} for name in ("features:/a b.npy", "pixel")]
    write_study(tmp_path / "components", designed(variants, 1))
    compared = "--dataset natural --target pixel_raw --target 'features:/a b.npy'"
    assert command(SOURCES[0], tmp_path).endswith(f" {compared}")


def test_command_runs_without_the_libraries_of_training(only: Callable[..., Path]) -> None:
    assert "poster.png" in runs_without_training_libraries("analysis.poster", only("pairs.parquet"))
