"""The report of a search as one self-contained page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from analysis.charts.chart import Figure, Missing
from analysis.charts.fronts import front_chart
from analysis.charts.hypervolume import hypervolume_chart
from analysis.charts.plotly_backend import plotly_figure
from analysis.charts.search import importance_chart, landscape_chart, parallel_chart
from analysis.charts.training import curves_chart, gamma_chart, learning_chart, load_epochs
from analysis.charts.uncertainty import attainment_chart, probability_chart
from analysis.findings.comparable import check_comparable, conditions
from analysis.findings.study import Study, load_study
from analysis.report.answer import answer
from analysis.report.caveats import warnings_of
from analysis.report.header import configuration, constants, header
from analysis.report.tables import confirmed_table, cost, failures, front_table
from analysis.report.trials import trial_table
from analysis.results.load import ResultsError
from simreg_core.storage.location import to_path

TEMPLATE = "report.html.jinja"


class Report(NamedTuple):
    """A search with its figures."""

    study: Study
    figures: tuple[Figure, ...]


def report_html(folder: str | Path, split: str) -> str:
    """The report of a search, which may still be running, as one HTML page that fetches nothing.

    Raises:
        ConfigError: it is no search's folder, a file in it is unusable, or the split is unknown.
    """
    folder = to_path(folder)
    return render_page(build_report(folder, split))


def build_report(folder: str | Path, split: str, reference: str | Path | None = None) -> Report:
    """Read a search and compute its figures.

    Its hypervolume is compared with that of another search (by random sampling, say) in the folder
    ``reference``.

    Raises:
        ConfigError: see :func:`report_html`; or the reference has other objectives, no usable
            trial, or another task or evaluation.
    """
    folder = to_path(folder)
    reference = None if reference is None else to_path(reference)
    study = load_study(folder, split)
    other = None if reference is None else load_study(reference, split)
    if other is not None:
        _check_reference(study, other)
    epochs = load_epochs(study)
    figures = (
        front_chart(study),
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
    return Report(study, figures)


def _check_reference(study: Study, other: Study) -> None:
    if other.objectives != study.objectives:
        raise ResultsError(
            f"{other.folder}: objectives {', '.join(other.objectives)}; allowed for --reference: "
            f"those of {study.folder}, {', '.join(study.objectives)}"
        )
    if not len(other.trials):
        raise ResultsError(f"{other.folder}: no usable trial; --reference needs one")
    if len(study.trials):
        check_comparable(
            [study.folder, other.folder],
            [conditions(own.trials, study.objectives) for own in (study, other)],
        )


def render_page(report: Report) -> str:
    """The page; equal for equal results."""
    from plotly.offline import get_plotlyjs  # slow to import

    study = report.study
    found = answer(study)
    charts = {f.name: plotly_figure(f) for f in report.figures if not isinstance(f, Missing)}
    return _template().render(
        title=study.results.study,
        header=header(study),
        answer=found,
        recommended=configuration(study, found.recommended),
        warnings=warnings_of(study),
        confirmed=confirmed_table(study),
        figures=report.figures,
        front=front_table(study),
        failures=failures(study),
        cost=cost(study),
        constants=constants(study),
        charts=charts,
        data={"table": trial_table(study), "figures": charts},
        plotlyjs=get_plotlyjs(),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)
