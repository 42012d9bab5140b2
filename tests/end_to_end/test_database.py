"""A search whose study is in PostgreSQL: the server goes away, the driver is killed, it goes on."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from tests.end_to_end.searches import (
    FAST,
    SLOW,
    Search,
    checkpoint,
    finished,
    kill,
    pairs,
    resume,
    running,
    start,
    wait_until,
)
from tests.postgres_server import PASSWORD, USER, PostgresServer, postgres_server
from tuner.study.storage import database_url

__all__ = ["postgres_server"]

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def outage(output: Path, postgres_server: PostgresServer) -> Search:
    """A search in whose first trial the server is stopped; it is started again at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        flags = [*pairs(SLOW, FAST, SLOW), "--storage", postgres_server.url]
        with running(output, "database", *flags) as process:
            wait_until(checkpoint(output / "database", 0).exists, process)
            postgres_server.stop()
            search = finished(process, output / "database")
    postgres_server.start()
    return search


def test_search_without_its_database_ends_in_one_line_and_keeps_what_was_done(
    outage: Search, postgres_server: PostgresServer
) -> None:
    assert outage.code == 1
    (line,) = [line for line in outage.errors.splitlines() if line.startswith("tuner.run: ")]
    assert line.endswith(f" --resume {outage.folder} --storage {postgres_server.url}")
    assert "Traceback" not in outage.errors
    assert [row["status"] for row in outage.rows("trials")] == ["complete"]


def test_killed_search_goes_on_when_the_database_is_back(
    outage: Search, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    flags = ["--storage", postgres_server.url, "--max-concurrent", "1"]
    process = start("tuner.run", "--resume", str(outage.folder), *flags)
    wait_until(checkpoint(outage.folder, 2).exists, process)
    kill(process)
    search = resume(outage.folder, *flags)
    assert search.code == 0, search.errors
    assert [row["trial"] for row in search.rows("trials")] == [0, 1, 2]
    url = database_url(postgres_server.url.replace(USER, f"{USER}:{PASSWORD}"))
    study = optuna.load_study(study_name="database", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    for trial, row in zip(study.trials, search.rows("trials"), strict=True):
        expected = [row["validation.clean_accuracy"], row["validation.robust_accuracy"]]
        assert trial.values == expected
