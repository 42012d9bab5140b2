"""Where a result was computed: versions, commit, machine and device."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from simreg_core.version import __version__


def provenance(device: torch.device) -> dict[str, Any]:
    """The provenance columns of :mod:`simreg_core.results.schema`, without times."""
    if device.type == "cuda":
        model = torch.cuda.get_device_name(device)
    else:
        model = platform.processor() or platform.machine()
    return {
        "host": platform.node(),
        "device": f"{device.type} ({model})",
        "num_threads": torch.get_num_threads(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "simreg_version": __version__,
        "commit": _commit(),
    }


def utc_now() -> str:
    """The current time in UTC, as ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _commit() -> str | None:
    """Commit of the source tree, with a suffix if it has changes; None outside of a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
