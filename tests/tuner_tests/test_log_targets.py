from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tuner.log_targets
from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import Run, write_space
from tuner.log_targets import LogTarget, as_log_target, check_logs, wandb_options

EXPECTED = "expected tensorboard, mlflow, mlflow=URI, wandb or wandb=PROJECT, found"


class RemotePath:
    """What tells a place in an object store from a local one."""

    fs = None

    def __str__(self) -> str:
        return "s3://bucket/name"


REMOTE: Any = RemotePath()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package is there, as far as the flag can tell."""
    monkeypatch.setattr(tuner.log_targets, "_is_installed", lambda module: True)


@pytest.fixture
def key_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the key that ``wandb login`` left; the environment holds nothing."""
    for name in ("API_KEY", "BASE_URL", "MODE", "DIR", "ENTITY", "PROJECT", "PROJECT_NAME"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("WANDB_SETUP_API_KEY_HOOK", raising=False)

    def leave(key: str | None) -> None:
        entry = f"machine api.wandb.ai\n  login user\n  password {key}\n"
        (tmp_path / "netrc").write_text(entry)

    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return leave


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("tensorboard", "tensorboard", None),
        ("mlflow", "mlflow", None),
        ("mlflow=sqlite:///runs.db", "mlflow", "sqlite:///runs.db"),
        ("mlflow=http://host:5000", "mlflow", "http://host:5000"),
        ("mlflow=postgresql+psycopg2://me@host/db", "mlflow", "postgresql+psycopg2://me@host/db"),
        ("mlflow=runs/here", "mlflow", "runs/here"),
        ("wandb", "wandb", None),
        ("wandb=mine", "wandb", "mine"),
    ],
)
def test_flag_names_a_logger_and_maybe_its_place(
    installed: None, text: str, kind: str, place: str | None
) -> None:
    assert as_log_target(text) == LogTarget(kind, place)


@pytest.mark.parametrize("text", ["", "comet", "tensorboard=here", "tensorboard=", "mlflow=", "="])
def test_anything_else_is_refused(installed: None, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        as_log_target(text)
    assert str(caught.value) == f"{EXPECTED} {text!r}"


def test_scheme_that_mlflow_does_not_have_is_refused(installed: None) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"begins with one of http, .* found ftp:"):
        as_log_target("mlflow=ftp://host/runs")


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_missing_package_is_named_with_its_command(
    kind: str, tmp_path: Path, dry_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner.log_targets, "_is_installed", lambda module: False)
    found = dry_run(write_space(tmp_path), "--log", kind)
    assert found.code == 2
    line = f"--log: {kind} needs the extra {kind}: pip install 'simreg-tune[{kind}]'"
    assert found.errors == f"tuner.run: {line} (see --help)\n"


def test_folder_of_the_same_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb_like").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not tuner.log_targets._is_installed("wandb_like")
    assert tuner.log_targets._is_installed("json")


def test_plan_names_the_logs_without_passwords(
    installed: None, tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    flags = ("--log", "tensorboard", "--log", "mlflow=postgresql://me:secret@host/db")
    found = dry_run(write_space(tmp_path), *flags)
    assert found.code == 0, found.errors
    assert "logs         tensorboard, mlflow=postgresql://***@host/db\n" in found.printed
    assert "secret" not in found.printed + repr(as_log_target(flags[-1]))


def test_kind_is_given_once(tmp_path: Path) -> None:
    targets = [LogTarget("mlflow", "a"), LogTarget("mlflow", "b")]
    with pytest.raises(ConfigError, match="--log: mlflow is given twice"):
        check_logs(targets, tmp_path)


def test_tensorboard_is_refused_in_an_object_store() -> None:
    with pytest.raises(ConfigError, match=r"--log tensorboard: .*s3://bucket/name.* allowed there"):
        check_logs([LogTarget("tensorboard")], REMOTE)
    assert check_logs([LogTarget("mlflow", "http://host")], REMOTE)


def test_wandb_without_a_key_is_refused(
    key_left: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="--log wandb: no API key; set WANDB_API_KEY"):
        check_logs([LogTarget("wandb")], tmp_path)
    key_left("x" * 40)
    assert check_logs([LogTarget("wandb")], tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8443")
    with pytest.raises(ConfigError, match="--log wandb: no API key"):
        check_logs([LogTarget("wandb")], tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_API_KEY", "x" * 40), ("WANDB_MODE", "offline")]
)
def test_wandb_needs_a_key_or_to_be_offline(
    name: str,
    value: str,
    key_left: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    assert check_logs([LogTarget("wandb")], tmp_path) == (LogTarget("wandb"),)


def test_offline_wandb_needs_a_folder_of_this_machine(
    key_left: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match="set WANDB_DIR to a folder of this machine"):
        check_logs([LogTarget("wandb")], REMOTE)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert check_logs([LogTarget("wandb")], REMOTE)
    assert wandb_options(LogTarget("wandb"), REMOTE).folder == tmp_path


def test_project_is_that_of_the_flag_or_the_environment(
    key_left: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wandb_options(LogTarget("wandb"), tmp_path) == ("simreg-tune", None, None, tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    assert wandb_options(LogTarget("wandb"), tmp_path) == ("theirs", "offline", "us", tmp_path)
    assert wandb_options(LogTarget("wandb", "mine"), tmp_path).project == "mine"
