"""The summary of a confirmation, as a file and a table: means over fresh seeds with intervals."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from scipy.special import stdtrit

from simreg_core.config.messages import describe_params
from simreg_core.config.trial import TrialConfig
from simreg_core.errors import counted
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import read_json_inside
from tuner.execution.progress import console_table

SUMMARY_FILE = "confirmation.json"
ACCURACIES = ("clean_accuracy", "robust_accuracy")
_METRICS = (*ACCURACIES, "accuracy_cost", "robustness_gain", "tradeoff_score")

Row = Mapping[str, Any]


class Estimate(NamedTuple):
    """A mean over seeds with the half-width of its 95 % t interval."""

    mean: float
    half_width: float | None
    """None for a single seed."""
    n: int


class Candidate(NamedTuple):
    """The confirmation of one configuration on the test split."""

    trial: int
    params: dict[str, Any]
    screened_score: float | None
    """The validation score in the search."""
    estimates: dict[str, Estimate]
    """By metric; cost, gain and score are relative to the baseline with the same seed."""
    num_failed: int
    seeds: list[int]
    """The fresh seeds, including those that failed."""


def summarize(
    number: int,
    params: dict[str, Any],
    screened: float | None,
    config: TrialConfig,
    seeds: Sequence[int],
    done: Mapping[str, Row],
) -> Candidate:
    """Summarize one configuration from the complete rows (``done``) by ``config_digest``.

    A missing row, or one that is not compared with its baseline, counts as failed.
    """
    rows = [done.get(config.model_copy(update={"seed": seed}).digest()) for seed in seeds]
    paired = [row for row in rows if row is not None and row["test.tradeoff_score"] is not None]
    num_failed = len(seeds) - len(paired)
    return Candidate(number, params, screened, estimates(paired, _METRICS), num_failed, list(seeds))


def estimates(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Estimate]:
    """An :class:`Estimate` on the test split for every named metric; empty without rows."""
    if not rows:
        return {}
    return {name: estimate([row[f"test.{name}"] for row in rows]) for name in names}


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of one or more values with its 95 % interval by Student's t."""
    n = len(values)
    if n < 2:
        return Estimate(values[0], None, n)
    error = statistics.stdev(values) / math.sqrt(n)
    return Estimate(statistics.fmean(values), float(stdtrit(n - 1, 0.975)) * error, n)


def write_summary(
    store: ResultStore,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    configs: Sequence[TrialConfig],
    done: Mapping[str, Row],
) -> None:
    """Atomically write ``confirmation.json`` next to the tables."""
    baselines: dict[str, list[Row]] = {}  # rows of each distinct baseline
    for config in configs:
        rows = [done.get(config.unregularized(seed).digest()) for seed in seeds]
        baselines[config.unregularized(0).digest()] = [row for row in rows if row is not None]

    def plain(found: Mapping[str, Estimate]) -> dict[str, Any]:
        return {name: value._asdict() for name, value in found.items()}

    content = {
        "answer": answer_of(candidates),
        "split": "test",
        "interval": "95 % Student's t over seeds",
        "seeds": list(seeds),
        "baselines": [plain(estimates(rows, ACCURACIES)) for rows in baselines.values() if rows],
        "candidates": [{**c._asdict(), "estimates": plain(c.estimates)} for c in candidates],
    }
    write_text(store.folder / SUMMARY_FILE, json.dumps(content, indent=1, allow_nan=False))


def answer_of(candidates: Sequence[Candidate]) -> str | None:
    """What was found, in one sentence, of the candidate whose score has the best lower end.

    None if nothing is complete.
    """
    found = [candidate for candidate in candidates if candidate.estimates]
    if not found:
        return None
    best = max(found, key=lambda candidate: _low(candidate.estimates["tradeoff_score"]))
    gain, cost = (best.estimates[name] for name in ("robustness_gain", "accuracy_cost"))
    verdict = "" if _low(gain) > 0 else "no gain shown: "
    seeds = f"{counted(gain.n, 'fresh seed')}, test split"
    return (
        f"{verdict}trial {best.trial} ({describe_params(best.params)}): robust accuracy "
        f"{_signed(gain)} for {_signed(cost._replace(mean=-cost.mean))} of clean accuracy ({seeds})"
    )


def _low(estimate: Estimate) -> float:
    """Lower end of the interval."""
    return -math.inf if estimate.half_width is None else estimate.mean - estimate.half_width


def _signed(estimate: Estimate) -> str:
    half = "" if estimate.half_width is None else f" ± {estimate.half_width:.3f}"
    return f"{round(estimate.mean, 3) + 0.0:+.3f}{half}"


def confirmation_table(summary: Path) -> Table:
    """The summary file as a table for the console."""
    content = read_json_inside(summary, summary.parent)
    table = console_table(
        "Confirmed on test, mean ± 95 % interval over "
        f"{counted(len(content['seeds']), 'fresh seed')}",
        ("trial", "n", "clean", "robust", "cost", "gain", "score", "screened", "what"),
    )
    for baseline in content["baselines"]:
        n = str(baseline["clean_accuracy"]["n"])
        table.add_row("baseline", n, *_cells(baseline), "-", "unregularized")
    for candidate in content["candidates"]:
        found, screened = candidate["estimates"], candidate["screened_score"]
        n = str(found["tradeoff_score"]["n"]) if found else "0"
        what = describe_params(candidate["params"])
        if candidate["num_failed"]:
            what += f" ({candidate['num_failed']} failed)"
        shown = "-" if screened is None else f"{screened:+.3f}"
        table.add_row(str(candidate["trial"]), n, *_cells(found), shown, what)
    return table


def _cells(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    cells = []
    for name in _METRICS:
        value = found.get(name)
        cell = "-" if value is None else f"{value['mean']:.3f}"
        if value is not None and value["half_width"] is not None:
            cell += f" ± {value['half_width']:.3f}"
        cells.append(cell)
    return cells
