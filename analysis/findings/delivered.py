"""The front that a search delivers, from its tables (:mod:`simreg_core.results.delivered`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.results.load import Results, ResultsError
from analysis.results.parameters import varying_parameters
from simreg_core.errors import one_line
from simreg_core.registry import Metric
from simreg_core.results.delivered import Delivered, columns_for, delivered
from simreg_core.results.objectives import Constraint, described_by, parse_constraint


def delivered_front(
    results: Results,
    space: Mapping[str, Any],
    split: str,
    metrics: Sequence[Metric],
    ranking: Metric | None = None,
) -> Delivered:
    """The front in some metrics of a split.

    Args:
        results: The tables.
        space: The space file, which names the searched parameters and the constraints. Without
            any searched ones, they are those that vary.
        split: Split of the metrics.
        metrics: Metrics with a direction.
        ranking: Metric that ranks trials; None: the first of ``metrics``.

    Raises:
        ResultsError: the space file is damaged.
    """
    complete = results.trials[results.trials["status"] == "complete"]
    try:
        search = space.get("search", {key: {} for key in varying_parameters(complete)})
        constraints = constraints_of(space, results.metrics)
        needed = columns_for(search, [*metrics, ranking or metrics[0]], constraints, split=split)
        rows, networks = (_rows(table, needed) for table in (complete, results.seeds))
        return delivered(search, rows, networks, metrics, constraints, ranking=ranking, split=split)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        path = results.folder / "space.yaml"
        raise ResultsError(f"{path}: damaged: {one_line(err)}") from err


def front_columns(found: Delivered, split: str) -> pd.DataFrame:
    """One row per trial.

    Columns: ``trial``, ``on_modelled_front``, and for each metric ``SPLIT.METRIC.model`` with the
    ends of its 95 % interval, ``.low`` and ``.high``; null if the front is not modelled.
    """
    table = pd.DataFrame({"trial": found.trials, "on_modelled_front": found.on_front})
    if not found.is_modelled:
        table["on_modelled_front"] = pd.NA
    mean = found.mean if found.is_modelled else np.full(found.mean.shape, np.nan)
    for column, metric in enumerate(found.metrics):
        for name, values in (("model", mean), ("low", found.low), ("high", found.high)):
            table[f"{split}.{metric.name}.{name}"] = values[:, column]
    return table


def constraints_of(space: Mapping[str, Any], metrics: Mapping[str, Metric]) -> list[Constraint]:
    """The constraints in a space file. Metrics that it names are not imported.

    Raises:
        ValueError: a constraint is malformed.
    """
    with described_by(lambda: metrics):
        return [parse_constraint(text) for text in space.get("constraints") or ()]


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    some = table[[name for name in columns if name in table]].astype(object)
    rows = some.where(some.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
