"""Command line: compare the Pareto fronts of several studies.

    python -m analysis.compare RESULT RESULT ... [--x METRIC] [--y METRIC] [--split SPLIT]

Exit codes: 0 drawn, 1 a study has no complete trial, 2 the results or the arguments are not usable,
or the studies not comparable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.charts.files import add_axis_options, picture_files, write_files
from analysis.compare.comparison import Comparison, compare
from analysis.compare.picture import draw_comparison
from analysis.compare.text import comparison_text
from analysis.findings.fronts import NoCompleteTrialsError
from analysis.results.load import ResultsError
from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``compare_X_Y_SPLIT`` as .png, .pdf and .csv; print the table; the exit code."""
    return cli.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    try:
        comparison = compare(options.folders, options.x, options.y, options.split)
        files = render(comparison)
        paths = write_files(options.out or options.folders[0] / "figures", files)
    except NoCompleteTrialsError as err:
        print(f"analysis.compare: {err}", file=sys.stderr)
        return 1
    except ResultsError as err:
        raise ConfigError(str(err)) from err
    except OSError as err:
        raise ConfigError(f"--out: cannot be written: {cli.os_reason(err)}") from err
    print(comparison_text(comparison))
    for path in paths:
        print(f"wrote {path}")
    return 0


def render(comparison: Comparison) -> dict[str, bytes]:
    """The picture (twice) and the points by file name; equal bytes for equal results."""
    figure = draw_comparison(comparison)
    x, y = comparison.axes
    stem = f"compare_{x.metric.name}_{y.metric.name}_{x.split}"
    csv = comparison.table.to_csv(index=False, lineterminator="\n").encode()
    return {**picture_files(stem, figure), f"{stem}.csv": csv}


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.compare", "Compare the Pareto fronts of several studies.")
    parser.add_argument(
        "folders",
        nargs="+",
        type=as_place,
        metavar="RESULT",
        help="folder of a search",
    )
    add_axis_options(parser)
    parser.add_argument(
        "--out", type=as_place, help="folder to write to (default: figures of the first RESULT)"
    )
    return parser


if __name__ == "__main__":
    cli.leave(main())
