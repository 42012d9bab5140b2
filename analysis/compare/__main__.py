"""Command line: compare the Pareto fronts of several studies.

    python -m analysis.compare RESULT RESULT ... [--x METRIC] [--y METRIC] [--split SPLIT]
        [--front FRONT]

Exit codes: 0 drawn, 1 a study has no complete trial, 2 the results or the arguments are not usable,
or the studies not comparable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts import commands
from analysis.compare.chart import comparison_chart
from analysis.compare.comparison import compare
from analysis.compare.text import comparison_text
from simreg_core import cli
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``compare_X_Y_SPLIT`` as .png, .pdf and .csv; print the table; the exit code.

    The names end in ``_raw`` with ``--front raw``.
    """
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    found = compare(options.folders, options.x, options.y, options.split, options.front)
    folder = options.out or options.folders[0] / "figures"
    commands.write_chart(folder, comparison_chart(found), found.table, comparison_text(found))
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.compare", "Compare the Pareto fronts of several studies.")
    parser.add_argument(
        "folders", nargs="+", type=as_place, metavar="RESULT", help="folder of a search"
    )
    parser.add_argument("--x", default="clean_accuracy", help="metric (default: %(default)s)")
    parser.add_argument("--y", default="robust_accuracy", help="metric (default: %(default)s)")
    commands.add_split(parser)
    commands.add_front(parser)
    commands.add_out(parser, "figures of the first RESULT")
    return parser


if __name__ == "__main__":
    cli.leave(main())
