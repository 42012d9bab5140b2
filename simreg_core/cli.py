"""Flags, exit codes and error messages that all commands share."""

from __future__ import annotations

import argparse
import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from simreg_core.errors import ConfigError
from simreg_core.output import Outputs, lasting_output
from simreg_core.plugins import announcing
from simreg_core.storage.base import store_problem
from simreg_core.storage.location import storage_of

if TYPE_CHECKING:
    import torch

LOST_OUTPUT = 1
USAGE_ERROR = 2
INTERRUPTED = 130
CLOSED_PIPE = 141

N = TypeVar("N", int, float)


_programs: dict[str, str] = {}


def name_programs(names: Mapping[str, str]) -> None:
    """Name modules as the user starts them in this process, such as ``simreg search``."""
    _programs.update(names)


def program(module: str) -> str:
    """How the user starts a module: ``python -m MODULE``, or its name."""
    return _programs.get(module, f"python -m {module}")


class Parser(argparse.ArgumentParser):
    """An argument parser for a module's program that reports an error in one line."""

    def __init__(self, module: str, description: str) -> None:
        super().__init__(prog=program(module), description=description, allow_abbrev=False)
        self.module = module

    def error(self, message: str) -> NoReturn:
        """Raise :class:`ConfigError`."""
        raise ConfigError(f"{message.removeprefix('argument ')} (see --help)")


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``minimum``."""
    return _number(int, "a whole number", minimum)


def real_number(minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number from ``minimum`` to ``maximum``."""
    return _number(float, "a number", minimum, maximum)


def _number(
    convert: Callable[[str], N], kind: str, minimum: N, maximum: float = math.inf
) -> Callable[[str], N]:
    limit = f" and at most {maximum:g}" if maximum < math.inf else ""

    def parse(text: str) -> N:
        with suppress(ValueError):
            number = convert(text)
            if minimum <= number <= maximum and number < math.inf:
                return number
        raise argparse.ArgumentTypeError(
            f"expected {kind} of at least {minimum:g}{limit}, found {text!r}"
        )

    return parse


def device_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, whose value :func:`pick_device` takes."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU if torch finds one (default: %(default)s)",
    )


def pick_device(name: str) -> torch.device:
    """The torch device for the value of ``--device``."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: found cuda, but torch finds no GPU on this machine")
    return torch.device(name)


def run(
    parser: Parser,
    argv: Sequence[str] | None,
    body: Callable[[argparse.Namespace], int],
    *,
    interrupted: str = "",
) -> int:
    """Parse the flags, call ``body`` and turn its errors into messages.

    SIGTERM interrupts like Ctrl-C, so that a stopped command still cleans up.

    After an interruption, it prints the message of the KeyboardInterrupt or else ``interrupted``.

    Returns:
        The exit code of ``body``, 2 for bad input, 130 for an interruption, or that of
        :func:`with_lasting_output`.
    """

    def work() -> int:
        try:
            args = parser.parse_args(argv)
            with ExitStack() as stack:
                previous: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
                stack.callback(signal.signal, signal.SIGTERM, previous)
                stack.enter_context(announcing(lambda line: print(line, file=sys.stderr)))
                for value in vars(args).values():
                    storage_of(value).require_reachable(value)
                return body(args)
        except ConfigError as err:
            print(f"{parser.module}: {err}", file=sys.stderr)
            return USAGE_ERROR
        except KeyboardInterrupt as err:
            details = "; ".join(["interrupted", *filter(None, err.args or (interrupted,))])
            print(f"{parser.module}: {details}", file=sys.stderr)
            return INTERRUPTED
        except Exception as err:
            if (problem := store_problem(err)) is None:
                raise
            print(f"{parser.module}: {problem}", file=sys.stderr)
            return USAGE_ERROR

    return with_lasting_output(parser.module, work)


def with_lasting_output(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command, whatever happens to its output.

    Returns:
        The exit code of ``work``. If that is 0 but output was lost, 1 with a message if standard
        output cannot be written (a full disk), and 141 otherwise (a reader has closed it).
    """
    with lasting_output() as outputs:
        try:
            return work() or _lost_code(name, outputs)
        except SystemExit as end:  # --help
            if end.code or not (code := _lost_code(name, outputs)):
                raise
            raise SystemExit(code) from end


def _lost_code(name: str, outputs: Outputs) -> int:
    sys.stdout.flush()
    err = outputs.stdout_error
    if err is not None and err.errno != errno.EPIPE:
        print(f"{name}: standard output: {os_reason(err)}", file=sys.stderr, flush=True)
        if outputs.stderr_error is None:
            return LOST_OUTPUT
    sys.stderr.flush()
    return CLOSED_PIPE if err or outputs.stderr_error else 0


def leave(code: int) -> NoReturn:
    """Exit, and ignore further signals while libraries clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def os_reason(err: OSError) -> str:
    """File and reason of an operating system error."""
    text = err.strerror or str(err)
    return f"{err.filename}: {text}" if err.filename else text


def os_error(err: OSError, flag: str, folder: Path) -> ConfigError:
    """A :class:`ConfigError` for an operating system error.

    It names the flag, unless the error concerns a file outside of the flag's folder.
    """
    if isinstance(err.filename, str):
        file, own = Path(os.path.abspath(err.filename)), Path(os.path.abspath(folder))
        # A folder above ours may be the reason why ours cannot be created.
        if not (file.is_relative_to(own) or own.is_relative_to(file)):
            return ConfigError(os_reason(err))
    return ConfigError(f"{flag}: {os_reason(err)}")
