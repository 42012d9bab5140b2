"""``--log``: where a search may log beside its own tables, checked before anything is trained."""

from __future__ import annotations

import argparse
import netrc
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from simreg_core.errors import ConfigError
from simreg_core.storage.location import local_path
from tuner.log_channel import without_credentials

_EXPECTED = "tensorboard, mlflow, mlflow=URI, wandb or wandb=PROJECT"
_MODULES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""By kind, which is the name of its extra: the module that does the logging."""
_MLFLOW_SCHEMES = (
    "http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks",
    "databricks-uc",
)  # fmt: skip
_WANDB_KEYS = ("WANDB_API_KEY", "WANDB_SETUP_API_KEY_HOOK")
_WANDB_PROJECTS = ("WANDB_PROJECT_NAME", "WANDB_PROJECT")
_DEFAULT_PROJECT = "simreg-tune"
_WANDB_SERVER = "https://api.wandb.ai"


@dataclass(frozen=True)
class LogTarget:
    """One place to log to."""

    kind: str
    """``tensorboard``, ``mlflow`` or ``wandb``."""
    place: str | None = field(default=None, repr=False)
    """MLflow's URI, maybe with a password, or the project at Weights & Biases, where given."""

    def __str__(self) -> str:
        if self.place is None:
            return self.kind
        return f"{self.kind}={without_credentials(self.place)}"


class WandbOptions(NamedTuple):
    """What ``wandb.init`` is told, since a logging process may not have this one's environment."""

    project: str
    mode: str | None
    entity: str | None
    folder: Path | None
    """Where its files go: ``FOLDER/wandb``; None for a temporary folder."""


def add_log_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--log``, whose values are :class:`LogTarget`; :func:`check_logs` goes on."""
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        type=as_log_target,
        metavar="LOGGER",
        help="also log to tensorboard, mlflow[=URI] or wandb[=PROJECT]; may be repeated",
    )


def as_log_target(text: str) -> LogTarget:
    """An argparse type: a kind of log, and where it is.

    Raises:
        argparse.ArgumentTypeError: no such kind, a place that it does not have, or its package is
            not installed.
    """
    kind, equals, place = text.partition("=")
    if kind not in _MODULES or (equals and (kind == "tensorboard" or not place)):
        raise argparse.ArgumentTypeError(f"expected {_EXPECTED}, found {text!r}")
    if not _is_installed(_MODULES[kind]):
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
    return found is not None and found.origin is not None  # a mere folder of this name has none


def check_logs(targets: Sequence[LogTarget], folder: Path) -> tuple[LogTarget, ...]:
    """The logs of a search whose results are in a folder.

    Raises:
        ConfigError: a kind is given twice, would have its files in an object store, or Weights &
            Biases would have to ask for a key.
    """
    kinds = [target.kind for target in targets]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ConfigError(f"--log: {kind} is given twice")
    if local_path(folder) is None and "tensorboard" in kinds:
        raise ConfigError(
            f"--log tensorboard: its files are appended to, which an object store ({folder}) "
            "cannot do; allowed there: mlflow, wandb"
        )
    if "wandb" in kinds:
        _check_wandb(folder)
    return tuple(targets)


def _check_wandb(folder: Path) -> None:
    mode = os.environ.get("WANDB_MODE")
    is_offline = mode in ("offline", "dryrun")
    if is_offline and local_path(folder) is None and not os.environ.get("WANDB_DIR"):
        raise ConfigError(
            f"--log wandb: WANDB_MODE is {mode}, and its files cannot be in an object store "
            f"({folder}); set WANDB_DIR to a folder of this machine"
        )
    if is_offline or mode == "disabled" or any(map(os.environ.get, _WANDB_KEYS)):
        return
    if wandb_key() is None:
        raise ConfigError(
            "--log wandb: no API key; set WANDB_API_KEY, run wandb login once, or set "
            "WANDB_MODE=offline"
        )


def wandb_key() -> str | None:
    """The key that ``wandb login`` left, if it did; nobody is asked.

    Read here, since the package tells it only with a warning, and after seconds of importing.
    """
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _WANDB_SERVER).hostname or ""
    try:
        file = os.environ.get("NETRC") or Path.home() / ".netrc"
        found = netrc.netrc(file).authenticators(host)
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def wandb_options(target: LogTarget, folder: Path) -> WandbOptions:
    """How to log to Weights & Biases: the flag, then its own environment variables."""
    named = [os.environ.get(name) for name in _WANDB_PROJECTS]
    project = next(filter(None, (target.place, *named)), _DEFAULT_PROJECT)
    mode = os.environ.get("WANDB_MODE")
    own = os.environ.get("WANDB_DIR")
    home = Path(own).absolute() if own else local_path(folder)
    return WandbOptions(
        project=project,
        mode="offline" if mode == "dryrun" else mode or None,
        entity=os.environ.get("WANDB_ENTITY") or None,
        folder=home,
    )
