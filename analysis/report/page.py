"""A search's report as one self-contained page: everything that it shows, put into a template."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from analysis.charts.chart import Figure, Missing
from analysis.charts.fronts import attainment_chart, front_chart, probability_chart
from analysis.charts.hypervolume import hypervolume_chart
from analysis.charts.modelled_front import model_chart, study_model
from analysis.charts.plotly_backend import plotly_figure
from analysis.charts.search import importance_chart, landscape_chart, parallel_chart
from analysis.charts.training import curves_chart, gamma_chart, learning_chart, load_epochs
from analysis.charts.wording import one_line
from analysis.findings.comparable import check_comparable, conditions
from analysis.findings.modelled_front import NoiseAwareFront
from analysis.findings.study import Study, load_study, numbers, warm_starts
from analysis.report.answer import TextTable, answer, confirmed_table, cost, failures, header
from analysis.report.caveats import warnings_of
from analysis.results.load import ResultsError
from analysis.results.parameters import format_value
from simreg_core.results.schema import METRICS, PARAMETERS

MAX_FRONT_ROWS = 50
TEMPLATE = "report.html.jinja"


class Report(NamedTuple):
    """Everything of a report that is drawn."""

    study: Study
    model: NoiseAwareFront | None
    """None if there is none; a figure says why."""
    figures: tuple[Figure, ...]


def report_html(folder: Path, split: str) -> str:
    """The report of a search, which may still be running, as one HTML page without outside parts.

    Args:
        folder: ``OUTPUT/NAME``.
        split: ``validation`` or ``test``.

    Raises:
        ResultsError: it is no search's folder, a table in it is unusable, or the split is unknown.
    """
    return render_page(build_report(folder, split))


def build_report(folder: Path, split: str, reference: Path | None = None) -> Report:
    """Read a search and compute its figures.

    Args:
        folder: ``OUTPUT/NAME``.
        split: ``validation`` or ``test``.
        reference: Folder of another search (by random sampling, say) to compare hypervolumes with.

    Raises:
        ResultsError: as of :func:`report_html`, or the reference has other objectives, no usable
            trial, or figures of another task or evaluation.
    """
    study = load_study(folder, split)
    other = None if reference is None else load_study(reference, split)
    if other is not None:
        _check_reference(study, other)
    epochs = load_epochs(study)
    model = study_model(study)
    figures = (
        front_chart(study),
        model_chart(study, model),
        probability_chart(study),
        attainment_chart(study),
        hypervolume_chart(study, other),
        curves_chart(study),
        landscape_chart(study),
        parallel_chart(study),
        importance_chart(study),
        gamma_chart(study, epochs),
        learning_chart(study, epochs),
    )
    return Report(study, None if isinstance(model, Missing) else model, figures)


def _check_reference(study: Study, other: Study) -> None:
    if other.objectives != study.objectives:
        raise ResultsError(
            f"{other.folder}: objectives {', '.join(other.objectives)}; allowed as a reference: "
            f"those of {study.folder}, {', '.join(study.objectives)}"
        )
    if not len(other.trials):
        raise ResultsError(f"{other.folder}: as a reference it needs a usable trial, and has none")
    if len(study.trials):
        check_comparable(
            [study.folder, other.folder],
            [conditions(own.trials, study.objectives) for own in (study, other)],
        )


def render_page(report: Report) -> str:
    """The page; equal for equal results."""
    from plotly.offline import get_plotlyjs  # slow to import

    study = report.study
    found = answer(study, report.model)
    charts = {f.name: plotly_figure(f) for f in report.figures if not isinstance(f, Missing)}
    return _template().render(
        title=study.results.study,
        header=header(study),
        answer=found,
        recommended=_configuration(study, found.recommended),
        warnings=warnings_of(study),
        confirmed=confirmed_table(study),
        figures=[_entry(figure) for figure in report.figures],
        front=_front_table(study),
        failures=failures(study),
        cost=cost(study),
        constants=_constants(study),
        data={"table": trial_table(study, report.model), "figures": charts},
        plotlyjs=get_plotlyjs(),
    )


@cache
def _template() -> Template:
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)


def _entry(figure: Figure) -> dict[str, Any]:
    if isinstance(figure, Missing):
        return {"name": figure.name, "title": figure.title, "reason": figure.reason}
    height = plotly_figure(figure)["layout"]["height"]
    return {"name": figure.name, "title": figure.title, "caption": figure.caption, "height": height}


def _metrics(study: Study) -> list[str]:
    """Metrics of the split that any trial has, those of the front first."""
    rows = study.results.trials
    known = [name for name in METRICS if rows[f"{study.split}.{name}"].notna().any()]
    return [*study.objectives, *(name for name in known if name not in study.objectives)]


def trial_table(study: Study, model: NoiseAwareFront | None) -> dict[str, Any]:
    """All trials that ended, by column, as JSON types.

    Args:
        study: The search.
        model: Its noise-aware front; None leaves its column out.

    Returns:
        ``columns`` (``key``, ``label``, ``group`` and which values are the ``best``, ``low`` or
        ``high``) and ``rows``, lists by ``key``; null where a
        trial has no value.
    """
    trials = study.results.trials
    place = {int(trial): row for row, trial in enumerate(study.trials["trial"])}
    rows = [place.get(int(trial)) for trial in trials["trial"]]
    columns: list[tuple[str, str, str, list[Any]]] = [
        ("trial", "trial", "identity", [int(t) for t in trials["trial"]]),
        ("status", "status", "identity", [str(s) for s in trials["status"]]),
        (
            "front",
            "front",
            "identity",
            ["" if r is None else "front" if study.on_front[r] else "" for r in rows],
        ),
        (
            "probability",
            "P(front)",
            "metric",
            [None if r is None else round(float(study.probability[r]), 4) for r in rows],
        ),
    ]
    if model is not None and model.is_trustworthy:
        modelled = dict(zip(model.trials.tolist(), model.probability.tolist(), strict=True))
        cells = [modelled.get(int(trial)) for trial in trials["trial"]]
        columns.append(("model_probability", "P(front), model", "metric", cells))
    given = {int(study.trials["trial"].iloc[row]) for row in warm_starts(study)}
    if given:
        cells = ["warm start" if int(trial) in given else "" for trial in trials["trial"]]
        columns.append(("origin", "origin", "identity", cells))
    if not trials["feasible"].fillna(True).all():
        columns.append(("feasible", "feasible", "identity", _cells(trials["feasible"])))
    columns += [
        (name, _short(name), "parameter", _cells(trials[name])) for name in study.parameters
    ]
    columns += [
        (name, METRICS[name].label, "metric", _cells(trials[f"{study.split}.{name}"]))
        for name in _metrics(study)
    ]
    for name, label in (
        ("train_seconds", "training, s"),
        ("evaluate_seconds", "evaluation, s"),
        ("seed", "seed"),
        ("num_seeds", "seeds"),
    ):
        if trials[name].notna().any():
            columns.append((name, label, "run", _cells(trials[name])))
    if trials["reason"].notna().any():
        reasons = ["" if pd.isna(r) else one_line(r, 200) for r in trials["reason"]]
        columns.append(("reason", "reason", "run", reasons))
    # Cost per gain, which no search aims at, as little gain makes it noise.
    low = {"tradeoff_ratio", *(m.name for m in METRICS.values() if m.direction == "minimize")}
    return {
        "columns": [
            {"key": key, "label": label, "group": group, "best": "low" if key in low else "high"}
            for key, label, group, _ in columns
        ],
        "rows": {key: values for key, _, _, values in columns},
        "split": study.split,
    }


def _short(parameter: str) -> str:
    """A parameter's name as a heading: without its most common first part."""
    return parameter.removeprefix("regularizer.")


def _cells(column: pd.Series) -> list[Any]:
    return [_cell(value) for value in column.astype(object)]


def _cell(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _front_table(study: Study) -> TextTable | None:
    """The front in the page itself, for print and for readers without scripts."""
    front = study.front
    if not len(front):
        return None
    usual = ("clean_accuracy", "robust_accuracy", "tradeoff_score")
    known = _metrics(study)
    metrics = [*study.objectives]
    metrics += [name for name in usual if name in known and name not in metrics]
    head = (
        "trial",
        *map(_short, study.parameters),
        *(METRICS[name].label for name in metrics),
        "P(front)",
    )
    given, rows = set(warm_starts(study)), []
    for row in front[:MAX_FRONT_ROWS]:
        trial = study.trials.iloc[row]
        mark = " (warm start)" if row in given else ""
        cells = [f"{trial['trial']}{mark}", *(format_value(trial[p]) for p in study.parameters)]
        for name in metrics:
            value = float(numbers(study.trials, f"{study.split}.{name}")[row])
            error = (
                study.errors[row, study.objectives.index(name)]
                if name in study.objectives
                else math.nan
            )
            cells.append(f"{value:.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}"))
        rows.append((*cells, f"{study.probability[row]:.2f}"))
    left = len(front) - len(rows)
    caption = (
        f"The front by score, best first (± standard error: over seeds, of a single network "
        f"binomial). {study.split.capitalize()} split."
        + (f" {left} more trials are in the table of all trials." if left else "")
    )
    return TextTable(caption, head, tuple(rows))


def _configuration(study: Study, trial: int | None) -> list[tuple[str, str]]:
    """Searched parameters of a trial and their values; nothing for None."""
    rows = study.results.trials[study.results.trials["trial"] == trial]
    if trial is None or rows.empty:
        return []
    return [(name, format_value(rows[name].iloc[0])) for name in study.parameters]


def _constants(study: Study) -> list[tuple[str, str]]:
    """Parameters that all trials share, and their value."""
    trials = study.results.trials
    if trials.empty:
        return []
    names = [c.name for c in PARAMETERS if c.name not in (*study.parameters, "seed")]
    return [
        (name, format_value(trials[name].iloc[0])) for name in names if trials[name].notna().any()
    ]
