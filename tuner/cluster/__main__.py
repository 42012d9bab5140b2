"""``python -m tuner.cluster check FILE``: check a cluster file before ``ray up`` costs money."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simreg_core import cli
from simreg_core.config.yaml_io import read_yaml_mapping
from tuner.execution.ray_session import set_environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 no problems found, 2 some found or wrong flags."""
    parser = cli.Parser("tuner.cluster", "Check a cluster file for `ray up`.")
    parser.add_argument("command", choices=["check"], help="look for mistakes, offline")
    parser.add_argument("file", type=Path, metavar="FILE", help="for example cluster.yaml")
    return cli.run(parser, argv, _check)


def _check(args: argparse.Namespace) -> int:
    set_environment()
    from tuner.cluster.check import describe_cluster, find_problems

    config = read_yaml_mapping(args.file)
    problems = find_problems(config, args.file.absolute().parent)
    for path, message in problems:
        print("tuner.cluster", args.file, *filter(None, [path]), message, sep=": ", file=sys.stderr)
    if problems:
        return cli.USAGE_ERROR
    print(f"{args.file}: no problems found: {describe_cluster(config)}")
    return 0


if __name__ == "__main__":
    cli.leave(main())
