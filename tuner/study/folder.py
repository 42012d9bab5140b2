"""The result folder of a study: the plan of a search, and how the folder is created or resumed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.tables import ResultStore
from simreg_core.storage.location import storage_of, to_path
from tuner.loggers.targets import LogTarget
from tuner.space.loading import load_space
from tuner.space.search_space import SearchSpace
from tuner.study.storage import has_study
from tuner.study.study import check_consistent, check_space, claim_study, read_study


@dataclass(frozen=True)
class SearchPlan:
    """A search that has been checked and is ready to run."""

    space: SearchSpace
    folder: Path
    """``OUTPUT/NAME``."""
    is_named: bool = True
    """Whether the user chose the folder's name. If not, a taken name gets a number."""
    resumes: bool = False
    """Whether the folder holds a search to resume."""
    storage: str | None = field(default=None, repr=False)
    """URL of the study's database, possibly with a password. None: a journal in the folder, or the
    URL that the folder stores."""
    logs: tuple[LogTarget, ...] = ()
    """Loggers that receive the networks' metrics in addition to the tables."""

    @property
    def cache(self) -> Path:
        """``OUTPUT/baselines``: baseline networks, shared by all searches of an output folder."""
        return self.folder.parent / "baselines"

    def free_folder(self) -> Path:
        """The folder or, if the user did not name it, the first numbered one that is free."""
        if not self.folder.exists():
            return self.folder
        if self.is_named:
            raise ConfigError(
                f"{self.folder} exists; choose another --name (nothing is overwritten)"
            )
        name = self.space.name
        numbered = (self.folder.with_name(f"{name}-{number}") for number in itertools.count(2))
        return next(folder for folder in numbered if not folder.exists())


def create_folder(plan: SearchPlan) -> SearchPlan:
    """Atomically create ``OUTPUT/NAME`` with empty tables and the space file.

    An object store cannot rename folders. There, the space file is written last, and a folder
    without it cannot be resumed. If two searches create the same folder, only one succeeds. Returns
    the plan with the folder that was created, which may have a number.

    Raises:
        ConfigError: the folder exists (results are never overwritten) or cannot be created.
    """
    storage = storage_of(plan.folder)
    try:
        while not storage.create_folder(
            plan.folder, lambda path: ResultStore(path).create(), SPACE_FILE, plan.space.to_yaml()
        ):
            plan = replace(plan, folder=plan.free_folder())
    except OSError as err:
        raise ConfigError(f"{plan.folder}: cannot be written: {os_reason(err)}") from err
    if plan.storage is not None:
        try:
            claim_study(plan.folder, plan.space, plan.storage)
        except ConfigError:
            storage.remove_folder(plan.folder)
            raise
    return plan


def read_space(folder: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The space of the search in a result folder, with overrides applied.

    Raises:
        ConfigError: the folder holds no search, or its space file or an override is invalid.
    """
    folder = to_path(folder)
    if not (folder / SPACE_FILE).is_file():
        raise ConfigError(f"{folder}: no results of a search (it has no {SPACE_FILE})")
    return load_space(folder / SPACE_FILE, overrides, folder)


def resume_plan(
    folder: str | Path,
    expected: SearchSpace | None,
    overrides: Sequence[str],
    storage: str | None = None,
) -> SearchPlan:
    """The plan that resumes the search in a result folder.

    The space is ``expected``, or the folder's own with ``overrides`` (``key=value``) applied.

    Raises:
        ConfigError: the folder holds no search, or one with another space or name.
    """
    folder = to_path(folder)
    found = read_space(folder)
    if any(text.startswith("name=") for text in overrides):
        raise ConfigError(f"--set name: a search keeps its name, {found.name}")
    space = expected or read_space(folder, overrides)
    space = space.model_copy(update={"name": found.name})
    check_space(folder, found, space)
    return SearchPlan(space, folder, resumes=True, storage=storage)


def check_resumable(plan: SearchPlan) -> None:
    """Refuse to resume inconsistent results. No other process may hold the folder's lock.

    Raises:
        ConfigError: the study is missing, damaged or inconsistent with the trials table (see
            :func:`~tuner.study.study.check_consistent`).
    """
    rows = ResultStore(plan.folder).read("trials")
    if not has_study(plan.folder) and not rows:  # stopped before the study was created
        return
    study = read_study(plan.folder, plan.space, plan.storage)
    check_consistent(plan.folder, study, rows, plan.space.tuning.num_trials)
