"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT] [--front FRONT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.charts.commands import add_axes, run, write_files
from analysis.charts.matplotlib_backend import render_pictures
from analysis.findings.fronts import ParetoInfo, pareto_info
from analysis.findings.modelled_front import NoiseAwareFront, noise_aware_front
from analysis.pareto.chart import Which, pareto_chart
from analysis.pareto.text import pareto_text
from analysis.results.load import load_results
from simreg_core import cli
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code.

    The names end in ``_model`` or ``_both`` where the modelled front is shown.
    """
    return run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    results = load_results(options.folder)
    info = pareto_info(results, options.x, options.y, options.split, options.color)
    model_front = None
    if options.front != "raw":
        model_front = noise_aware_front(results, options.split, (options.x, options.y))
    files = render(info, model_front, options.front)
    paths = write_files(options.out or options.folder / "figures", files)
    print(pareto_text(info, model_front, with_raw=options.front != "model"))
    for path in paths:
        print(f"wrote {path}")
    return 0


def render(
    info: ParetoInfo, model_front: NoiseAwareFront | None = None, which: Which = "raw"
) -> dict[str, bytes]:
    """The picture (twice) and the table by file name; equal bytes for equal results.

    Args:
        info: The search.
        model_front: Needed unless ``which`` is ``raw``.
        which: The front to draw.
    """
    chart = pareto_chart(info, model_front, which)
    table = info.table
    if model_front is not None:
        added = model_front.table()
        new = [name for name in added if name == "trial" or name not in table]
        table = table.merge(added[new], on="trial", how="left")
    csv = table.to_csv(index=False, lineterminator="\n").encode()
    return {**render_pictures([chart]), f"{chart.name}.csv": csv}


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.pareto", "Draw the Pareto front of a search and print it.")
    parser.add_argument("folder", type=as_place, help="folder of the search, OUTPUT/NAME")
    add_axes(parser)
    parser.add_argument(
        "--front",
        choices=("raw", "model", "both"),
        default="raw",
        help="the front of the recorded values, of a model of each metric over the searched "
        "parameters, or both (default: %(default)s)",
    )
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    parser.add_argument("--out", type=as_place, help="folder to write to (default: FOLDER/figures)")
    return parser


if __name__ == "__main__":
    cli.leave(main())
