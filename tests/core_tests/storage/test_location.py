from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simreg_core.errors import ConfigError
from simreg_core.networks import checkpoint
from simreg_core.storage import location
from simreg_core.storage.atomic import write_text
from simreg_core.storage.base import store_problem
from simreg_core.storage.location import as_place, local_path, storage_of
from tests.object_stores import SECRET


@pytest.mark.parametrize("text", ["results", "/tmp/a", "a:b", "./s3:/x"])
def test_path_of_this_machine_is_a_plain_path(text: str) -> None:
    place = as_place(text)
    assert type(place) is type(Path())
    assert place == local_path(place) == Path(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, text) for text in ("ftp://host/x", "s3://", "gs:///x", "http://h/x")),
        ("s3://b/x", r"simreg-tune\[s3\]"),
        ("gs://b/x", r"simreg-tune\[gcs\]"),
    ],
)
def test_url_without_a_known_store_or_its_client_is_refused(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "find_spec", lambda name: None)
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        as_place(text)


def test_checkpoint_of_a_store_comes_back_or_is_missing_or_damaged(bucket: Path) -> None:
    path = bucket / "state.pt"
    with pytest.raises(checkpoint.CheckpointError, match="does not exist"):
        checkpoint.load(path)
    checkpoint.save({"weights": torch.arange(3.0)}, path)
    assert torch.equal(checkpoint.load(path)["weights"], torch.arange(3.0))
    write_text(path, "no zip file")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.load(path)


def test_pickled_place_holds_no_secret_and_still_reads(bucket: Path) -> None:
    write_text(bucket / "a", "text")  # so that the client has logged in
    pickled = pickle.dumps(bucket / "a")
    assert SECRET.encode() not in pickled
    assert b"tester" not in pickled
    assert pickle.loads(pickled).read_text() == "text"


def require_reachable(place: Path) -> None:
    storage_of(place).require_reachable(place)


def test_empty_place_is_reachable_and_a_missing_bucket_is_refused(bucket: Path) -> None:
    for place in (bucket / "none" / "deep", bucket, Path("/absent")):
        require_reachable(place)
    with pytest.raises(ConfigError, match="s3://absent/x: The specified bucket does not exist"):
        require_reachable(as_place("s3://absent/x"))


def test_missing_credentials_are_named(
    make_bucket: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = make_bucket("private")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    place.fs.clear_instance_cache()  # type: ignore[attr-defined]
    try:
        with pytest.raises(ConfigError, match="Unable to locate credentials"):
            require_reachable(as_place("s3://private/x"))
    finally:
        place.fs.clear_instance_cache()  # type: ignore[attr-defined]


def test_other_errors_are_not_taken_for_the_stores() -> None:
    assert store_problem(ValueError("x")) is None
    assert store_problem(FileNotFoundError("x")) is None
