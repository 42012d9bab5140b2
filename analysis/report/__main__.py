"""Command line: the report of a search as one page, and its figures as pictures.

    python -m analysis.report OUTPUT/NAME [--split SPLIT] [--reference OUTPUT/NAME2] [--out DIR]

Exit codes: 0 written, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts import commands
from analysis.charts.chart import Missing
from analysis.report.answer import answer
from analysis.report.caveats import warnings_of
from analysis.report.page import build_report, render_page
from simreg_core import cli
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``report.html`` and ``figures/*.png`` and ``.pdf``. Returns the exit code."""
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    report = build_report(options.folder, options.split, options.reference)
    folder = options.out or options.folder / "report"
    commands.write_files(folder, {"report.html": render_page(report).encode()})
    if options.figures:
        from analysis.charts.matplotlib_backend import render_pictures  # slow to import

        commands.write_files(folder / "figures", render_pictures(report.figures))
    found = answer(report.study)
    print("\n".join([f"{found.verdict}.", *found.sentences]))
    for warning in warnings_of(report.study):
        print(f"WARNING: {warning}")
    for figure in report.figures:
        if isinstance(figure, Missing):
            print(f"not drawn: {figure.title}: {figure.reason}")
    for command in found.commands:
        print(f"{command.why}:\n    {command.command}")
    print(f"wrote {folder / 'report.html'}")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.report", "Write the report of a search as one page.")
    commands.add_folder(parser)
    commands.add_split(parser)
    parser.add_argument(
        "--reference",
        type=as_place,
        metavar="OUTPUT/NAME2",
        help="another search, such as one by random sampling, to compare the hypervolume with",
    )
    parser.add_argument(
        "--figures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also write the figures as PNG and PDF",
    )
    commands.add_out(parser, "FOLDER/report")
    return parser


if __name__ == "__main__":
    cli.leave(main())
