from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from simreg_core.storage import locks
from simreg_core.storage.atomic import write_text
from simreg_core.storage.locks import Held, LeaseLost, is_held, lock
from tests.object_stores import bucket, make_bucket, s3_server

__all__ = ["bucket", "make_bucket", "s3_server"]


@pytest.fixture(params=["file", "lease"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a lock lies: on this machine, or in an object store."""
    folder: Path = tmp_path if request.param == "file" else request.getfixturevalue("bucket")
    return folder / ".lock"


def end_lease(path: Path, number: int) -> None:
    """What is in the store a minute after the holder of a lease was killed."""
    write_text(path.with_name(f".lock.{number}"), json.dumps({"until": time.time() - 1}))


def test_one_process_at_a_time(path: Path) -> None:
    assert not is_held(path)
    with lock(path):
        assert is_held(path)
        with pytest.raises(Held), lock(path, waits=False):
            pass
        assert is_held(path)
    assert not is_held(path)
    with lock(path, waits=False):
        assert is_held(path)


def test_waiting_ends_when_the_holder_does(path: Path) -> None:
    order = []

    def wait() -> None:
        with lock(path):
            order.append("second")

    with lock(path):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.3)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]


def test_lock_ends_with_an_exception(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(path):
        raise ZeroDivisionError
    assert not is_held(path)


def test_lease_is_renewed(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "_RENEW_SECONDS", 0.2)
    with lock(bucket / ".lock"):
        time.sleep(1.5)
        assert is_held(bucket / ".lock")


def test_dead_lease_is_taken_once(bucket: Path) -> None:
    path = bucket / ".lock"
    end_lease(path, 7)
    assert not is_held(path)
    with lock(path, waits=False):
        with pytest.raises(Held), lock(path, waits=False):
            pass
        assert [place.name for place in bucket.iterdir()] == [".lock.8"]


def test_old_look_at_the_store_does_not_give_the_lease(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bucket / ".lock"
    end_lease(path, 1)
    look, seen = locks._newest, []

    def old_look(path: Path) -> locks._Lease:
        seen.append(look(path))
        if len(seen) == 1:  # others come and go, and the lease after them is alive
            write_text(path.with_name(".lock.3"), json.dumps({"until": time.time() + 60}))
        return seen[-1]

    monkeypatch.setattr(locks, "_newest", old_look)
    with pytest.raises(Held), lock(path, waits=False):
        pass
    assert not (bucket / ".lock.2").exists()


def test_holder_learns_that_its_lease_was_taken(bucket: Path) -> None:
    path = bucket / ".lock"
    held, stolen = lock(path), lock(path, waits=False)
    held.__enter__()
    end_lease(path, 1)
    with stolen:
        with pytest.raises(LeaseLost, match="another process has taken this lock"):
            held.__exit__(None, None, None)
        assert is_held(path)
