"""Result folders as pandas tables.

A folder holds one sub-folder per table of :data:`simreg_core.results.schema.TABLES`
(:mod:`simreg_core.results.tables` reads them). Each column has one dtype, whether it holds nulls or
not:

    int64 -> Int64    bool -> boolean    string -> string    (null: ``pandas.NA``)
    float64 -> float64 (null: NaN)       list<float64> -> object (null: None)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simreg_core.errors import ConfigError, counted
from simreg_core.registry import Metric
from simreg_core.results.schema import SPLITS, TABLES, Status, metrics_in
from simreg_core.results.tables import read_parquet, read_table
from simreg_core.storage.location import to_path

Array = NDArray[np.float64]

_PANDAS_TYPES = {
    "int64": pd.Int64Dtype(),
    "bool": pd.BooleanDtype(),
    "string": pd.StringDtype(),
}
_PAIR_SUFFIX = "_similarity"


class ResultsError(ConfigError):
    """Results that do not hold what a command needs."""


class Results(NamedTuple):
    """The tables of one search that a figure needs."""

    folder: Path
    study: str
    """Its name; all names, if the folder was renamed between two runs of the search."""
    trials: pd.DataFrame
    """One row per trial, by number."""
    curves: pd.DataFrame
    confirmation: pd.DataFrame
    """No rows while nothing is confirmed."""
    seeds: pd.DataFrame
    """One row per network of the trials that have several, with the columns of ``trials``."""
    metrics: Mapping[str, Metric]
    """The metrics of the trials table, by name."""


def load_results(folder: str | Path) -> Results:
    """The tables of the search in ``folder``, which may still be running.

    Raises:
        ResultsError: no trial has ended.
        ConfigError: see :func:`load_started`.
    """
    folder = to_path(folder)
    results = load_started(folder)
    if results.trials.empty:
        raise ResultsError(f"{folder / 'trials'}: no trials yet; a row appears as each one ends")
    return results


def load_started(folder: str | Path) -> Results:
    """Like :func:`load_results`, but ``trials`` may be empty.

    Raises:
        ConfigError: a table cannot be read (see :func:`load_table`), or a trial has no number, an
            unknown status, or two rows.
    """
    folder = to_path(folder)
    content = read_table(folder, "trials")
    trials, metrics = _to_pandas(content), metrics_in(content.schema)
    _check_trials(trials, folder / "trials")
    # Read after the trials: a baseline's curves are written before the trials that need it.
    curves = load_table(folder, "curves")
    return Results(
        folder=folder,
        study=", ".join(trials["study"].dropna().unique()) or folder.name,
        trials=trials.sort_values("trial", ignore_index=True),
        curves=curves,
        confirmation=_with_metrics(load_table(folder, "confirmation"), metrics),
        seeds=_with_metrics(load_table(folder, "seeds"), metrics),
        metrics=metrics,
    )


def _with_metrics(frame: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """The table with a column for every metric of the trials, null where it has none."""
    columns = [f"{split}.{name}" for split in SPLITS for name in metrics]
    return frame.assign(**{name: np.nan for name in columns if name not in frame})


def load_table(
    folder: str | Path, table: str, trials: Collection[int] | None = None
) -> pd.DataFrame:
    """All rows of one table, in order of its file names.

    Args:
        folder: Folder of the search.
        table: A name in :data:`simreg_core.results.schema.TABLES`.
        trials: Only the rows of these trials, and those of none (baselines, the surrogate).

    Returns:
        The columns of the schema, in its order, with the dtypes listed above.

    Raises:
        ConfigError: see :func:`simreg_core.results.tables.read_table`.
    """
    folder = to_path(folder)
    if table not in TABLES:
        raise ResultsError(f"unknown table {table!r}; allowed: {', '.join(TABLES)}")
    return _to_pandas(read_table(folder, table, trials=trials))


def _to_pandas(content: Any) -> pd.DataFrame:
    plain = content.replace_schema_metadata(None)
    frame: pd.DataFrame = plain.to_pandas(types_mapper=lambda kind: _PANDAS_TYPES.get(str(kind)))
    return frame


def numbers(rows: pd.DataFrame, column: str) -> Array:
    """A numeric column as floats, null as NaN."""
    return rows[column].to_numpy(dtype=np.float64, na_value=np.nan)


def load_pairs(path: str | Path) -> pd.DataFrame:
    """Similarities of image pairs as ``python -m simreg_core.neural compare`` writes them.

    Returns:
        One row per pair, and two or more columns, float64: the similarities, each in [-1, 1],
        by the name of the target.

    Raises:
        ConfigError: the file is missing, unreadable or empty, has fewer than two similarities, or
            a column has no numbers.
    """
    path = to_path(path)
    table = read_parquet(path).to_pandas()
    names = [name for name in map(str, table) if name.endswith(_PAIR_SUFFIX)]
    if len(names) < 2 or table.empty:
        raise ResultsError(
            f"{path}: expected pairs with two or more columns NAME{_PAIR_SUFFIX}, found "
            f"{counted(len(table), 'row')} with {', '.join(map(str, table)) or 'no columns'}"
        )
    try:
        columns = {name.removesuffix(_PAIR_SUFFIX): table[name] for name in names}
        return pd.DataFrame(columns, index=table.index, dtype=float)
    except (TypeError, ValueError) as err:
        raise ResultsError(f"{path}: a similarity is no number: {err}") from err


def require_finite(rows: pd.DataFrame, columns: Sequence[str], where: Path) -> None:
    """Refuse null, NaN and infinite values in numeric columns of complete trials.

    Raises:
        ResultsError: names ``where``, the first trial and column at fault, and the value.
    """
    for column in columns:
        values = numbers(rows, column)
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            value = float(values[bad[0]])
            found = "null or NaN" if np.isnan(value) else repr(value)
            raise ResultsError(
                f"{where}: trial {rows['trial'].iloc[bad[0]]} is complete, but its {column} is "
                f"{found}; allowed: a finite number"
            )


def _check_trials(trials: pd.DataFrame, where: Path) -> None:
    if trials["trial"].isna().any():
        raise ResultsError(f"{where}: a row has no trial number")
    if (twice := trials["trial"].duplicated()).any():
        raise ResultsError(f"{where}: trial {trials['trial'][twice].iloc[0]} occurs twice")
    allowed = get_args(Status)
    bad = trials[~trials["status"].isin(allowed)]
    if len(bad):
        trial, status = bad[["trial", "status"]].iloc[0]
        found = "null" if pd.isna(status) else repr(status)
        raise ResultsError(
            f"{where}: trial {trial} has status {found}; allowed: {', '.join(allowed)}"
        )
