"""Target of a feature matrix, such as CLIP embeddings or fMRI responses: no model is needed.

The matrix has one row per training image of the regularization dataset, in its stored order. Its
file is one of

* ``.npy``, or ``.npz`` with a single array or one that is called ``features``: numbers (N, M),
  without pickled objects;
* ``.parquet``: a single column of lists of M numbers, or M columns of numbers. An index that pandas
  has stored is left out.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from simreg_core.errors import ConfigError, concerning, counted, one_line
from simreg_core.registry import target
from simreg_core.regularizer.responses import ResponseSimilarity
from simreg_core.regularizer.targets import Similarities, TargetInput
from simreg_core.results.tables import read_parquet
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp

_NAME = "features"
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


@target(_NAME, argument="PATH")
def _features(source: TargetInput) -> Similarities:
    """Mean-subtracted cosine similarity of the rows of a feature matrix, one row per image."""
    path = Path(source.config.target.partition(":")[2])
    with concerning("regularizer.target"):
        if source.rows is None or source.num_stored is None:
            raise ConfigError(
                f"{path} has one row per image of the regularization dataset "
                f"{source.config.dataset!r}, which does not say how many images it has "
                "(num_stored of its ImagePool)"
            )
        rows, num_stored = source.rows.cpu().numpy(), source.num_stored
        identity = "rows", file_stamp(path), num_stored, hashlib.sha256(rows.tobytes()).hexdigest()

        def build() -> Arrays:
            return {"chosen": _chosen(read_matrix(path), rows, num_stored, path)}

        chosen = torch.from_numpy(cached_arrays(identity, build)["chosen"])
    return ResponseSimilarity(chosen.to(source.images.device))


def read_matrix(path: Path) -> NDArray[Any]:
    """The matrix (N, M) in a file, of any numeric type.

    Raises:
        ConfigError: the file is missing, damaged, of another kind, or holds no matrix of numbers.
    """
    readers = {".npy": _read_numpy, ".npz": _read_numpy, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: unknown suffix; allowed: {', '.join(readers)}")
    file_stamp(path)  # refuses a folder, or a pipe, which would block
    matrix = readers[path.suffix](path)
    if matrix.dtype.kind not in "fiu" or matrix.ndim != 2 or 0 in matrix.shape:
        found = f"{matrix.dtype} {matrix.shape}"
        raise ConfigError(f"{path}: expected a matrix of numbers (images, features), found {found}")
    return matrix


def _chosen(
    matrix: NDArray[Any], rows: NDArray[np.int64], num_stored: int, path: Path
) -> NDArray[np.float32]:
    """The rows of the regularization images; the others may hold anything."""
    if len(matrix) != num_stored:
        raise ConfigError(
            f"{path} has {counted(len(matrix), 'row')}, but the regularization dataset has "
            f"{counted(num_stored, 'training image')}; expected one row per image, in the stored "
            "order"
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite
        chosen = matrix[rows].astype(np.float32)
    if not np.isfinite(chosen).all():
        n, column = np.argwhere(~np.isfinite(chosen))[0]
        found = f"{matrix[rows[n], column]} in row {rows[n]}, column {column} (from 0)"
        raise ConfigError(f"{path}: expected finite numbers, found {found}")
    if (chosen == chosen[0]).all():
        raise ConfigError(f"{path}: the rows of all {len(rows)} regularization images are equal")
    return chosen


def _read_numpy(path: Path) -> NDArray[Any]:
    try:
        # If NumPy opens a damaged archive itself, it does not close it.
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                matrix: NDArray[Any] = found
                return matrix
            names = found.files
            if len(names) != 1 and _NAME not in names:
                raise ConfigError(
                    f"{path}: expected one array, or one that is called {_NAME}; found: "
                    f"{', '.join(names) or 'none'}"
                )
            matrix = found[_NAME if _NAME in names else names[0]]
            return matrix
    except ConfigError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as err:
        reason = getattr(err, "strerror", None) or one_line(err)
        raise ConfigError(f"{path} is not a readable NumPy file of numbers: {reason}") from err


def _read_parquet(path: Path) -> NDArray[Any]:
    table = read_parquet(path)
    stored_by_pandas = (table.schema.pandas_metadata or {}).get("index_columns", ())
    names = [name for name in table.column_names if name not in stored_by_pandas]
    if len(names) == 1 and isinstance(table.schema.field(names[0]).type, LISTS):
        return list_column(table, names[0], path)
    if any(isinstance(table.schema.field(name).type, LISTS) for name in names) or not names:
        found = ", ".join(f"{name} ({table.schema.field(name).type})" for name in names) or "none"
        raise ConfigError(
            f"{path}: expected a single column of lists, or only columns of numbers; found: {found}"
        )
    return np.stack([number_column(table, name, path) for name in names], axis=1)


def list_column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """A column of lists of M numbers, (N, M); a number that is null becomes NaN."""
    column = table.column(name)
    if not _is_number(column.type.value_type):
        raise ConfigError(f"{path}: {name}: expected lists of numbers, found {column.type}")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if len(lengths) and lengths.min() != lengths.max():
        found = f"{lengths.min()} to {lengths.max()} numbers"
        raise ConfigError(f"{path}: {name}: expected lists of one length, found {found}")
    values: NDArray[Any] = pc.list_flatten(column).to_numpy()
    return values.reshape(len(column), lengths.max(initial=0))


def number_column(table: pa.Table, name: str, path: Path) -> NDArray[Any]:
    """A column of numbers (N,) without nulls."""
    column = table.column(name)
    if not _is_number(column.type) or column.null_count:
        is_number = _is_number(column.type)
        found = counted(column.null_count, "null") if is_number else str(column.type)
        raise ConfigError(f"{path}: {name}: expected numbers without nulls, found {found}")
    array: NDArray[Any] = column.to_numpy()
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
