"""``simreg COMMAND``: runs any command of the project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from simreg_core import cli
from simreg_core.version import __version__

# In the order of their use in a study. Modules are imported only when they run.
COMMANDS = {
    "search": ("tuner.run", "search hyperparameters, or resume a search"),
    "confirm": ("tuner.confirm", "train chosen configurations again with fresh seeds"),
    "status": ("tuner.status", "show the progress of a search"),
    "export": ("tuner.export.__main__", "export the network of a trial"),
    "pareto": ("analysis.pareto.__main__", "draw the Pareto front of a search"),
    "report": ("analysis.report.__main__", "write one HTML page about a search"),
    "compare": ("analysis.compare.__main__", "compare the fronts of several searches"),
    "poster": ("analysis.poster.__main__", "draw the panels of the poster"),
    "serve": ("analysis.serve.__main__", "show all searches of a folder in a browser"),
    "train": ("simreg_core.__main__", "train and attack one network, without Ray"),
    "audit": ("simreg_core.audit.__main__", "attack one network with full knowledge of it"),
    "neural": ("simreg_core.neural.__main__", "fit a model to neural recordings, for targets"),
    "datasets": ("simreg_core.datasets", "download datasets"),
    "cluster": ("tuner.cluster.__main__", "check a cluster file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with the remaining arguments; returns its exit code, 2 if it is unknown."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.with_lasting_output("simreg", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        width = max(map(len, COMMANDS))
        print("usage: simreg COMMAND [ARGUMENT ...]\n")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:{width}}  {text}")
        print("\nsimreg COMMAND --help describes a command.")
        return 0 if arguments else cli.USAGE_ERROR
    if arguments[0] == "--version":
        print(__version__)
        return 0
    if arguments[0] not in COMMANDS:
        allowed = ", ".join(COMMANDS)
        print(f"simreg: unknown command {arguments[0]!r}; allowed: {allowed}", file=sys.stderr)
        return cli.USAGE_ERROR
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    code: int = module.main(arguments[1:])
    return code


def script() -> None:
    """Entry point of the installed program."""
    cli.name_programs(
        {
            module.removesuffix(".__main__"): f"simreg {name}"
            for name, (module, _) in COMMANDS.items()
        }
    )
    cli.leave(main())
