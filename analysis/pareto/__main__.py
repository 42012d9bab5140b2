"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT] [--front FRONT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts import commands
from analysis.findings.fronts import pareto_info
from analysis.findings.modelled_front import noise_aware_front
from analysis.pareto.chart import pareto_chart
from analysis.pareto.text import pareto_text
from analysis.results.load import load_results
from simreg_core import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code.

    The names end in ``_model`` or ``_both`` if the modelled front is shown.
    """
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    results = load_results(options.folder)
    info = pareto_info(results, options.x, options.y, options.split, options.color)
    table, model = info.table, None
    if options.front != "raw":
        model = noise_aware_front(results, options.split, (options.x, options.y))
        added = model.table()
        new = [name for name in added if name == "trial" or name not in table]
        table = table.merge(added[new], on="trial", how="left")
    commands.write_chart(
        options.out or options.folder / "figures",
        pareto_chart(info, model, options.front),
        table,
        pareto_text(info, model, with_raw=options.front != "model"),
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.pareto", "Draw the Pareto front of a search and print it.")
    commands.add_folder(parser)
    commands.add_axes(parser)
    parser.add_argument(
        "--front",
        choices=("raw", "model", "both"),
        default="raw",
        help="the front of the recorded values, of a model of each metric over the searched "
        "parameters, or both (default: %(default)s)",
    )
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    commands.add_out(parser, "FOLDER/figures")
    return parser


if __name__ == "__main__":
    cli.leave(main())
