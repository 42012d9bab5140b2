"""Command line: compare the Pareto fronts of several studies.

    python -m analysis.compare RESULT RESULT ... [--x METRIC] [--y METRIC] [--split SPLIT]

Exit codes: 0 drawn, 1 a study has no complete trial, 2 the results or the arguments are not usable,
or the studies not comparable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts.commands import add_axes, run, write_files
from analysis.charts.matplotlib_backend import render_pictures
from analysis.compare.chart import comparison_chart
from analysis.compare.comparison import Comparison, compare
from analysis.compare.text import comparison_text
from simreg_core import cli
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``compare_X_Y_SPLIT`` as .png, .pdf and .csv; print the table; the exit code."""
    return run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    comparison = compare(options.folders, options.x, options.y, options.split)
    paths = write_files(options.out or options.folders[0] / "figures", render(comparison))
    print(comparison_text(comparison))
    for path in paths:
        print(f"wrote {path}")
    return 0


def render(comparison: Comparison) -> dict[str, bytes]:
    """The picture (twice) and the points by file name; equal bytes for equal results."""
    chart = comparison_chart(comparison)
    csv = comparison.table.to_csv(index=False, lineterminator="\n").encode()
    return {**render_pictures([chart]), f"{chart.name}.csv": csv}


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.compare", "Compare the Pareto fronts of several studies.")
    parser.add_argument(
        "folders", nargs="+", type=as_place, metavar="RESULT", help="folder of a search"
    )
    add_axes(parser)
    parser.add_argument(
        "--out", type=as_place, help="folder to write to (default: figures of the first RESULT)"
    )
    return parser


if __name__ == "__main__":
    cli.leave(main())
