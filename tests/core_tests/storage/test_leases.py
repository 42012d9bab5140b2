"""Locks in an object store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from simreg_core.storage import object_store
from simreg_core.storage.atomic import write_text
from simreg_core.storage.base import Held, LeaseLost
from simreg_core.storage.object_store import ObjectStore


def lock(path: Path) -> AbstractContextManager[Callable[[], None]]:
    return ObjectStore().lock(path, waits=False)


def is_held(path: Path) -> bool:
    return ObjectStore().is_held(path)


def end_lease(path: Path, number: int) -> None:
    """What is in the store a minute after the holder of a lease was killed."""
    write_text(path.with_name(f"{path.name}.{number}"), json.dumps({"until": time.time() - 1}))


def test_lease_is_renewed(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(object_store, "_RENEW_SECONDS", 0.2)
    with lock(bucket / "a") as require_held:
        time.sleep(1.5)
        assert is_held(bucket / "a")
        require_held()


def test_dead_lease_is_taken_once(bucket: Path) -> None:
    path = bucket / "a"
    end_lease(path, 7)
    assert not is_held(path)
    with lock(path):
        with pytest.raises(Held), lock(path):
            pass
        assert [place.name for place in bucket.iterdir()] == ["a.8"]


@pytest.mark.parametrize("number", [1, 3], ids=["the dead one woke up", "others came and went"])
def test_old_look_at_the_store_does_not_give_the_lease(
    number: int, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bucket / "a"
    end_lease(path, 1)
    look, looks = object_store._newest, []

    def old_look(path: Path) -> int:
        looks.append(look(path))
        if len(looks) == 1:
            write_text(path.with_name(f"a.{number}"), json.dumps({"until": time.time() + 60}))
        return looks[-1]

    monkeypatch.setattr(object_store, "_newest", old_look)
    with pytest.raises(Held), lock(path):
        pass
    assert not (bucket / "a.2").exists()


def test_holder_learns_that_its_lease_was_taken(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bucket / "a"
    monkeypatch.setattr(object_store, "LEASE_SECONDS", 0.2)
    first = lock(path)
    require_held = first.__enter__()
    time.sleep(0.3)
    require_held()  # renews it, as nobody has taken it
    end_lease(path, 1)
    monkeypatch.setattr(object_store, "LEASE_SECONDS", 60.0)
    with lock(path):
        time.sleep(0.2)
        with pytest.raises(LeaseLost):
            require_held()
        with pytest.raises(LeaseLost):
            first.__exit__(None, None, None)
        assert is_held(path)
        assert [place.name for place in bucket.iterdir()] == ["a.2"]
