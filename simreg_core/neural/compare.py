"""Compare the similarities that several targets give to the same image pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from simreg_core.regularizer.pairs import sample_pairs
from simreg_core.regularizer.responses import pearson
from simreg_core.regularizer.targets import Similarities
from simreg_core.seeding import generator
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import to_path

_INDICES = ("first", "second")


def compare(
    targets: Mapping[str, Similarities], num_images: int, *, num_pairs: int, seed: int
) -> dict[str, Tensor]:
    """Similarities of random pairs of N images, as the columns of a table.

    Args:
        targets: The similarities of the images, by name.
        num_images: N >= 2.
        num_pairs: k, drawn with replacement.
        seed: Seed of the pairs.

    Returns:
        The indices ``first`` and ``second``, int64 (k,), and the similarities by name, float32
        (k,) on the CPU.
    """
    first, second = sample_pairs(num_images, num_pairs, generator(seed, "compared pairs"))
    found = {name: similarities(first, second) for name, similarities in targets.items()}
    return {"first": first, "second": second, **found}


def correlations(columns: Mapping[str, Tensor]) -> dict[tuple[str, str], float | None]:
    """Pearson correlation over the pairs between every two similarities of :func:`compare`.

    None where one of the two is constant, so that their correlation is undefined.
    """
    found = {name: column[:, None] for name, column in columns.items() if name not in _INDICES}
    varies = {name: bool(pearson(column, column)) for name, column in found.items()}
    return {
        (a, b): float(pearson(found[a], found[b])) if varies[a] and varies[b] else None
        for a, b in itertools.combinations(found, 2)
    }


def write_table(columns: Mapping[str, Tensor], path: str | Path) -> None:
    """Write the columns of :func:`compare` as Parquet, atomically.

    The similarities are named ``pixel_raw_similarity`` and so on, as ``analysis`` reads them.
    """
    path = to_path(path)
    names = {name: name if name in _INDICES else f"{name}_similarity" for name in columns}
    table = pa.table({names[name]: column.numpy() for name, column in columns.items()})
    with atomic_file(path) as stream:
        pq.write_table(table, stream)
