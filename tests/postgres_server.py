"""A PostgreSQL server of this machine's own packages, for the time of some tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER, PASSWORD = "searcher", "pass-word-of-tests"
_ACCOUNT = "nobody"  # the server refuses to run as root


class PostgresServer:
    """An empty database on a server that asks for passwords."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, password):
                shutil.chown(path, _ACCOUNT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        identity = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={password}")
        _run("initdb", "-D", folder / "data", *identity, "-N")

    @property
    def url(self) -> str:
        """Address of the database, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Return once the server takes connections."""
        sockets = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._control("-l", self._folder / "log", "-w", "-o", f"{sockets} -c fsync=off", "start")

    def stop(self) -> None:
        """Cut all connections and end the server."""
        self._control("-m", "immediate", "stop")

    def _control(self, *words: object) -> None:
        _run("pg_ctl", "-D", self._folder / "data", *words)


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that runs."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgresql]'")
    for program in ("initdb", "pg_ctl", "postgres"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} of PostgreSQL's server")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = PostgresServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres(postgres_server: PostgresServer) -> str:
    """URL of the database of a running server, without the password."""
    return postgres_server.url


def _run(*command: object) -> None:
    user = _ACCOUNT if os.getuid() == 0 else None
    words = [str(word) for word in command]
    # No pipes: the server would hold them open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            words, user=user, cwd="/tmp", stdout=output, stderr=output, timeout=600, check=False
        )
        output.seek(0)
        assert done.returncode == 0, output.read()
