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


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL, without the password, of an empty database on a server that asks for passwords."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install '.[postgresql]'")
    for program in ("initdb", "pg_ctl", "postgres"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} of PostgreSQL's server")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, password):
            shutil.chown(path, _ACCOUNT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = folder / "data", folder / "log"
    _run("initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    _run("pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
    try:
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        _run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: object) -> None:
    user = _ACCOUNT if os.getuid() == 0 else None
    words = [str(word) for word in command]
    # No pipes: the server would hold them open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            words, user=user, cwd="/tmp", stdout=output, stderr=output, timeout=60, check=False
        )
        output.seek(0)
        assert done.returncode == 0, output.read()
