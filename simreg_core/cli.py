"""What the command lines of the project share: one line per mistake, and how they end."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from simreg_core.errors import ConfigError
from simreg_core.storage.base import store_problem
from simreg_core.storage.location import storage_of

if TYPE_CHECKING:
    import torch

LOST_OUTPUT = 1
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


def real_number(minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number of at least ``minimum`` and at most ``maximum``."""
    limit = f" and at most {maximum:g}" if maximum < math.inf else ""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (minimum <= number <= maximum and number < math.inf):
            raise argparse.ArgumentTypeError(
                f"expected a number of at least {minimum:g}{limit}, found {text!r}"
            )
        return number

    return parse


def device_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, whose value :func:`pick_device` takes."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU where torch sees one (default: %(default)s)",
    )


def pick_device(name: str) -> torch.device:
    """The torch device of a ``--device`` flag.

    Raises:
        ConfigError: CUDA is asked for, but torch sees no GPU; names the flag.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: device cuda asked for, but torch sees no GPU on this machine")
    return torch.device(name)


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
        The exit code of ``body``, 2 for bad input, 130 for an interruption, 141 where whoever
        reads the output has closed it, or 1 where it cannot be written (a full disk).
    """
    try:
        args = parser.parse_args(argv)
        with _sigterm_interrupts():
            for value in vars(args).values():
                storage_of(value).require_reachable(value)
            code = body(args)
            sys.stdout.flush()  # fails here rather than when the interpreter ends
            return code
    except ConfigError as err:
        print(f"{parser.module}: {err}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
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
    """End the process; a further Ctrl-C cannot disturb what libraries still clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def os_reason(err: OSError) -> str:
    """An operating system error in words: the file and what is wrong with it."""
    text = err.strerror or str(err)
    return f"{err.filename}: {text}" if err.filename else text


def os_error(err: OSError, flag: str, folder: Path) -> ConfigError:
    """The same in one line, with the flag unless it has nothing to do with the file.

    Args:
        err: Its file may be unknown.
        flag: Flag that says where to write.
        folder: Where that is.
    """
    if isinstance(err.filename, str):
        file, own = Path(os.path.abspath(err.filename)), Path(os.path.abspath(folder))
        # A folder above it may be what does not let it be made.
        if own not in (file, *file.parents) and file not in own.parents:
            return ConfigError(os_reason(err))
    return ConfigError(f"{flag}: {os_reason(err)}")


def _stdout_fails() -> bool:
    try:
        print(flush=True)  # unbuffered, a failed write leaves nothing for a flush to fail on
    except OSError:
        return True
    return False


def _silence_stdout() -> None:
    """What is still buffered would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    previous: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
