"""``python -m simreg_core.datasets NAME``: download datasets into the data folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from simreg_core import cli
from simreg_core.errors import ConfigError, concerning
from simreg_core.plugins import foreign_code
from simreg_core.registry import DATASETS
from simreg_core.storage.array_cache import data_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :func:`simreg_core.cli.run` for the exit code."""
    parser = cli.Parser("simreg_core.datasets", "Download datasets into the data folder.")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: SIMREG_DATA, else ~/.cache/simreg-tune)",
    )
    return cli.run(parser, argv, _download_all)


def _download_all(args: argparse.Namespace) -> int:
    known = DATASETS.known.items()
    downloads = {name: found.download for name, found in known if found.download is not None}
    if unknown := [name for name in args.names if name not in downloads]:
        raise ConfigError(f"NAME: unknown {unknown[0]!r}; allowed: {', '.join(downloads)}")
    folder = args.data.expanduser().absolute() if args.data is not None else data_folder()
    for name in args.names:
        with foreign_code(name), concerning(name):
            downloads[name](folder)
        print(f"{name}: {folder}")
    return 0


if __name__ == "__main__":
    cli.leave(main())
