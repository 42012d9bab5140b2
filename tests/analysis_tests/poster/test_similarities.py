from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.charts.chart import Panel
from analysis.poster.curve_panels import MAX_POINTS_DRAWN, similarity_panel
from analysis.results.load import ResultsError
from tests.analysis_tests.posters import write_pairs


def points(panel: Panel) -> list[list[float]]:
    (series,) = panel.series
    return np.column_stack([series.x, series.y]).tolist()  # type: ignore[no-any-return]


def write_columns(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_correlation_is_pearsons_of_the_pairs_with_a_response(tmp_path: Path) -> None:
    path = write_columns(
        tmp_path / "pairs.parquet",
        pixel_raw_similarity=[-1.0, 0.0, 1.0, 0.0, 0.3],
        neural_similarity=[-0.5, 0.5, 0.5, -0.5, None],
        **{"features:/data/clip.npy_similarity": [-1.0, 0.0, 1.0, 0.0, 0.3]},
    )
    neural, clip = similarity_panel(path, "test").panels
    assert neural.title == "r = 0.707"  # 1 / sqrt(2 * 1)
    assert points(neural) == [[-1, -0.5], [0, 0.5], [1, 0.5], [0, -0.5]]
    assert (clip.title, len(points(clip))) == ("r = 1.000", 5)
    assert (clip.x.label, clip.y.label) == ("similarity of pixels", "similarity of clip")


def test_of_many_pairs_a_part_is_drawn_and_the_note_says_so(tmp_path: Path) -> None:
    found = similarity_panel(write_pairs(tmp_path / "pairs.parquet", 9000), "test")
    assert "n = 9,000 image pairs, 3,000 of them drawn" in found.note
    assert all(len(points(panel)) <= MAX_POINTS_DRAWN for panel in found.panels)


WRONG_PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "other columns": ({"a": [1.0]}, "two or more columns NAME_similarity, found 1 row with a$"),
    "text": ({"a_similarity": ["much"], "b_similarity": [1.0]}, "a similarity is no number"),
    "one target": ({"a_similarity": [0.1, 0.2]}, "found 2 rows with a_similarity$"),
    "constant": (
        {"a_similarity": [0.1, 0.2, 0.3], "b_similarity": [0.5, 0.5, 0.5]},
        "a and b need 3 or more finite pairs that differ",
    ),
}


@pytest.mark.parametrize(("columns", "message"), WRONG_PAIRS.values(), ids=WRONG_PAIRS)
def test_file_without_usable_pairs_is_refused(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match=message):
        similarity_panel(write_columns(tmp_path / "pairs.parquet", **columns), "test")
