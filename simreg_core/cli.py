"""What the command lines of the project share: one line per mistake, and how they end."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from simreg_core import places
from simreg_core.config_io import ConfigError

USAGE_ERROR = 2
INTERRUPTED = 130
CLOSED_PIPE = 141


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line: flag, what was found, what is allowed.

    Args:
        module: The module that ``python -m`` runs.
        description: One sentence.
    """

    def __init__(self, module: str, description: str) -> None:
        super().__init__(prog=f"python -m {module}", description=description, allow_abbrev=False)
        self.module = module

    def error(self, message: str) -> NoReturn:
        """Raise :class:`ConfigError` instead of printing the usage and exiting."""
        raise ConfigError(f"{message.removeprefix('argument ')} (see --help)")


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``minimum``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {minimum}, found {text!r}"
            )
        return number

    return parse


def real_number(minimum: float) -> Callable[[str], float]:
    """An argparse type: a finite number of at least ``minimum``."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not minimum <= number < math.inf:
            raise argparse.ArgumentTypeError(
                f"expected a number of at least {minimum:g}, found {text!r}"
            )
        return number

    return parse


def run(
    parser: Parser,
    argv: Sequence[str] | None,
    body: Callable[[argparse.Namespace], int],
    *,
    interrupted: str = "",
) -> int:
    """Parse the flags and do the work; returns the exit code.

    SIGTERM interrupts like Ctrl-C, so that whoever stops a run leaves nothing half-written.

    Args:
        parser: Of the flags; its module names the program in messages.
        argv: The flags; the process's own if None.
        body: The work; its exit code becomes this function's.
        interrupted: What to say after an interruption, unless the exception itself says it.

    Returns:
        The exit code of ``body``, 2 for bad input, 130 for an interruption, or 141 where whoever
        reads the output has closed it.
    """
    try:
        args = parser.parse_args(argv)
        with _sigterm_interrupts():
            for value in vars(args).values():
                places.require_reachable(value)
            return body(args)
    except ConfigError as err:
        print(f"{parser.module}: {err}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as err:
        if not places.is_store_error(err):
            raise
        print(f"{parser.module}: {places.store_problem(err)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt as err:
        details = "; ".join(["interrupted", *filter(None, err.args or (interrupted,))])
        print(f"{parser.module}: {details}", file=sys.stderr)
        return INTERRUPTED


def leave(code: int) -> NoReturn:
    """End the process; a further Ctrl-C cannot disturb what libraries still clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def os_reason(err: OSError) -> str:
    """An operating system error in words: the file and what is wrong with it."""
    text = err.strerror or str(err)
    return f"{err.filename}: {text}" if err.filename else text


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    previous: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
