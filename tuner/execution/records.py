"""Rows of the result tables, made where a network was trained and sent to the driver as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simreg_core.results.schema import SPLITS

if TYPE_CHECKING:  # torch is for the workers
    from simreg_core.results.measurements import CurvePoint
    from simreg_core.robustness.frequency import SpectrumPoint
    from simreg_core.training.baselines import BaselineResult, Baselines
    from simreg_core.training.experiment import Progress, TrialResult
    from simreg_core.training.fit import EpochRecord

_MEANS = ("validation_loss", "similarity_correlation", "positive_share", "negative_share")


_METRIC_PREFIXES = tuple(f"{split}." for split in SPLITS)


def trial_record(result: TrialResult, number: int) -> dict[str, Any]:
    """All rows of one trial: ``columns`` (its row), curves, spectra, epochs and baselines."""
    identity = {
        "role": "trial",
        "trial": number,
        "baseline_digest": result.baselines.digest,
        "seed": result.config.seed,
    }
    return {
        "columns": result.columns,
        "curves": _rows(identity, result.curves),
        "spectra": _rows(identity, result.spectra),
        "epochs": _rows(identity, result.epochs),
        "baselines": baseline_record(result.baselines),
    }


def epochs_record(progress: Progress, number: int) -> dict[str, Any]:
    """The rows of a network that is still being trained: its epochs."""
    identity = {"role": "trial", "trial": number, "baseline_digest": None}
    return {"epochs": _rows({**identity, "seed": progress.config.seed}, progress.records)}


def joined_record(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the networks of one trial have, in one record without ``columns``.

    ``seeds`` holds the columns of each network that was finished.

    Args:
        records: As :func:`trial_record` or, of unfinished networks, :func:`epochs_record` makes
            them; empty where there is nothing.
    """
    baselines = {part["part"]: part for record in records for part in record.get("baselines", ())}
    return {
        **{
            table: [row for record in records for row in record.get(table, ())]
            for table in ("curves", "spectra", "epochs")
        },
        "seeds": [record["columns"] for record in records if "columns" in record],
        "baselines": [*baselines.values()],
    }


def mean_record(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One trial of several finished networks: their rows together, and in its own row their mean.

    Metrics and training figures are means, the ratio is that of the mean cost and gain, seconds
    are sums, times the first start and the last end; no epoch is kept; the rest is as the first
    network has it.

    Args:
        records: As :func:`trial_record` makes them, of networks that differ in their seed.
    """
    joined = joined_record(records)
    finished = joined["seeds"]
    columns = dict(finished[0])
    metrics = [n for n in columns if n.startswith(_METRIC_PREFIXES) and ".baseline_" not in n]
    for name in (*metrics, *_MEANS):
        values = [row.get(name) for row in finished]  # what is not measured has no entry
        columns[name] = None if None in values else statistics.fmean(values)
    for split in SPLITS:
        cost, gain = (columns[f"{split}.{name}"] for name in ("accuracy_cost", "robustness_gain"))
        columns[f"{split}.tradeoff_ratio"] = cost / gain if cost > 0 and gain > 0 else None
    for name in ("train_seconds", "evaluate_seconds"):
        columns[name] = math.fsum(row[name] for row in finished)
    columns["kept_epoch"] = None
    columns["started_at"] = min(row["started_at"] for row in finished)
    columns["finished_at"] = max(row["finished_at"] for row in finished)
    return {**joined, "columns": columns}


def baseline_record(baselines: Baselines) -> list[dict[str, Any]]:
    """The baselines and the surrogate, as :func:`result_record` has them."""
    return [result_record(result, baselines.digest) for result in baselines.results]


def result_record(result: BaselineResult, digest: str) -> dict[str, Any]:
    """A baseline or the surrogate: the name of its part files, its curves, spectra and epochs."""
    identity = {
        "role": result.role,
        "trial": None,
        "baseline_digest": digest,
        "seed": result.seed,
    }
    return {
        "part": f"{result.role}-{digest}-{result.seed}",
        "curves": _rows(identity, result.curves),
        "spectra": _rows(identity, result.spectra),
        "epochs": _rows(identity, result.epochs),
    }


def _rows(
    identity: dict[str, Any], records: Iterable[CurvePoint | SpectrumPoint | EpochRecord]
) -> list[dict[str, Any]]:
    return [{**identity, **record._asdict()} for record in records]
