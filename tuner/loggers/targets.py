"""The flag ``--log``, and the checks that it can work, before anything is trained."""

from __future__ import annotations

import argparse
import netrc
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from simreg_core.errors import ConfigError
from simreg_core.storage.location import local_path

_KINDS = ("tensorboard", "mlflow", "wandb")
"""Each is also the name of the package that it needs and of the extra that installs it."""
_MLFLOW_SCHEMES = (
    "http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks",
    "databricks-uc",
)  # fmt: skip
_WANDB_SERVER = "https://api.wandb.ai"
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/:]*:\S*|[^\s/]*)@")  # some passwords have a slash


@dataclass(frozen=True)
class LogTarget:
    """One logger and where it logs to."""

    kind: str
    """``tensorboard``, ``mlflow`` or ``wandb``."""
    place: str | None = field(default=None, repr=False)
    """MLflow's URI, which may contain a password, or the project at Weights & Biases."""

    def __str__(self) -> str:
        if self.place is None:
            return self.kind
        return f"{self.kind}={without_credentials(self.place)}"


def add_log_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--log``, whose values are :class:`LogTarget`; pass them to :func:`check_logs`."""
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        type=as_log_target,
        metavar="LOGGER",
        help="also log to tensorboard, mlflow[=URI] or wandb[=PROJECT]; may be repeated",
    )


def as_log_target(text: str) -> LogTarget:
    """Parse one value of ``--log``; an argparse type.

    Raises:
        argparse.ArgumentTypeError: the logger or the scheme of its URI is unknown, or its package
            is not installed.
    """
    kind, equals, place = text.partition("=")
    if kind not in _KINDS or (equals and (kind == "tensorboard" or not place)):
        raise argparse.ArgumentTypeError(
            f"expected tensorboard, mlflow, mlflow=URI, wandb or wandb=PROJECT, found {text!r}"
        )
    if not _is_installed(kind):
        raise argparse.ArgumentTypeError(
            f"{kind} needs the extra {kind}: pip install 'simreg-tune[{kind}]'"
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9-]*)(\+[A-Za-z0-9_]+)?:", place)
    if kind == "mlflow" and scheme and scheme[1] not in _MLFLOW_SCHEMES:
        raise argparse.ArgumentTypeError(
            f"mlflow: expected a folder or a URI that begins with one of "
            f"{', '.join(_MLFLOW_SCHEMES)}, found {scheme[0]}"
        )
    return LogTarget(kind, place or None)


def _is_installed(module: str) -> bool:
    found = find_spec(module)
    return found is not None and found.origin is not None  # a plain folder of this name has none


def check_logs(targets: Sequence[LogTarget], folder: Path) -> tuple[LogTarget, ...]:
    """Check the loggers of a search against each other and against its result folder.

    Raises:
        ConfigError: a logger is given twice, would write to an object store, or has no API key.
    """
    kinds = [target.kind for target in targets]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ConfigError(f"--log: {kind} is given twice")
    if local_path(folder) is None and "tensorboard" in kinds:
        raise ConfigError(
            f"--log tensorboard: it appends to its files, which an object store ({folder}) does "
            "not support; allowed there: mlflow, wandb"
        )
    if "wandb" in kinds:
        _check_wandb(folder)
    return tuple(targets)


def _check_wandb(folder: Path) -> None:
    mode = os.environ.get("WANDB_MODE")
    if mode in ("offline", "dryrun"):
        if local_path(folder) is None and not os.environ.get("WANDB_DIR"):
            raise ConfigError(
                f"--log wandb: WANDB_MODE is {mode}, and its files cannot be in an object store "
                f"({folder}); set WANDB_DIR to a folder of this machine"
            )
    elif mode != "disabled" and not os.environ.get("WANDB_API_KEY") and not _has_login():
        raise ConfigError(
            "--log wandb: no API key; set WANDB_API_KEY, run wandb login once, or set "
            "WANDB_MODE=offline"
        )


def _has_login() -> bool:
    """Whether ``wandb login`` left a key. Importing wandb to ask it would take seconds."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _WANDB_SERVER).hostname or ""
    try:
        file = os.environ.get("NETRC") or Path.home() / ".netrc"
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False


def without_credentials(text: str) -> str:
    """Replace the user name and password of every URL in a text."""
    return _CREDENTIALS.sub("***@", text)
