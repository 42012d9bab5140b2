"""``python -m tuner.cluster check FILE``: is a cluster file of ``ray up`` right? Offline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simreg_core import cli
from simreg_core.config.yaml_io import read_yaml_mapping
from tuner.execution.ray_session import set_environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 for a file without problems, 2 for one with, or for bad flags.
    """
    return cli.run(_parser(), argv, _check)


def _check(args: argparse.Namespace) -> int:
    set_environment()
    from tuner.cluster_check import find_problems, summarize

    config = read_yaml_mapping(args.file)
    problems = find_problems(config, args.file.absolute().parent)
    for problem in problems:
        where = ": ".join(part for part in (str(args.file), problem.path) if part)
        print(f"tuner.cluster: {where}: {problem.message}", file=sys.stderr)
    if problems:
        return cli.USAGE_ERROR
    found = summarize(config)
    gpus = f"GPUs from {found.min_gpus} to {found.max_gpus}"
    if found.provider == "local":
        gpus = f"GPUs as found on {len(config['provider'].get('worker_ips', []))} machines"
    print(
        f"{args.file}: no problems found; {found.provider}, node types "
        f"{', '.join(found.node_types)}, {gpus} "
        "(what the cloud offers and your quotas cannot be checked offline)"
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("tuner.cluster", "Check a cluster file of ray up.")
    parser.add_argument("command", choices=["check"], help="look for mistakes")
    parser.add_argument("file", type=Path, metavar="FILE", help="for example cluster.yaml")
    return parser


if __name__ == "__main__":
    cli.leave(main())
