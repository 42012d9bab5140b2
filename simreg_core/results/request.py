"""What a search was asked for, from the space file in its result folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simreg_core.config.yaml_io import read_yaml_mapping
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import Metric
from simreg_core.results.objectives import (
    Constraint,
    described_by,
    objective,
    parse_constraint,
    ranking_metric,
)
from simreg_core.results.schema import metrics_in
from simreg_core.results.tables import read_table
from simreg_core.storage.location import to_path

SPACE_FILE = "space.yaml"


class StudyRequest(NamedTuple):
    """The part of a space file that progress and the front depend on."""

    name: str
    num_trials: int
    confirms: bool
    search: Mapping[str, Mapping[str, Any]]
    """The searched parameters."""
    objectives: tuple[Metric, ...]
    ranking: Metric
    """The metric that ranks trials."""
    constraints: tuple[Constraint, ...]


def read_request(folder: str | Path) -> StudyRequest:
    """Read the space file in a result folder. Metrics that it names are not imported.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    folder = to_path(folder)
    path = folder / SPACE_FILE
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the folder of a search")
    if not path.is_file():
        raise ConfigError(f"{folder}: no results of a search (it has no {SPACE_FILE})")
    space = read_yaml_mapping(path, folder)
    try:
        with described_by(lambda: metrics_in(read_table(folder, "trials").schema)):
            return StudyRequest(
                name=str(space["name"]),
                num_trials=int(space["tuning"]["num_trials"]),
                confirms=space["tuning"].get("confirm") is not None,
                search={str(key): dict(entry) for key, entry in space.get("search", {}).items()},
                objectives=tuple(objective(name) for name in space["objectives"]),
                ranking=objective(ranking_metric(space["objectives"])),
                constraints=tuple(parse_constraint(t) for t in space.get("constraints", ())),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise ConfigError(f"{path}: damaged: {one_line(err)}") from err
