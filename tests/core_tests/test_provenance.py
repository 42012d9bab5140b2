from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

import simreg_core
from simreg_core import provenance as module
from simreg_core.provenance import provenance, utc_now


@pytest.fixture(autouse=True)
def fresh_commit() -> None:
    module._commit.cache_clear()


def test_versions_machine_and_device_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance(torch.device("cpu"))
    assert found["torch_version"] == torch.__version__
    assert found["python_version"] == platform.python_version()
    assert found["simreg_version"] == simreg_core.__version__
    assert found["host"] == platform.node()
    assert found["num_threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert provenance(torch.device("cuda"))["device"] == "cuda (Some GPU)"


def test_commit_is_that_of_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(module, "__file__", str(tmp_path / "package" / "provenance.py"))
    git("init", "--quiet")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "-m", "First")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert provenance(torch.device("cpu"))["commit"] == commit

    module._commit.cache_clear()
    (tmp_path / "file").write_text("b")
    assert provenance(torch.device("cpu"))["commit"] == f"{commit}-dirty"


@pytest.mark.parametrize("is_checkout", [False, True], ids=["installed", "without-git"])
def test_without_checkout_or_git_there_is_no_commit(
    is_checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "package" / "provenance.py"))
    if is_checkout:
        (tmp_path / ".git").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(torch.device("cpu"))["commit"] is None


def test_time_is_now_in_utc_to_the_second() -> None:
    now = datetime.fromisoformat(utc_now())
    assert now.utcoffset() == timedelta(0)
    assert now.microsecond == 0
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)
