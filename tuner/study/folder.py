"""The folder of a study: its plan, its creation, and the checks before it is resumed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.results.progress import SPACE_FILE
from simreg_core.results.tables import ResultStore
from simreg_core.storage.location import storage_of
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
    cache: Path
    """``OUTPUT/baselines``: baseline networks, shared by the searches of one output."""
    is_named: bool = True
    """Whether the user chose this folder; if not, a number is appended where it exists."""
    resumes: bool = False
    """Whether the folder holds a search to resume."""
    storage: str | None = field(default=None, repr=False)
    """URL of the study's database, maybe with a password; None for a journal, or what the folder
    remembers."""
    logs: tuple[LogTarget, ...] = ()
    """Where networks are logged beside the tables."""

    def free_folder(self) -> Path:
        """The folder, or the first numbered one that does not exist.

        Raises:
            ConfigError: it exists and was chosen by name.
        """
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
    """Create ``OUTPUT/NAME`` with empty tables and the space file as used, whole or not at all.

    Returns:
        The plan with the folder that was made: where the name is free to vary, another search
        may have taken it in the meantime.

    An object store cannot rename. There the space file is written last, and without it the folder
    cannot be resumed. If two searches create the same folder, only one gets it.

    Raises:
        ConfigError: it exists (results are never overwritten) or cannot be created.
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


def read_space(folder: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The space of the search in a result folder, as it was used, with overrides.

    Raises:
        ConfigError: there is no search, or its space file or an override is wrong.
    """
    if not (folder / SPACE_FILE).is_file():
        raise ConfigError(f"{folder}: no results of a search (it has no {SPACE_FILE})")
    return load_space(folder / SPACE_FILE, overrides)


def resume_plan(
    folder: Path,
    asked: SearchSpace | None,
    overrides: Sequence[str],
    storage: str | None = None,
) -> SearchPlan:
    """The plan that resumes the search in a result folder.

    Args:
        folder: ``OUTPUT/NAME``.
        asked: The space that the user believes this search to have; None for that of the folder.
        overrides: ``key=value`` texts that are laid over the folder's own space.
        storage: See :class:`SearchPlan`.

    Raises:
        ConfigError: there is no search, or it has another space or name.
    """
    found = read_space(folder)
    if any(text.startswith("name=") for text in overrides):
        raise ConfigError(f"--set name: a search keeps its name, {found.name}")
    space = asked or read_space(folder, overrides)
    space = space.model_copy(update={"name": found.name})
    check_space(folder, found, space)
    return SearchPlan(space, folder, folder.parent / "baselines", resumes=True, storage=storage)


def check_resumable(plan: SearchPlan) -> None:
    """Refuse to resume results that are not consistent; for a folder that no process holds.

    Raises:
        ConfigError: the study is missing, damaged or inconsistent with the trials table (see
            :func:`~tuner.study.study.check_consistent`).
    """
    rows = ResultStore(plan.folder).read("trials")
    if not has_study(plan.folder) and not rows:  # killed before there was anything
        return
    study = read_study(plan.folder, plan.space, plan.storage)
    check_consistent(plan.folder, study, rows, plan.space.tuning.num_trials)
