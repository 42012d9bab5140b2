"""Complete trials with their networks, each of which is one measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreg_core.statistics.noisy_model import Array
from simreg_core.statistics.parameter_points import parameter_points

Row = Mapping[str, Any]


class TrialNetworks(NamedTuple):
    """N trials with n networks."""

    trials: Sequence[Row]
    """(N,), rows of complete trials, by number."""
    networks: Sequence[Row]
    """(n,), rows of their networks, trial by trial; the trial's own row if it has only one."""
    first: NDArray[np.int64]
    """(N,), places of the first networks in ``networks``."""
    points: Array
    """(n, d) in [0, 1], the searched parameters; equal for all networks of a trial."""
    parameters: tuple[str, ...]
    """Searched parameters that vary, which ``points`` hold."""

    @classmethod
    def of(
        cls,
        search: Mapping[str, Mapping[str, Any]],
        trials: Iterable[Row],
        networks: Iterable[Row],
        needed: Sequence[str],
    ) -> TrialNetworks:
        """The complete trials, and their networks, with finite values in the ``needed`` columns.

        Raises:
            ValueError: a value or an end of a searched range is no number; names the parameter.
        """
        complete = [row for row in trials if row["status"] == "complete" and _has(row, needed)]
        complete.sort(key=lambda row: int(row["trial"]))
        several: dict[int, list[Row]] = {}
        for network in networks:
            if _has(network, needed):
                several.setdefault(network["trial"], []).append(network)
        groups = [several.get(row["trial"], [row]) for row in complete]
        sizes = [len(group) for group in groups]
        found = parameter_points(search, complete)
        return cls(
            complete,
            [row for group in groups for row in group],
            np.cumsum([0, *sizes])[:-1],
            np.repeat(found.points, sizes, axis=0),
            found.parameters,
        )


def finite_values(rows: Sequence[Row], names: Sequence[str]) -> Array:
    """Values (len(rows), len(names)); NaN for those that are missing or not finite."""
    values = [[row[name] if _has(row, [name]) else math.nan for name in names] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(names))


def _has(row: Row, names: Iterable[str]) -> bool:
    """Whether a row has finite values in some columns."""
    values = [row.get(name) for name in names]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
