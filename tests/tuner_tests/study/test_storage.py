from __future__ import annotations

import argparse
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from simreg_core.errors import ConfigError
from tests.postgres_server import PASSWORD, USER, postgres, postgres_server
from tests.tuner_tests.spaces import make_space, write_space
from tuner.run import main
from tuner.space.search_space import SearchSpace
from tuner.study.folder import SearchPlan, create_folder, resume_plan
from tuner.study.storage import URL_FILE, database_url, require_free
from tuner.study.study import open_study, read_study

__all__ = ["postgres", "postgres_server"]


@pytest.fixture
def url(postgres: str) -> str:
    return database_url(postgres.replace(USER, f"{USER}:{PASSWORD}"))


@pytest.fixture
def make_plan(tmp_path: Path, url: str) -> Callable[..., SearchPlan]:
    def make(name: str, output: str = "out") -> SearchPlan:
        folder = tmp_path / output / name
        space = make_space(tmp_path).model_copy(update={"name": name})
        return SearchPlan(space, folder, storage=url)

    return make


def ask_and_tell(study: optuna.Study, space: SearchSpace) -> dict[str, float]:
    trial = study.ask(space.distributions())
    study.tell(trial, [0.9, 0.5])
    return trial.params


@pytest.mark.parametrize(
    "text",
    ["postgresql://u@h/d", "postgres://u:p@h:5432/d?sslmode=require", "postgresql+psycopg://h/d"],
)
def test_database_of_postgresql_is_taken(text: str) -> None:
    assert database_url(text).startswith("postgresql+psycopg://")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sqlite:///a.db", "SQLite"),
        ("mysql://u:secret@h/d", "mysql://"),
        ("a secret that is no URL", "no URL"),
    ],
)
def test_other_storage_is_refused(text: str, found: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"found {found}") as error:
        database_url(text)
    assert "secret" not in str(error.value)


def test_study_is_in_the_database_under_the_folders_name(
    make_plan: Callable[..., SearchPlan], url: str
) -> None:
    plan = create_folder(make_plan("first"))
    study = open_study(plan.folder, plan.space, url)
    params = ask_and_tell(study, plan.space)
    assert optuna.load_study(study_name="first", storage=url).trials[0].params == params
    assert not (plan.folder / "study.journal").exists()


def test_default_sampler_proposes_the_same_from_a_database_and_a_journal(
    tmp_path: Path, url: str
) -> None:
    space = make_space(tmp_path, ("num_trials: 2, sampler: random", "num_trials: 14"))
    params = []
    for name, storage in (("database", url), ("journal", None)):
        plan = create_folder(SearchPlan(space, tmp_path / name, storage=storage))
        for _ in range(2):  # the second half resumes
            study = open_study(plan.folder, space, storage)
            for _ in range(7):
                trial = study.ask(space.distributions())
                threshold = trial.params["regularizer.threshold"]
                trial.set_constraint("robust", 0.3 - threshold)
                study.tell(trial, [1 - threshold, threshold])
        params.append([trial.params for trial in study.trials])
    assert params[0] == params[1]


def test_folder_remembers_the_url_without_its_password(
    make_plan: Callable[..., SearchPlan], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = create_folder(make_plan("remembered"))
    ask_and_tell(open_study(plan.folder, plan.space, plan.storage), plan.space)
    assert (plan.folder / URL_FILE).read_text() == f"{postgres}\nremembered\n"
    for path in plan.folder.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()
    with pytest.raises(ConfigError, match="no password supplied"):
        read_study(plan.folder, plan.space, database_url(postgres))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    moved = plan.folder.rename(plan.folder.with_name("renamed"))
    assert len(read_study(moved, plan.space, database_url(postgres)).trials) == 1
    assert resume_plan(moved, None, ()).storage is None


def test_password_in_the_query_is_not_remembered(
    make_plan: Callable[..., SearchPlan], postgres: str
) -> None:
    other = database_url(f"{postgres}?password={PASSWORD}&connect_timeout=9")
    plan = create_folder(replace(make_plan("query"), storage=other))
    assert (plan.folder / URL_FILE).read_text() == f"{postgres}?connect_timeout=9\nquery\n"


def test_name_that_the_database_has_is_refused_and_nothing_is_written(
    make_plan: Callable[..., SearchPlan],
    tmp_path: Path,
    url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_folder(make_plan("twice"))
    late = make_plan("twice", output="late")
    with pytest.raises(ConfigError, match="already has a study twice"):
        create_folder(late)
    assert not late.folder.exists()
    space = write_space(tmp_path)
    flags = ["--space", str(space), "--name", "twice", "--storage", url]
    assert main([*flags, "--output", str(tmp_path / "other"), "--dry-run"]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert "already has a study twice; choose another --name" in errors
    assert errors.count("\n") == 1
    assert PASSWORD not in errors
    assert not (tmp_path / "other").exists()


def test_study_that_was_deleted_is_not_begun_again(
    make_plan: Callable[..., SearchPlan], url: str
) -> None:
    plan = create_folder(make_plan("deleted"))
    optuna.delete_study(study_name="deleted", storage=url)
    with pytest.raises(ConfigError, match="no study deleted in postgresql://"):
        open_study(plan.folder, plan.space, url)


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        (PASSWORD, "wrong", "password authentication failed"),
        ("@127.0.0.1", "@127.0.0.2", "127.0.0.2"),
    ],
    ids=["password", "server"],
)
def test_database_that_is_not_reached_is_named(url: str, old: str, new: str, fragment: str) -> None:
    with pytest.raises(ConfigError, match=fragment) as error:
        require_free(url.replace(old, new), "name")
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)


def test_storage_is_refused_for_a_folder_with_a_journal(tmp_path: Path, url: str) -> None:
    space = make_space(tmp_path)
    plan = create_folder(SearchPlan(space, tmp_path / "out" / "x"))
    open_study(plan.folder, space)
    with pytest.raises(ConfigError, match=r"--storage: the study of .* is in its study.journal"):
        open_study(plan.folder, space, url)


@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry run", "run"])
def test_host_that_the_folder_remembers_is_not_connected_to(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    folder = create_folder(SearchPlan(make_space(tmp_path), tmp_path / "out" / "x")).folder
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/optuna"
        (folder / URL_FILE).write_text(f"{url}\nx\n")
        assert main(["--resume", str(folder), *flags]) == 2
        with pytest.raises(BlockingIOError):  # nobody has connected
            server.accept()
    printed, errors = capsys.readouterr()
    assert f"add --storage {url}" in errors
    assert errors.count("\n") == 1
    assert PASSWORD not in printed + errors


def _asks_in_clear(server: socket.socket, received: list[bytes]) -> None:
    """A server that asks for the password itself."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(20)
        start = connection.recv(8)
        while start[4:] in (b"\x04\xd2\x16/", b"\x04\xd2\x160"):  # TLS or GSS? No.
            connection.sendall(b"N")
            start = connection.recv(8)
        connection.recv(4096)
        connection.sendall(b"R" + struct.pack("!ii", 8, 3))
        received.append(connection.recv(4096))


def test_password_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgresql]'")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        asking = threading.Thread(target=_asks_in_clear, args=[server, received], daemon=True)
        asking.start()
        url = database_url(f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/optuna")
        with pytest.raises(ConfigError, match="scram-sha-256"):
            require_free(url, "name")
        asking.join(30)
    assert received == [b""]


def test_old_libpq_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("psycopg.pq", reason="needs psycopg: pip install '.[postgresql]'")
    monkeypatch.setattr(pq, "version", lambda: 150004)
    with pytest.raises(ConfigError, match="needs libpq 16 or newer, found 15"):
        require_free(database_url("postgresql://me@127.0.0.1:1/optuna"), "name")


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.timeout(60)
def test_journal_that_is_no_file_of_its_own_is_refused(kind: str, tmp_path: Path) -> None:
    space = make_space(tmp_path)
    folder = create_folder(SearchPlan(space, tmp_path / "out" / "x")).folder
    other = tmp_path / "other.txt"
    other.write_text("one\ntwo")
    journal = folder / "study.journal"
    journal.symlink_to(other) if kind == "link" else os.mkfifo(journal)
    with pytest.raises(ConfigError, match="expected the journal of a study"):
        open_study(folder, space)
    assert other.read_text() == "one\ntwo"
