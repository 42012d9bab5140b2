from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.report.__main__ import main
from tests.analysis_tests.programs import assert_refused
from tests.analysis_tests.reports import small_results, small_trials, write_space
from tests.analysis_tests.result_rows import ended_row

DRAWN = (
    "pareto",
    "probability",
    "attainment",
    "hypervolume",
    "curves",
    "landscape",
    "parallel",
    "gamma",
    "learning",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_results(tmp_path / "demo")


def test_page_and_pictures_beside_the_results(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder)]) == 0
    report = folder / "report"
    pictures = sorted(path.name for path in (report / "figures").iterdir())
    assert pictures == sorted(f"{name}.{kind}" for name in DRAWN for kind in ("pdf", "png"))
    for name in DRAWN:
        with Image.open(report / "figures" / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 30
    out, err = capsys.readouterr()
    assert "Perhaps: screening only." in out
    assert "WARNING: The front rests on validation values alone" in out
    assert "not drawn: Parameter importance: it needs 10 complete trials" in out
    assert f"wrote {report / 'report.html'}" in out
    assert err == ""


def test_page_alone_elsewhere(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    assert main([str(folder), "--split", "test", "--no-figures", "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder; expected the folder of a search"),
        (["demo", "--reference", "nowhere"], "nowhere: no such folder"),
        (["demo", "--reference", "other"], "other: objectives accuracy_cost, robustness_gain"),
        (["demo", "--reference", "failed"], "failed: no usable trial"),
        (["demo", "--reference", "larger"], "task.image_size is none in demo, 16 in larger"),
        (["demo", "--out", "demo/space.yaml"], "--out: cannot be written"),
        (["damaged"], "damaged/space.yaml"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    other = small_results(folder.parent / "other")
    write_space(other, objectives=["accuracy_cost", "robustness_gain"])
    small_results(folder.parent / "failed", [ended_row(0, "failed", "no memory")])
    larger = [row | {"task.image_size": 16} for row in small_trials()]
    small_results(folder.parent / "larger", larger)
    (small_results(folder.parent / "damaged") / "space.yaml").write_text("[")
    assert_refused(main, arguments, message, capsys)
