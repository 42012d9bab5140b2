"""A whole search in an object store: killed, refused to a second process, resumed, read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.pareto.__main__ import main as pareto
from analysis.results.load import load_results
from simreg_core import load_exported
from simreg_core.errors import ConfigError
from simreg_core.results.study_lock import StudyLock, is_held
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import local_path
from tests.end_to_end.searches import (
    SPACE,
    Search,
    choices,
    kill,
    resume,
    running,
    trials,
    wait_until,
)
from tests.object_stores import SECRET, make_bucket, s3_server
from tuner.export.__main__ import main as export
from tuner.run import main as search_main
from tuner.study.study import read_study

__all__ = ["make_bucket", "s3_server"]

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def output(make_bucket: Callable[[str], Path]) -> Path:
    return make_bucket("results") / "out"


@pytest.fixture(scope="module")
def search(output: Path) -> Search:
    """Two trials; the driver was killed in the first, when it had trained an epoch."""
    folder = output / "killed"
    key = "regularizer.batch_size"
    flags = [*choices(key, 2, 800), *trials({key: 800}, {key: 2}), "--max-concurrent", "1"]
    with running(output, "killed", *flags) as process:
        wait_until((folder / "checkpoints" / "00000" / "state.pt").exists, process)
        with pytest.raises(ConfigError, match=str(process.pid)), StudyLock(folder):
            pass
        kill(process)
    assert is_held(folder)  # for a minute, which this test does not wait
    write_text(folder / "heartbeat.json.1", json.dumps({"until": 0}))
    return resume(folder, "--max-concurrent", "1")


@pytest.mark.long
def test_killed_search_is_finished_by_another_driver(search: Search) -> None:
    assert search.code == 0, search.errors
    assert f"results: {search.folder}" in search.printed
    assert [row["trial"] for row in search.rows("trials")] == [0, 1]
    assert [row["status"] for row in search.rows("trials")] == ["complete", "complete"]
    study = read_study(search.folder, search.space)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    epochs = [row["epoch"] for row in search.rows("epochs") if row["trial"] == 0]
    assert sorted(epochs) == [0, 1] or sorted(epochs) == [1, 2]


@pytest.mark.long
def test_nothing_is_left_to_go_on_from(search: Search) -> None:
    names = {place.name for place in search.folder.rglob("*")}
    assert "weights.pt" in names
    assert not {"state.pt", "record.json", "ray"} & names
    assert not is_held(search.folder)


@pytest.mark.long
def test_results_are_read_and_drawn_from_the_store(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_results(search.folder).trials["trial"].tolist() == [0, 1]
    assert pareto([str(search.folder)]) == 0
    assert f"wrote {search.folder}/figures/" in capsys.readouterr().out
    assert list((search.folder / "figures").glob("*.png"))


@pytest.mark.long
def test_network_is_exported_from_the_store(search: Search, tmp_path: Path) -> None:
    assert export([str(search.folder), "--trial", "best", "--to", str(tmp_path / "net")]) == 0
    assert sum(weight.numel() for weight in load_exported(tmp_path / "net").parameters()) > 100


@pytest.mark.long
def test_store_holds_no_credentials(search: Search, output: Path) -> None:
    places = [place for place in output.rglob("*") if place.is_file()]
    assert len(places) > 30
    assert all(local_path(place) is None for place in places)
    assert not [place for place in places if SECRET.encode() in place.read_bytes()]


@pytest.mark.long
def test_taken_name_and_missing_bucket_are_refused(
    search: Search, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--space", str(SPACE), "--name", "killed", "--dry-run", "--output"]
    assert search_main([*flags, str(output)]) == 2
    assert capsys.readouterr().err.startswith(f"tuner.run: {search.folder} exists")
    assert search_main([*flags, "s3://absent/x"]) == 2
    printed, errors = capsys.readouterr()
    assert (printed, errors.startswith("tuner.run: s3://absent/x: ")) == ("", True)
