"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT] [--front FRONT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts import commands
from analysis.findings.delivered import delivered_front, front_columns
from analysis.findings.fronts import pareto_info
from analysis.findings.study import read_space
from analysis.pareto.chart import pareto_chart
from analysis.pareto.text import pareto_text
from analysis.results.evidence import read_confirmation
from analysis.results.load import load_results
from simreg_core import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code.

    The names end in ``_raw`` with ``--front raw``.
    """
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    results = load_results(options.folder)
    info = pareto_info(results, options.x, options.y, options.split, options.color)
    table, found, answer = info.table, None, read_confirmation(options.folder).answer
    if options.front == "model":
        space = read_space(options.folder)
        metrics = [axis.metric for axis in info.axes]
        found = delivered_front(results, space, options.split, metrics)
        table = table.merge(front_columns(found, options.split), on="trial", how="left")
    commands.write_chart(
        options.out or options.folder / "figures",
        pareto_chart(info, found, answer),
        table,
        pareto_text(info, found, answer),
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.pareto", "Draw the Pareto front of a search and print it.")
    commands.add_folder(parser)
    commands.add_axes(parser)
    commands.add_front(parser)
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    commands.add_out(parser, "FOLDER/figures")
    return parser


if __name__ == "__main__":
    cli.leave(main())
