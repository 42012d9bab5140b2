"""The flag ``--log``, and checks before the training that the loggers can work."""

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

_KINDS = ("tensorboard", "mlflow", "wandb")  # also the names of the packages and of the extras
_MLFLOW_SCHEMES = "http https file sqlite postgresql mysql mssql databricks databricks-uc".split()
_WANDB_SERVER = "https://api.wandb.ai"
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/:]*:\S*|[^\s/]*)@")  # passwords may contain a slash


@dataclass(frozen=True)
class LogTarget:
    """A logger and its destination."""

    kind: str
    """``tensorboard``, ``mlflow`` or ``wandb``."""
    location: str | None = field(default=None, repr=False)
    """MLflow's URI, which may contain a password, or the project at Weights & Biases."""

    def __str__(self) -> str:
        location = self.location
        return self.kind + ("" if location is None else f"={without_credentials(location)}")


def add_log_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--log``, a list of :class:`LogTarget` for :func:`check_logs`."""
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
    kind, equals, location = text.partition("=")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9-]*)(\+[A-Za-z0-9_]+)?:", location)
    if kind not in _KINDS or (equals and (kind == "tensorboard" or not location)):
        allowed = "tensorboard, mlflow, mlflow=URI, wandb or wandb=PROJECT"
        problem = f"expected {allowed}, found {text!r}"
    elif not _is_installed(kind):
        problem = f"{kind} needs the extra {kind}: pip install 'simreg-tune[{kind}]'"
    elif kind == "mlflow" and scheme and scheme[1] not in _MLFLOW_SCHEMES:
        allowed = f"a folder or a URI that begins with one of {', '.join(_MLFLOW_SCHEMES)}"
        problem = f"mlflow: expected {allowed}, found {scheme[0]}"
    else:
        return LogTarget(kind, location or None)
    raise argparse.ArgumentTypeError(problem)


def _is_installed(module: str) -> bool:
    found = find_spec(module)
    return found is not None and found.origin is not None  # a plain folder has no origin


def check_logs(targets: Sequence[LogTarget], folder: Path) -> tuple[LogTarget, ...]:
    """Check the loggers of the search whose results are in ``folder``.

    Raises:
        ConfigError: a logger is given twice, cannot write to an object store, or has no API key.
    """
    kinds = [target.kind for target in targets]
    is_remote = local_path(folder) is None
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ConfigError(f"--log: {kind} is given twice")
    if is_remote and "tensorboard" in kinds:
        raise ConfigError(
            f"--log tensorboard: cannot append to files in an object store ({folder}); "
            "allowed: mlflow, wandb"
        )
    mode = os.environ.get("WANDB_MODE")
    is_offline = mode in ("offline", "dryrun")
    if "wandb" in kinds and is_offline and is_remote and not os.environ.get("WANDB_DIR"):
        raise ConfigError(
            f"--log wandb: WANDB_MODE is {mode}, and its files cannot be in an object store "
            f"({folder}); set WANDB_DIR to a local folder"
        )
    if "wandb" in kinds and not is_offline and mode != "disabled" and not _has_wandb_key():
        raise ConfigError(
            "--log wandb: no API key; set WANDB_API_KEY, run wandb login once, or set "
            "WANDB_MODE=offline"
        )
    return tuple(targets)


def _has_wandb_key() -> bool:
    """Whether an API key is set or ``wandb login`` stored one. Importing wandb takes seconds."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _WANDB_SERVER).hostname or ""
    try:
        file = os.environ.get("NETRC") or Path.home() / ".netrc"
        is_stored = netrc.netrc(file).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        is_stored = False
    return is_stored or bool(os.environ.get("WANDB_API_KEY"))


def without_credentials(text: str) -> str:
    """Replace the user name and password of every URL in a text."""
    return _CREDENTIALS.sub("***@", text)
