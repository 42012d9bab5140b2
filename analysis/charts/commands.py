"""What the commands of the analysis share: their errors, the files they write, common options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from analysis.findings.fronts import NoCompleteTrialsError
from analysis.results.load import ResultsError
from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.results.schema import SPLITS
from simreg_core.storage.atomic import atomic_file

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
        except ResultsError as err:
            raise ConfigError(str(err)) from err

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


def add_split(parser: cli.Parser, default: str = "validation") -> None:
    """``--split``."""
    parser.add_argument(
        "--split", choices=SPLITS, default=default, help="whose images (default: %(default)s)"
    )


def add_axes(parser: cli.Parser) -> None:
    """``--x`` and ``--y``, the metrics that span a front, and ``--split``."""
    parser.add_argument("--x", default="clean_accuracy", help="metric (default: %(default)s)")
    parser.add_argument("--y", default="robust_accuracy", help="metric (default: %(default)s)")
    add_split(parser)
