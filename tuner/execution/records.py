"""Rows of the result tables: built in the workers, passed to the search as JSON files."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simreg_core.results.schema import SPLITS
from simreg_core.results.tables import ResultStore
from simreg_core.storage.location import as_place

if TYPE_CHECKING:  # the search does not load torch
    from simreg_core.training.baselines import BaselineResult
    from simreg_core.training.experiment import Progress, TrialResult

NETWORK_TABLES = ("curves", "spectra", "epochs")  # several rows per network
_MEANS = ("validation_loss", "similarity_correlation", "positive_share", "negative_share")
_NOT_LOGGED = ("role", "trial", "baseline_digest", "seed", "epoch")  # columns of an epoch's row


def read_record(report: Mapping[str, Any]) -> dict[str, Any]:
    """The rows in the file that a worker's report names; empty if it names none."""
    if "record" not in report:
        return {}
    record: dict[str, Any] = json.loads(as_place(report["record"]).read_text())
    return record


def logged_values(
    record: Mapping[str, Any], epoch_metrics: Callable[[int], Mapping[str, float]]
) -> list[tuple[int, dict[str, float]]]:
    """The values of a network that loggers show, from its (possibly unfinished) record.

    ``epoch_metrics`` gives what was measured after a number of epochs; empty for nothing.

    Returns:
        Pairs of the number of epochs and values by name: one per epoch, in order, and one with the
        final metrics if the network is finished.
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
    """The measurements in an epoch's row, with one entry per layer."""
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
    """The rows of a trial: its ``columns``, curves, spectra, epochs and baselines."""
    identity = _identity("trial", number, result.baselines.digest, result.config.seed)
    return {
        "columns": result.columns,
        **_network_rows(identity, result),
        "baselines": [result_record(r, result.baselines.digest) for r in result.baselines.results],
    }


def epochs_record(progress: Progress, number: int) -> dict[str, Any]:
    """The rows of a network in training: its epochs."""
    identity = _identity("trial", number, None, progress.config.seed)
    return {"epochs": [{**identity, **epoch._asdict()} for epoch in progress.records]}


def joined_record(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of all networks of a trial in one record; ``seeds`` holds their ``columns``.

    Finished networks have a :func:`trial_record`, unfinished ones an :func:`epochs_record` or an
    empty record.
    """
    baselines = {part["part"]: part for record in records for part in record.get("baselines", ())}
    return {
        **{
            table: [row for record in records for row in record.get(table, ())]
            for table in NETWORK_TABLES
        },
        "seeds": [record["columns"] for record in records if "columns" in record],
        "baselines": [*baselines.values()],
    }


def mean_record(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of a trial of several finished networks, from their :func:`trial_record`.

    Metrics are means, the ratio is that of mean cost and mean gain, durations are sums, and the
    times span all networks. There is no kept epoch. Other columns are those of the first network.
    """
    joined = joined_record(records)
    finished = joined["seeds"]
    columns = dict(finished[0])
    metrics = filter(_is_metric, finished[0])
    for name in (*metrics, *_MEANS):
        values = [row.get(name) for row in finished]  # None where it is not measured
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


def result_record(result: BaselineResult, digest: str) -> dict[str, Any]:
    """The rows of a baseline or the surrogate, and ``part``, the name of its part files."""
    identity = _identity(result.role, None, digest, result.seed)
    return {"part": f"{result.role}-{digest}-{result.seed}", **_network_rows(identity, result)}


def _identity(role: str, trial: int | None, digest: str | None, seed: int | None) -> dict[str, Any]:
    return {"role": role, "trial": trial, "baseline_digest": digest, "seed": seed}


def _network_rows(
    identity: Mapping[str, Any], result: TrialResult | BaselineResult
) -> dict[str, list[dict[str, Any]]]:
    from simreg_core.registry import ATTACKS

    rows = {
        table: [{**identity, **point._asdict()} for point in getattr(result, table)]
        for table in NETWORK_TABLES
    }
    for row in rows["curves"]:
        row["label"] = ATTACKS.get(row["attack"]).title
    return rows


def write_rows(store: ResultStore, row: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Write what a trial's record holds, and last its row in the trials table.

    A trial in that table therefore has all its rows.
    """
    number = row["trial"]
    write_baselines(store, record.get("baselines", []))
    for table in NETWORK_TABLES:
        if table in record:
            store.write_trial(table, number, record[table])
    if networks := record.get("seeds"):
        complete = {"study": row["study"], "trial": number, "status": "complete", "num_seeds": 1}
        rows = [{**columns, **complete} for columns in networks]
        store.write_trial("seeds", number, rows)
    store.write_trial("trials", number, [row])


def write_baselines(store: ResultStore, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of baseline networks that are not in the tables yet."""
    for record in records:
        for table in NETWORK_TABLES:
            if not store.has(table, record["part"]):
                store.write(table, record["part"], record[table])
