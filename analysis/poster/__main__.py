"""Command line: draw the panels of the poster from the searches in one output folder.

    python -m analysis.poster OUTPUT [--out DIR] [--split SPLIT]

OUTPUT holds the searches of ``search_spaces/poster`` (``curves``, ``datasets``, ``cost``,
``tradeoff``, ``components``) and ``pairs.parquet``; each panel is drawn if its results are there.
Exit codes: 0 drawn, 2 there is nothing to draw or the arguments are not usable.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.charts import commands
from analysis.charts.chart import Chart
from analysis.charts.matplotlib_backend import render_pictures, saved
from analysis.poster.curve_panels import (
    curves_panel,
    datasets_panel,
    similarity_panel,
    spectra_panel,
)
from analysis.poster.layout import draw_poster
from analysis.poster.setting_panels import components_panel, cost_panel, tradeoff_panel
from analysis.results.load import load_started
from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.storage.location import as_place


class Source(NamedTuple):
    """Where the results of a panel are, and how they become a chart."""

    section: str
    panel: str
    """Stem of its files."""
    place: str
    """Folder or file in OUTPUT."""
    build: Callable[[Path, str], Chart]


SOURCES = (
    Source("2 (similarities)", "2_similarity", "pairs.parquet", similarity_panel),
    Source("4.i (curves)", "4i_curves", "curves", curves_panel),
    Source("4.i (datasets)", "4i_datasets", "datasets", datasets_panel),
    Source("4.ii (frequencies)", "4ii_spectra", "curves", spectra_panel),
    Source("4.iii (cost)", "4iii_cost", "cost", cost_panel),
    Source("5 (tradeoff)", "5_tradeoff", "tradeoff", tradeoff_panel),
    Source("6 (components)", "6_components", "components", components_panel),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write every panel as .png and .pdf and ``poster.png``; say what is missing."""
    return commands.run(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    panels, missing = collect(options.output, options.split)
    if not panels:
        reasons = "; ".join(dict.fromkeys(missing.values()))
        raise ConfigError(f"{options.output}: nothing to draw: {reasons} (make poster makes all)")
    folder = options.out or options.output / "figures"
    files = render_pictures(panels.values()) | {"poster.png": saved(draw_poster(panels), "png")}
    paths = commands.write_files(folder, files)
    with commands.output_errors():
        removed = remove_pictures(folder, missing)
    for panel in panels.values():
        print(f"{panel.title}\n    {panel.note}")
    for source, reason in missing.items():
        print(f"not drawn: {source.section}: {reason}\n    {command(source, options.output)}")
    for path in removed:
        print(f"removed {path}, which showed earlier results")
    for path in paths:
        print(f"wrote {path}")
    return 0


def collect(output: Path, split: str) -> tuple[dict[str, Chart], dict[Source, str]]:
    """The panels whose results are in a folder, by name, and why the others are not drawn."""
    panels: dict[str, Chart] = {}
    missing: dict[Source, str] = {}
    for source in SOURCES:
        path = output / source.place
        if not path.exists():
            missing[source] = f"{path} is not there"
            continue
        try:
            panels[source.panel] = source.build(path, split)
        except ConfigError as err:
            missing[source] = str(err)
    return panels, missing


def remove_pictures(folder: Path, sources: Iterable[Source]) -> list[Path]:
    """Delete the files of panels that are not drawn; returns those that were there."""
    paths = [folder / f"{source.panel}.{kind}" for source in sources for kind in ("png", "pdf")]
    removed = [path for path in paths if path.exists()]
    for path in removed:
        path.unlink()
    return removed


def command(source: Source, output: Path) -> str:
    """The command line that makes a panel's results."""
    if source.place == "pairs.parquet":
        program = cli.program("simreg_core.neural")
        path = shlex.quote(str(output / source.place))
        return f"{program} compare --output {path} {_compared(output)}"
    space = f"search_spaces/poster/{source.place}"
    return (
        f"{cli.program('tuner.run')} --space {space}.yaml --output {output}"
        f"   (small version: {space}_small.yaml)"
    )


def _compared(output: Path) -> str:
    """Flags that compare the targets of the search that has the most."""
    searches: list[pd.DataFrame] = []
    for place in dict.fromkeys(source.place for source in SOURCES[1:]):
        with suppress(ConfigError):  # a reason why its panel is not drawn
            searches.append(load_started(output / place).trials)
    trials = max(searches, key=lambda s: s["regularizer.target"].nunique(), default=None)
    if trials is None or trials.empty:
        return "--dataset NAME --target NAME --target NAME"
    first = trials.iloc[0]
    is_own = first["regularizer.dataset"] == "task"
    models = trials["regularizer.neural_model"].dropna()
    flags = [
        ("--dataset", first["task.dataset" if is_own else "regularizer.dataset"]),
        ("--image-size", first["task.image_size"]),
        ("--model", models.iloc[0] if len(models) else None),
        *(("--target", name) for name in _distinct(trials["regularizer.target"].dropna())),
    ]
    color = " --color" if pd.notna(first["task.color"]) and first["task.color"] else ""
    given = (f"{flag} {shlex.quote(str(value))}" for flag, value in flags if pd.notna(value))
    return " ".join(given) + color


def _distinct(targets: Iterable[str]) -> list[str]:
    """Two or more targets to compare: pixels without the threshold, then the others."""
    others = [name for name in dict.fromkeys(targets) if name not in ("pixel", "pixel_raw")]
    return ["pixel_raw", *(others or ["v1_gabor"])]


def _parser() -> cli.Parser:
    parser = cli.Parser("analysis.poster", "Draw the poster's panels from the searches in OUTPUT.")
    parser.add_argument("output", type=as_place, metavar="OUTPUT", help="folder of the searches")
    commands.add_split(parser, "test")
    commands.add_out(parser, "OUTPUT/figures")
    return parser


if __name__ == "__main__":
    cli.leave(main())
