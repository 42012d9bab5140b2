"""What a fitted model of neural responses reached: report files and lines of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simreg_core.errors import counted

if TYPE_CHECKING:
    from torch import Tensor

    from simreg_core.neural.model import FitRecord, FittedModel

_PREDICTED = 0.2  # a neuron with a higher correlation (or ceiling) counts as predicted


def summarize(model: FittedModel) -> dict[str, Any]:
    """Test correlations and noise ceilings over neurons; None without repeats."""
    correlation, ceiling = model.test_correlation, model.noise_ceiling
    lower, middle, upper = correlation.quantile(correlation.new_tensor([0.25, 0.5, 0.75])).tolist()
    explainable = ceiling > _PREDICTED
    return {
        "num_neurons": len(correlation),
        "lower_quartile": lower,
        "median": middle,
        "upper_quartile": upper,
        f"share_above_{_PREDICTED}": float((correlation > _PREDICTED).double().mean()),
        "median_noise_ceiling": _median(ceiling[ceiling.isfinite()]),
        "median_of_ceiling": _median(correlation[explainable] / ceiling[explainable]),
    }


def _median(values: Tensor) -> float | None:
    return float(values.quantile(0.5)) if len(values) else None


def write_reports(model: FittedModel, results: dict[str, Any], output: Path) -> list[Path]:
    """Write a table with one row per neuron, and the configuration with results and epochs.

    Both lie beside the model file ``output``; returns their paths.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from simreg_core.storage.atomic import atomic_file, write_text

    columns = {
        "neuron": pa.array(model.neurons),
        "test_correlation": model.test_correlation.numpy(),
        "noise_ceiling": model.noise_ceiling.numpy(),
        "validation_correlation": model.validation_correlation.numpy(),
        "weight": model.weights.numpy(),
    }
    neurons, report = (output.with_suffix(s) for s in (".neurons.parquet", ".fit.json"))
    with atomic_file(neurons) as stream:
        pq.write_table(pa.table(columns), stream)
    content = {
        "config": model.config.model_dump(mode="json"),
        "values": results,
        "epochs": [record._asdict() for record in model.records],
    }
    write_text(report, json.dumps(content, indent=1, allow_nan=False))
    return [neurons, report]


def result_lines(results: dict[str, Any], records: Sequence[FitRecord]) -> str:
    """The results (of :func:`summarize`) as three lines for the terminal."""
    best = max(records, key=lambda record: record.validation_correlation)
    ceiling, share = results["median_noise_ceiling"], results["median_of_ceiling"]
    if ceiling is None:
        last = "unknown, because no test image was repeated"
    else:
        reached = "-" if share is None else f"{share:.3f}"
        last = (
            f"median {ceiling:.3f}; the model reaches {reached} of it (median of neurons with a "
            f"ceiling above {_PREDICTED})"
        )
    return (
        f"test correlation of {counted(results['num_neurons'], 'neuron')}: "
        f"median {results['median']:.3f}, "
        f"quartiles {results['lower_quartile']:.3f} and {results['upper_quartile']:.3f}; "
        f"above {_PREDICTED}: {results[f'share_above_{_PREDICTED}']:.2f} of them\n"
        f"best of {counted(len(records), 'epoch')}: {best.epoch}, "
        f"validation correlation {best.validation_correlation:.3f}\n"
        f"noise ceiling: {last}"
    )
