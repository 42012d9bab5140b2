from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tuner.loggers.targets
from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import Run, write_space
from tuner.loggers.targets import LogTarget, as_log_target, check_logs, without_credentials

REMOTE: Any = SimpleNamespace(fs=None)  # a path in an object store has a file system
WANDB = LogTarget("wandb")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner.loggers.targets, "_is_installed", lambda module: True)


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Leaves a key as ``wandb login`` does; the environment has none."""
    for name in ("API_KEY", "BASE_URL", "MODE", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    entry = f"machine api.wandb.ai\n  login user\n  password {'x' * 40}\n"
    return lambda: (tmp_path / "netrc").write_text(entry)


@pytest.mark.parametrize(
    "text",
    [
        "tensorboard",
        "mlflow",
        "mlflow=postgresql+psycopg2://me@host/db",
        "mlflow=runs/here",
        "wandb=mine",
    ],
)
def test_flag_names_a_logger_and_its_place(installed: None, text: str) -> None:
    kind, _, place = text.partition("=")
    assert as_log_target(text) == LogTarget(kind, place or None)


@pytest.mark.parametrize(
    "text",
    ["", "comet", "tensorboard=here", "mlflow=", "mlflow=ftp://host/runs"],
)
def test_anything_else_is_refused(installed: None, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        as_log_target(text)


def test_missing_package_is_named_with_its_command(
    tmp_path: Path, dry_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner.loggers.targets, "_is_installed", lambda module: False)
    found = dry_run(write_space(tmp_path), "--log", "mlflow")
    assert found.code == 2
    assert "pip install 'simreg-tune[mlflow]'" in found.errors


def test_plain_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb_like").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not tuner.loggers.targets._is_installed("wandb_like")
    assert tuner.loggers.targets._is_installed("json")


def test_plan_names_the_loggers_without_passwords(
    installed: None, tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    flags = ("--log", "tensorboard", "--log", "mlflow=postgresql://me:secret@host/db")
    found = dry_run(write_space(tmp_path), *flags)
    assert found.code == 0, found.errors
    assert "tensorboard, mlflow=postgresql://***@host/db\n" in found.printed
    assert "secret" not in found.printed + repr(as_log_target(flags[-1]))


def test_repeated_logger_and_tensorboard_in_an_object_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--log: mlflow"):
        check_logs([LogTarget("mlflow", "a"), LogTarget("mlflow", "b")], tmp_path)
    with pytest.raises(ConfigError, match="--log tensorboard"):
        check_logs([LogTarget("tensorboard")], REMOTE)
    assert check_logs([LogTarget("mlflow", "http://host")], REMOTE)


def test_wandb_needs_the_key_of_its_server(
    login: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        check_logs([WANDB], tmp_path)
    login()
    assert check_logs([WANDB], tmp_path) == (WANDB,)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8443")
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        check_logs([WANDB], tmp_path)


@pytest.mark.parametrize("setting", ["API_KEY=0123456789" * 4, "MODE=dryrun", "MODE=disabled"])
def test_wandb_takes_a_key_from_the_environment_or_needs_none(
    setting: str, login: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(f"WANDB_{name}", value)
    assert check_logs([WANDB], tmp_path) == (WANDB,)


def test_offline_wandb_needs_a_local_folder(
    login: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match="WANDB_DIR"):
        check_logs([WANDB], REMOTE)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert check_logs([WANDB], REMOTE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to http://me:secret@host:1/api?a=b@c no", "to http://***@c no"),
        ("http://me:secret@host/api: http://secret@host", "http://***@host/api: http://***@host"),
        ("mysql+pymysql://:se/cr@et@host/db", "mysql+pymysql://***@host/db"),
        ("http://host:1/api and me@host", "http://host:1/api and me@host"),
        ("sqlite:////home/me@corp/runs.db", "sqlite:////home/me@corp/runs.db"),
    ],
)
def test_credentials_in_urls_are_hidden(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
