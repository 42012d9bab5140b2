"""What confirmation found: means over fresh seeds with their intervals, as file and table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from scipy import stats

from simreg_core.config.trial import TrialConfig
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text

SUMMARY_FILE = "confirmation.json"
_METRICS = (
    "clean_accuracy",
    "robust_accuracy",
    "accuracy_cost",
    "robustness_gain",
    "tradeoff_score",
)


class Estimate(NamedTuple):
    """A mean over seeds with the half-width of its 95 % t interval."""

    mean: float
    half_width: float | None
    """None where n < 2."""
    n: int


class Candidate(NamedTuple):
    """What confirmation found of one configuration, on the test split."""

    trial: int
    params: dict[str, Any]
    screened_score: float | None
    """The validation score that it was chosen for."""
    estimates: dict[str, Estimate]
    """Per quantity; cost, gain and score are paired with the baseline of the same seed."""
    num_failed: int
    seeds: list[int]
    """The fresh seeds that it was to be trained with."""


def summarize(
    number: int,
    params: dict[str, Any],
    screened: float | None,
    config: TrialConfig,
    seeds: Sequence[int],
    done: dict[str, dict[str, Any]],
) -> Candidate:
    """What confirmation found of one configuration.

    Args:
        number: Of the trial.
        params: Its searched values.
        screened: The validation score that it was chosen for.
        config: Its configuration; the seed does not matter.
        seeds: The fresh seeds.
        done: Complete rows of the confirmation table by ``config_digest``, paired with their
            baselines; a missing or unpaired one counts as failed.
    """
    rows = [done.get(config.model_copy(update={"seed": seed}).digest()) for seed in seeds]
    paired = [row for row in rows if row is not None and row["test.tradeoff_score"] is not None]
    estimates = _estimates(paired, _METRICS)
    return Candidate(number, params, screened, estimates, len(seeds) - len(paired), list(seeds))


def _estimates(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Estimate]:
    if not rows:
        return {}
    return {name: estimate([row[f"test.{name}"] for row in rows]) for name in names}


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of one or more values with its 95 % interval by Student's t."""
    n = len(values)
    if n < 2:
        return Estimate(values[0], None, n)
    error = statistics.stdev(values) / math.sqrt(n)
    return Estimate(statistics.fmean(values), float(stats.t.ppf(0.975, n - 1)) * error, n)


def _baseline_estimates(
    configs: Sequence[TrialConfig], seeds: Sequence[int], done: dict[str, dict[str, Any]]
) -> list[dict[str, Estimate]]:
    """Clean and robust accuracy of each distinct baseline."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        rows = [done.get(config.unregularized(seed).digest()) for seed in seeds]
        groups[config.unregularized(0).digest()] = [row for row in rows if row is not None]
    accuracies = ("clean_accuracy", "robust_accuracy")
    return [_estimates(rows, accuracies) for rows in groups.values() if rows]


def write_summary(
    store: ResultStore,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    configs: Sequence[TrialConfig],
    done: dict[str, dict[str, Any]],
) -> None:
    """Write ``confirmation.json`` beside the tables, whole or not at all."""

    def plain(estimates: dict[str, Estimate]) -> dict[str, Any]:
        return {name: value._asdict() for name, value in estimates.items()}

    content = {
        "split": "test",
        "interval": "95 % Student's t over seeds",
        "seeds": list(seeds),
        "baselines": [plain(b) for b in _baseline_estimates(configs, seeds, done)],
        "candidates": [{**c._asdict(), "estimates": plain(c.estimates)} for c in candidates],
    }
    write_text(store.folder / SUMMARY_FILE, json.dumps(content, indent=1, allow_nan=False))


def confirmation_table(summary: Path) -> Table:
    """The written summary as a table for the console."""
    from tuner.space.search_space import describe_params  # loads Optuna, which an export does not

    content = json.loads(summary.read_text(encoding="utf-8"))
    table = Table(
        title=f"Confirmed on test, mean ± 95 % interval over {len(content['seeds'])} fresh seeds",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("trial", "n", "clean", "robust", "cost", "gain", "score", "screened", "what"):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)

    def cell(estimates: dict[str, Any], name: str) -> str:
        value = estimates.get(name)
        if value is None:
            return "-"
        if value["half_width"] is None:
            return f"{value['mean']:.3f}"
        return f"{value['mean']:.3f} ± {value['half_width']:.3f}"

    for baseline in content["baselines"]:
        n = str(baseline["clean_accuracy"]["n"])
        cells = [cell(baseline, name) for name in _METRICS]
        table.add_row("baseline", n, *cells, "-", "unregularized")
    for candidate in content["candidates"]:
        estimates = candidate["estimates"]
        n = str(estimates["tradeoff_score"]["n"]) if estimates else "0"
        cells = [cell(estimates, name) for name in _METRICS]
        screened = candidate["screened_score"]
        what = describe_params(candidate["params"])
        if candidate["num_failed"]:
            what += f" ({candidate['num_failed']} failed)"
        shown = "-" if screened is None else f"{screened:+.3f}"
        table.add_row(str(candidate["trial"]), n, *cells, shown, what)
    return table
