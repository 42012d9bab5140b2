"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT] [--front FRONT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from analysis.charts.files import add_axis_options, picture_files, write_files
from analysis.findings.fronts import NoCompleteTrialsError, ParetoInfo, pareto_info
from analysis.findings.modelled_front import NoiseAwareFront, noise_aware_front
from analysis.pareto.picture import draw_pareto
from analysis.pareto.text import pareto_text
from analysis.results.load import ResultsError, load_results
from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code.

    The names end in ``_model`` or ``_both`` where the modelled front is shown.
    """
    return cli.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    try:
        results = load_results(options.folder)
        info = pareto_info(results, options.x, options.y, options.split, options.color)
        model_front = None
        if options.front != "raw":
            model_front = noise_aware_front(results, options.split, (options.x, options.y))
        files = render(info, model_front, options.front)
        paths = write_files(options.out or options.folder / "figures", files)
    except NoCompleteTrialsError as err:
        print(f"analysis.pareto: {err}", file=sys.stderr)
        return 1
    except ResultsError as err:
        raise ConfigError(str(err)) from err
    except OSError as err:
        raise ConfigError(f"--out: cannot be written: {cli.os_reason(err)}") from err
    print(pareto_text(info, model_front, with_raw=options.front != "model"))
    for path in paths:
        print(f"wrote {path}")
    return 0


def render(
    info: ParetoInfo,
    model_front: NoiseAwareFront | None = None,
    which: Literal["raw", "model", "both"] = "raw",
) -> dict[str, bytes]:
    """The picture (twice) and the table by file name; equal bytes for equal results.

    Args:
        info: The search.
        model_front: Needed unless ``which`` is ``raw``.
        which: The front to draw.
    """
    figure = draw_pareto(info, model_front, with_raw=which != "model")
    stem = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    table = info.table
    if model_front is not None:
        stem = f"{stem}_{which}"
        added = model_front.table()
        new = [name for name in added if name == "trial" or name not in table]
        table = table.merge(added[new], on="trial", how="left")
    csv = table.to_csv(index=False, lineterminator="\n").encode()
    return {**picture_files(stem, figure), f"{stem}.csv": csv}


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.pareto", "Draw the Pareto front of a search and print it.")
    parser.add_argument("folder", type=as_place, help="folder of the search, OUTPUT/NAME")
    add_axis_options(parser)
    parser.add_argument(
        "--front",
        choices=("raw", "model", "both"),
        default="raw",
        help="of the figures as recorded, of a model of each metric over the searched parameters, "
        "or both (default: %(default)s)",
    )
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    parser.add_argument("--out", type=as_place, help="folder to write to (default: FOLDER/figures)")
    return parser


if __name__ == "__main__":
    cli.leave(main())
