"""The only reader of result folders.

A folder holds one sub-folder per table of :data:`simreg_core.results.schema.TABLES`, each with
Parquet files of any number of rows; names that start with a dot or an underscore are files that
are still being written. Columns come back with one dtype each, whatever is null in them:

    int64 -> Int64    bool -> boolean    string -> string    (null: ``pandas.NA``)
    float64 -> float64 (null: NaN)       list<float64> -> object (null: None)

Results of an earlier schema version are read where a later one only adds to it; what it lacks is
null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simreg_core.results.schema import (
    ADDED_COLUMNS,
    SCHEMA_VERSION,
    TABLES,
    VERSION_KEY,
    Status,
    arrow_schema,
)
from simreg_core.storage.location import read_all, readable

_PANDAS_TYPES = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


PAIR_COLUMNS = ("pixel_similarity", "neural_similarity", "v1_gabor_similarity")


class ResultsError(ValueError):
    """Results that cannot be read, or that do not hold what is asked of them."""


class NoTrialsError(ResultsError):
    """The folder of a search in which no trial has ended yet."""


class Results(NamedTuple):
    """The tables of one search that a figure needs."""

    folder: Path
    study: str
    """Its name; all names, where the folder was renamed between two runs of the search."""
    trials: pd.DataFrame
    """One row per trial, in order of the trial's number."""
    curves: pd.DataFrame
    confirmation: pd.DataFrame
    """No rows while nothing is confirmed."""
    seeds: pd.DataFrame
    """One row per network of the trials that have several, columns as of ``trials``."""


def load_results(folder: Path) -> Results:
    """The tables of the search that was written to ``folder``; the search may still be running.

    Raises:
        ResultsError: a table cannot be read (see :func:`load_table`), a trial has no number, an
            unknown status, or two rows.
    """
    trials = load_table(folder, "trials")
    _check_trials(trials, folder / "trials")
    # Read after the trials: a baseline's curves are written before the trials that it serves.
    curves = load_table(folder, "curves")
    return Results(
        folder=folder,
        study=", ".join(trials["study"].dropna().unique()) or folder.name,
        trials=trials.sort_values("trial", ignore_index=True),
        curves=curves,
        confirmation=_if_there(folder, "confirmation"),
        seeds=_if_there(folder, "seeds"),
    )


def load_started(folder: Path) -> Results:
    """The tables of a search of which perhaps no trial has ended yet: ``trials`` may be empty.

    Raises:
        ResultsError: the folder is no search's (it has no ``space.yaml`` either), or as of
            :func:`load_results`.
    """
    has_begun = (folder / "space.yaml").exists()
    if has_begun and not (folder / "trials").is_dir():
        return _without_trials(folder)
    try:
        return load_results(folder)
    except NoTrialsError:
        if not has_begun:
            raise
        return _without_trials(folder)


def _without_trials(folder: Path) -> Results:
    empty = {
        table: _to_pandas(arrow_schema(table).empty_table())
        for table in ("trials", "curves", "confirmation", "seeds")
    }
    return Results(folder=folder, study=folder.name, **empty)


def load_table(folder: Path, table: str, trials: Collection[int] | None = None) -> pd.DataFrame:
    """All rows of one table, in order of its file names.

    Args:
        folder: Of the search (the parent of the table's own folder).
        table: A name in :data:`simreg_core.results.schema.TABLES`.
        trials: Only the rows of these trials, and those of none (baselines, the surrogate).

    Returns:
        One column per column of the schema, in its order, with the dtypes listed above.

    Raises:
        ResultsError: the folder is missing, ``trials`` has no file yet, or a file is unreadable,
            of another schema version, or has a missing, unknown or mistyped column.
    """
    if table not in TABLES:
        raise ResultsError(f"unknown table {table!r}; allowed: {', '.join(TABLES)}")
    files = _part_files(folder, table)
    if table == "trials" and not files:
        raise NoTrialsError(f"{folder / table}: no trials yet; a file appears as each one ends")
    schema = arrow_schema(table)
    sources = read_all(files)
    parts = [_read_part(*part, schema) for part in zip(files, sources, strict=True)]
    if trials is not None:
        parts = [_of_trials(part, trials) for part in parts]
    return _to_pandas(pa.concat_tables([schema.empty_table(), *parts]))


def _of_trials(part: pa.Table, trials: Collection[int]) -> pa.Table:
    number = part["trial"]
    wanted = pc.is_in(number, value_set=pa.array(list(trials), pa.int64()))
    return part.filter(pc.or_(wanted, pc.is_null(number)))


def load_pairs(path: Path) -> pd.DataFrame:
    """Similarities of image pairs as ``python -m simreg_core.neural compare`` writes them.

    Returns:
        One row per pair: :data:`PAIR_COLUMNS`, float64, each in [-1, 1]; a similarity that the
        file does not have is NaN.

    Raises:
        ResultsError: the file is missing, unreadable or empty, or a column has no numbers.
    """
    try:
        table = pq.read_table(readable(path)).to_pandas()
    except (pa.ArrowException, OSError) as err:
        reason = str(err).strip().splitlines()[:1]
        raise ResultsError(f"{path}: not a readable Parquet file: {''.join(reason)}") from err
    if PAIR_COLUMNS[0] not in table or table.empty:
        raise ResultsError(f"{path}: holds no pairs with a column {PAIR_COLUMNS[0]}")
    try:
        return pd.DataFrame(
            {name: table.get(name, np.nan) for name in PAIR_COLUMNS}, index=table.index, dtype=float
        )
    except (TypeError, ValueError) as err:
        raise ResultsError(f"{path}: a similarity is no number: {err}") from err


def require_finite(rows: pd.DataFrame, columns: Sequence[str], where: Path) -> None:
    """Refuse null, NaN and infinite values in columns that a finished trial must have.

    Args:
        rows: Complete trials, with their number in ``trial``.
        columns: Names of numeric columns.
        where: The folder to name in the message.

    Raises:
        ResultsError: names the first trial and column at fault, and the value.
    """
    for column in columns:
        values = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)
        for trial, value in zip(rows["trial"], values, strict=True):
            if not np.isfinite(value):
                found = "null or NaN" if np.isnan(value) else repr(float(value))
                raise ResultsError(
                    f"{where}: trial {trial} is complete, but its {column} is {found}; "
                    "allowed: a finite number"
                )


def _part_files(folder: Path, table: str) -> list[Path]:
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder; expected the folder of a search")
    home = folder / table
    if not home.is_dir():
        raise ResultsError(f"{folder}: no {table}/ in it; expected the folder of a search")
    return sorted(path for path in home.glob("*.parquet") if path.name[0] not in "._")


def _read_part(path: Path, source: Path | BinaryIO, schema: pa.Schema) -> pa.Table:
    try:
        with pq.ParquetFile(source) as file:
            lacking = _lacking_columns(path, file.schema_arrow)
            own = pa.schema([field for field in schema if field.name not in lacking])
            _check_schema(path, file.schema_arrow, own)
            part = file.read(columns=own.names)
    except (pa.ArrowException, OSError) as err:
        reason = str(err).strip().splitlines()[:1]
        raise ResultsError(f"{path}: not a readable Parquet file: {''.join(reason)}") from err
    for name in set(schema.names) - set(own.names):
        values = pa.array([lacking[name]] * len(part), schema.field(name).type)
        part = part.append_column(name, values)
    return part.select(schema.names).cast(schema)


def _lacking_columns(path: Path, found: pa.Schema) -> Mapping[str, str | None]:
    """Columns that the file's schema version did not have yet, and what holds there."""
    version = (found.metadata or {}).get(VERSION_KEY)
    readable: dict[bytes, Mapping[str, str | None]] = {
        str(number).encode(): columns for number, columns in ADDED_COLUMNS.items()
    }
    readable[str(SCHEMA_VERSION).encode()] = {}
    if version not in readable:
        described = "none" if version is None else version.decode(errors="replace")
        allowed = ", ".join(map(str, sorted([*ADDED_COLUMNS, SCHEMA_VERSION], reverse=True)))
        raise ResultsError(f"{path}: schema version {described}; allowed: {allowed}")
    return readable[version]


def _check_schema(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    if missing := _difference(expected.names, found.names):
        raise ResultsError(f"{path}: columns are missing: {missing}")
    if unknown := _difference(found.names, expected.names):
        raise ResultsError(f"{path}: unknown columns: {unknown}")
    if len(found.names) != len(expected.names):
        raise ResultsError(f"{path}: a column occurs twice")
    for field in expected:
        kind = found.field(field.name).type
        if kind != field.type:
            raise ResultsError(f"{path}: {field.name} is {kind}; allowed: {field.type}")


def _difference(names: Iterable[str], others: Iterable[str]) -> str:
    known = set(others)
    return ", ".join(name for name in names if name not in known)


def _check_trials(trials: pd.DataFrame, where: Path) -> None:
    if trials.empty:
        raise NoTrialsError(f"{where}: no trials yet; its files hold no rows")
    if trials["trial"].isna().any():
        raise ResultsError(f"{where}: a row has no trial number")
    if (twice := trials["trial"].duplicated()).any():
        raise ResultsError(f"{where}: trial {trials['trial'][twice].iloc[0]} occurs twice")
    allowed = get_args(Status)
    for trial, status in zip(trials["trial"], trials["status"], strict=True):
        if pd.isna(status) or status not in allowed:
            found = "null" if pd.isna(status) else repr(status)
            raise ResultsError(
                f"{where}: trial {trial} has status {found}; allowed: {', '.join(allowed)}"
            )


def _if_there(folder: Path, table: str) -> pd.DataFrame:
    """A table that not every search has; no rows where it is missing."""
    if (folder / table).is_dir():
        return load_table(folder, table)
    return _to_pandas(arrow_schema(table).empty_table())


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: Any = table.replace_schema_metadata(None).to_pandas(types_mapper=_PANDAS_TYPES.get)
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"expected a DataFrame, got {type(frame).__name__}")
    return frame
