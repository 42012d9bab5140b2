"""Lets workers import this project where the user's folder has packages of the same names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ray

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("tuner", "simreg_core", "analysis")


class _OwnCodeFirst(ray.job_config.JobConfig):  # type: ignore[misc]
    def _serialize(self) -> bytes:
        # Workers put the script's folder and the working directory first in their search path, the
        # last one first of all. Both are in the list by now.
        self._py_driver_sys_path.append(str(_ROOT))
        return super()._serialize()  # type: ignore[no-any-return]


def job_config() -> ray.job_config.JobConfig | None:
    """The configuration for ``ray.init``; None for Ray's own, if no name clashes."""
    places = {Path.cwd(), Path(os.path.realpath(sys.argv[0])).parent}
    return _OwnCodeFirst() if any(_clashes(place) for place in places) else None


def _clashes(folder: Path) -> bool:
    return folder.resolve() != _ROOT.resolve() and any(
        (folder / name).exists() or (folder / f"{name}.py").exists() for name in _PACKAGES
    )
