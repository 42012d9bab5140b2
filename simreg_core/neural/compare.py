"""Compare similarities of the same image pairs: pixels, predicted neurons and Gabor units."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from simreg_core.neural.model import FittedModel
from simreg_core.regularizer.gabor import GaborPopulation
from simreg_core.regularizer.pairs import sample_pairs
from simreg_core.regularizer.responses import ResponseSimilarity, pearson
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.seeding import generator
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import to_path

_INDICES = ("first", "second")


def compare(
    model: FittedModel, images: Tensor, *, num_pairs: int, seed: int, recorded: Tensor | None = None
) -> dict[str, Tensor]:
    """Similarities of random pairs of images, as the columns of a table.

    Args:
        model: Model whose denoised responses are compared.
        images: uint8 (N, C, H, W), N >= 2.
        num_pairs: k, drawn with replacement.
        seed: Seed of the pairs.
        recorded: Recorded responses (N, M).

    Returns:
        The indices ``first`` and ``second``, int64 (k,), and the similarities ``pixel``,
        ``neural``, ``v1_gabor`` and, with recorded responses, ``recorded``, float32 (k,).
    """
    first, second = sample_pairs(len(images), num_pairs, generator(seed, "compared pairs"))
    responses = {"neural": model.denoise(images), "v1_gabor": GaborPopulation().responses(images)}
    if recorded is not None:
        responses["recorded"] = recorded
    columns = {"first": first, "second": second, "pixel": PixelSimilarity(images)(first, second)}
    for name, response in responses.items():
        columns[name] = ResponseSimilarity(response)(first, second)
    return columns


def correlations(columns: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    """Pearson correlation over the pairs between every two similarities of :func:`compare`."""
    names = [name for name in columns if name not in _INDICES]
    return {
        (a, b): float(pearson(columns[a][:, None], columns[b][:, None]))
        for a, b in itertools.combinations(names, 2)
    }


def write_table(columns: Mapping[str, Tensor], path: str | Path) -> None:
    """Write the columns of :func:`compare` as Parquet, atomically.

    The similarities are named ``pixel_similarity`` and so on, as ``analysis`` reads them.
    """
    path = to_path(path)
    names = {name: name if name in _INDICES else f"{name}_similarity" for name in columns}
    table = pa.table({names[name]: column.numpy() for name, column in columns.items()})
    with atomic_file(path) as stream:
        pq.write_table(table, stream)
