"""Flags, exit codes and error messages that all commands share."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from simreg_core.errors import ConfigError
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


class Parser(argparse.ArgumentParser):
    """An argument parser for ``python -m module`` that reports an error in one line."""

    def __init__(self, module: str, description: str) -> None:
        super().__init__(prog=f"python -m {module}", description=description, allow_abbrev=False)
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
        The exit code of ``body``, 2 for bad input, 130 for an interruption, 141 if the reader of
        the output has closed it, or 1 if the output cannot be written (a full disk).
    """
    try:
        args = parser.parse_args(argv)
        with ExitStack() as stack:
            previous: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
            stack.callback(signal.signal, signal.SIGTERM, previous)
            stack.enter_context(announcing(lambda line: print(line, file=sys.stderr)))
            for value in vars(args).values():
                storage_of(value).require_reachable(value)
            code = body(args)
            sys.stdout.flush()  # fail here rather than when the interpreter exits
            return code
    except ConfigError as err:
        print(f"{parser.module}: {err}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader, such as head, needs no more
        _silence_stdout()
        return CLOSED_PIPE
    except Exception as err:
        if (problem := store_problem(err)) is not None:
            print(f"{parser.module}: {problem}", file=sys.stderr)
            return USAGE_ERROR
        if not isinstance(err, OSError) or not _stdout_fails():
            raise
        _silence_stdout()
        print(f"{parser.module}: standard output: {os_reason(err)}", file=sys.stderr)
        return LOST_OUTPUT
    except KeyboardInterrupt as err:
        details = "; ".join(["interrupted", *filter(None, err.args or (interrupted,))])
        print(f"{parser.module}: {details}", file=sys.stderr)
        return INTERRUPTED


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


def _stdout_fails() -> bool:
    try:
        print(flush=True)  # the failed write may have left nothing in the buffer to flush
    except OSError:
        return True
    return False


def _silence_stdout() -> None:
    """Discard the buffered output, which would fail again when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
