"""What the commands of the analysis share: their errors, the files they write, common options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from analysis.charts.chart import Chart
from analysis.charts.csv_text import csv_text
from analysis.findings.fronts import NoCompleteTrialsError
from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.results.schema import SPLITS
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import as_place

NOTHING_COMPLETE = 1


def run(
    parser: cli.Parser, argv: Sequence[str] | None, body: Callable[[argparse.Namespace], int]
) -> int:
    """Parse the flags and do the work, as :func:`simreg_core.cli.run` does.

    Returns:
        The exit code of ``body``; 1 if no trial is complete; 2 if the results are not usable.
    """

    def work(options: argparse.Namespace) -> int:
        try:
            return body(options)
        except NoCompleteTrialsError as err:
            print(f"{parser.module}: {err}", file=sys.stderr)
            return NOTHING_COMPLETE

    return cli.run(parser, argv, work)


@contextmanager
def output_errors() -> Iterator[None]:
    """Turn errors of files in the folder of ``--out`` into :class:`ConfigError`."""
    try:
        yield
    except OSError as err:
        raise ConfigError(f"--out: cannot be written: {cli.os_reason(err)}") from err


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write each file whole or not at all; returns their paths.

    Raises:
        ConfigError: the folder cannot be made or written to.
    """
    with output_errors():
        for name, content in files.items():
            with atomic_file(folder / name) as stream:
                stream.write(content)
    return [folder / name for name in files]


def write_chart(folder: Path, chart: Chart, table: pd.DataFrame, text: str) -> None:
    """Write a chart as PNG and PDF and its table as CSV; print the text and the paths."""
    from analysis.charts.matplotlib_backend import render_pictures  # slow to import

    csv = csv_text(table).encode()
    paths = write_files(folder, {**render_pictures([chart]), f"{chart.name}.csv": csv})
    print("\n".join([text, *(f"wrote {path}" for path in paths)]))


def add_folder(parser: cli.Parser) -> None:
    """The folder of a search."""
    parser.add_argument("folder", type=as_place, help="folder of the search, OUTPUT/NAME")


def add_out(parser: cli.Parser, default: str) -> None:
    """``--out``."""
    parser.add_argument("--out", type=as_place, help=f"folder to write to (default: {default})")


def add_split(parser: cli.Parser, default: str = "validation") -> None:
    """``--split``."""
    parser.add_argument(
        "--split", choices=SPLITS, default=default, help="whose images (default: %(default)s)"
    )


def add_front(parser: cli.Parser) -> None:
    """``--front``."""
    parser.add_argument(
        "--front",
        choices=("model", "raw"),
        default="model",
        help="the front by models of the metrics, where they explain something, or always that of "
        "the measured values (default: %(default)s)",
    )
