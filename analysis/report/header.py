"""The conditions of a report: what was searched, on what, with what."""

from __future__ import annotations

import pandas as pd

from analysis.charts.wording import goals, images_text, seeds_text
from analysis.findings.study import Study
from analysis.results.parameters import DTYPES, format_value
from simreg_core.errors import counted

_VERSIONS = {
    "simreg_version": "simreg-tune",
    "commit": "commit",
    "torch_version": "torch",
    "python_version": "Python",
}


def header(study: Study) -> list[tuple[str, str]]:
    """The conditions of everything in the report, as names and texts."""
    trials = study.results.trials
    versions = [
        f"{label} {distinct(trials[name])}"
        for name, label in _VERSIONS.items()
        if trials[name].notna().any()
    ]
    starts, ends = trials["started_at"].dropna(), trials["finished_at"].dropna()
    return [
        ("Search", study.results.study),
        ("Trials", _trials(study)),
        ("Split", f"{study.split}, {images_text(trials[f'num_{study.split}'].dropna())}"),
        ("Objectives", _objectives(study)),
        ("Seeds", f"{seeds_text(study.trials['num_seeds'])} ({distinct(trials['seed'])})"),
        ("Baseline", _baseline_seeds(study)),
        *([("Audits", _audits(study))] if study.audits else []),
        ("Device", distinct(trials["device"])),
        ("Versions", ", ".join(versions) or "none recorded"),
        ("Run", f"{min(starts, default='?')} to {max(ends, default='?')}"),
    ]


def _trials(study: Study) -> str:
    counts = study.results.trials["status"].value_counts()
    running, phase = study.heartbeat.get("running"), study.heartbeat.get("phase")
    number = len(running) if isinstance(running, dict) and phase not in (None, "done") else 0
    heard = study.heartbeat.get("updated_at")
    parts = [f"{int(counts.get(name, 0))} {name}" for name in ("complete", "pruned", "failed")]
    parts.append(f"{number} running" + (f" (as of {heard})" if number and heard else ""))
    asked = study.section("tuning").get("num_trials")
    return ", ".join(parts) + (f"; {asked} asked for" if asked else "")


def _objectives(study: Study) -> str:
    names = goals(study.axes, ", ")
    if len(study.searched) == 1:
        return f"{study.metrics[study.searched[0]].label} was searched; the front is of {names}"
    return names if study.searched else f"{names} (no space file says what was searched)"


def _baseline_seeds(study: Study) -> str:
    rows = study.results.curves
    seeds = sorted(rows.loc[rows["role"] == "baseline", "seed"].dropna().astype(int).unique())
    if not seeds:
        return "none recorded"
    more = f"; {study.num_baselines} different baselines" if study.num_baselines > 1 else ""
    return f"unregularized networks of seeds {', '.join(map(str, seeds))}{more}"


def _audits(study: Study) -> str:
    """What the audits in the folder found, those of the search's own networks first."""
    texts = []
    for audit in sorted(study.audits, key=lambda a: (a.trial is None, a.trial or 0, a.file)):
        whose = "another search's network" if audit.trial is None else f"trial {audit.trial}"
        found = counted(len(audit.warnings), "sign") if audit.warnings else "no signs"
        texts.append(
            f"{audit.file} is damaged"
            if audit.problem
            else f"{whose}: {found} of masked gradients (n = {counted(audit.num_images, 'image')})"
        )
    return "; ".join(texts)


def distinct(column: pd.Series, limit: int = 3) -> str:
    """The values of a column as text; of many the first ones and how many more."""
    values = [format_value(value) for value in column.dropna().unique()]
    if len(values) > limit:
        return f"{', '.join(values[:limit])} and {len(values) - limit} more"
    return ", ".join(values) or "none recorded"


def configuration(study: Study, trial: int | None) -> list[tuple[str, str]]:
    """The searched parameters of a trial and their values; empty for None."""
    rows = study.results.trials[study.results.trials["trial"] == trial]
    if trial is None or rows.empty:
        return []
    return [(name, format_value(rows[name].iloc[0])) for name in study.parameters]


def constants(study: Study) -> list[tuple[str, str]]:
    """Parameters that all trials share, and their value."""
    trials = study.results.trials
    names = [name for name in DTYPES if name not in (*study.parameters, "seed")]
    return [
        (name, format_value(trials[name].iloc[0])) for name in names if trials[name].notna().any()
    ]
