"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT] [--front FRONT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.charts import commands
from analysis.findings.delivered import delivered_front, front_columns
from analysis.findings.fronts import pareto_info
from analysis.findings.study import ACCURACIES, read_space, searched_objectives
from analysis.pareto.chart import pareto_chart
from analysis.pareto.text import pareto_text
from analysis.results.evidence import read_confirmation
from analysis.results.load import Results, load_results
from simreg_core import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code.

    The names end in ``_raw`` with ``--front raw``, and have ``_`` for the ``:`` of a metric.
    """
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    results = load_results(options.folder)
    space = read_space(options.folder)
    x, y = _metrics(options, space, results)
    info = pareto_info(results, x, y, options.split, options.color)
    table, found, answer = info.table, None, read_confirmation(options.folder).answer
    if options.front == "model":
        metrics = [axis.metric for axis in info.axes]
        found = delivered_front(results, space, options.split, metrics)
        table = table.merge(front_columns(found, options.split), on="trial", how="left")
    commands.write_chart(
        options.out or options.folder / "figures",
        pareto_chart(info, found, answer),
        table,
        pareto_text(info, found, answer, searched_objectives(space, results)),
    )
    return 0


def _metrics(
    options: argparse.Namespace, space: Mapping[str, Any], results: Results
) -> tuple[str, str]:
    """The metrics that were asked for, else the first two objectives, else the accuracies."""
    objectives = searched_objectives(space, results)
    first, second = objectives[:2] if len(objectives) > 1 else ACCURACIES
    x = options.x or (second if options.y == first else first)
    return x, options.y or (first if x == second else second)


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.pareto", "Draw the Pareto front of a search and print it.")
    commands.add_folder(parser)
    parser.add_argument("--x", metavar="METRIC", help="metric (default: the first objective)")
    parser.add_argument("--y", metavar="METRIC", help="metric (default: the second objective)")
    commands.add_split(parser)
    commands.add_front(parser)
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    commands.add_out(parser, "FOLDER/figures")
    return parser


if __name__ == "__main__":
    cli.leave(main())
