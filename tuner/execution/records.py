"""Rows of the result tables, made where a network is trained and read by the driver as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simreg_core.results.schema import SPLITS
from simreg_core.storage.location import as_place

if TYPE_CHECKING:  # torch is for the workers
    from simreg_core.results.measurements import CurvePoint
    from simreg_core.robustness.frequency import SpectrumPoint
    from simreg_core.training.baselines import BaselineResult, Baselines
    from simreg_core.training.experiment import Progress, TrialResult
    from simreg_core.training.fit import EpochRecord

_MEANS = ("validation_loss", "similarity_correlation", "positive_share", "negative_share")
_NOT_LOGGED = ("role", "trial", "baseline_digest", "seed", "epoch")  # columns of an epoch's row


def read_record(report: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that a worker's report points to; empty if it points to none.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged.
    """
    if "record" not in report:
        return {}
    record: dict[str, Any] = json.loads(as_place(report["record"]).read_text())
    return record


def logged_values(
    record: Mapping[str, Any], epoch_metrics: Callable[[int], Mapping[str, float]]
) -> list[tuple[int, dict[str, float]]]:
    """What loggers show of a network: the number of epochs done, and values by name.

    Args:
        record: As :func:`trial_record` or :func:`epochs_record` makes it.
        epoch_metrics: Metrics of the network after so many epochs, where they were measured.

    Returns:
        An entry for every epoch, in order, and one with the final metrics of a finished network.
    """
    found = []
    for row in record["epochs"]:
        step = row["epoch"] + 1
        metrics = {f"epoch.{name}": value for name, value in epoch_metrics(step).items()}
        found.append((step, {**_numbers(row), **metrics}))
    if "columns" in record:
        columns = record["columns"].items()
        final = {name: value for name, value in columns if _is_metric(name) and value is not None}
        found.append((len(record["epochs"]), final))
    return found


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The measurements of an epoch's row; those of layers one by one."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in _NOT_LOGGED or value is None:
            continue
        if isinstance(value, list):
            found |= {f"{name}.{index}": part for index, part in enumerate(value)}
        else:
            found[name] = value
    return found


def _is_metric(column: str) -> bool:
    split, _, name = column.partition(".")
    return split in SPLITS and not name.startswith("baseline_")


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
        "curves": _labelled(_rows(identity, result.curves)),
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
    metrics = filter(_is_metric, finished[0])
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
        "curves": _labelled(_rows(identity, result.curves)),
        "spectra": _rows(identity, result.spectra),
        "epochs": _rows(identity, result.epochs),
    }


def _labelled(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from simreg_core.robustness.corruptions import label_of

    return [{**row, "label": label_of(row["attack"])} for row in curves]


def _rows(
    identity: dict[str, Any], records: Iterable[CurvePoint | SpectrumPoint | EpochRecord]
) -> list[dict[str, Any]]:
    return [{**identity, **record._asdict()} for record in records]
