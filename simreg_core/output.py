"""Standard output and standard error that never stop a command.

Hours of work must not end because ``head`` has seen enough, a terminal or ``tee`` has died, a disk
is full, or an encoding lacks a character.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

_STANDARD = (0, 1, 2)
_NOWHERE = OSError(errno.EBADF, os.strerror(errno.EBADF))


class _Sink(io.RawIOBase):
    """Writes to a file descriptor; after the first error, it discards everything.

    ``descriptor`` is None if the stream was closed before the program began.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        """The first error; None if nothing was lost."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        content = bytes(data)
        left = memoryview(content)
        try:
            while left and self.error is None:
                left = left[self._write(left) :]
        except OSError as err:
            self.error = err
            self._discard()
        return len(content)

    def _write(self, data: memoryview) -> int:
        if self._descriptor is None:
            raise _NOWHERE
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another program has made the terminal non-blocking
            select.select([], [self._descriptor], [])
            return 0

    def _discard(self) -> None:
        """Lead the descriptor nowhere, also for libraries, child processes and the exit."""
        if self._descriptor is not None:
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._descriptor)
                os.close(null)


class Outputs(NamedTuple):
    """The sinks of the two streams; None for a stream that is no file, as in a notebook."""

    stdout: _Sink | None
    stderr: _Sink | None

    @property
    def stdout_error(self) -> OSError | None:
        """Why some of standard output was lost; None if nothing was."""
        return None if self.stdout is None else self.stdout.error

    @property
    def stderr_error(self) -> OSError | None:
        """Why some of standard error was lost; None if nothing was."""
        return None if self.stderr is None else self.stderr.error


@contextmanager
def lasting_output() -> Iterator[Outputs]:
    """Within the block, ``sys.stdout`` and ``sys.stderr`` never raise an error.

    What cannot be written is discarded. Characters that the encoding lacks become question marks.
    """
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    outputs = Outputs(_replace("stdout"), _replace("stderr"))
    try:
        yield outputs
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _replace(name: str) -> _Sink | None:
    stream: io.TextIOWrapper | None = getattr(sys, name)
    if stream is None:
        sink, unbuffered, encoding = _Sink(None), False, "utf-8"
    else:
        if (found := getattr(stream, "buffer", None)) is not None:
            found = getattr(found, "raw", found)
        if isinstance(found, _Sink):  # a command that another one runs
            return found
        try:
            sink = _Sink(stream.fileno())
        except (AttributeError, OSError, ValueError):  # replaced, for example by a notebook
            return None
        stream.flush()
        unbuffered, encoding = getattr(stream, "write_through", False), stream.encoding
    raw: Any = sink
    buffer: Any = raw if unbuffered else io.BufferedWriter(raw)
    lasting = io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors="replace",
        newline="\n",
        line_buffering=name == "stderr" or getattr(stream, "line_buffering", False),
        write_through=unbuffered,
    )
    setattr(sys, name, lasting)
    return sink


def _occupy_closed_descriptors() -> None:
    """Open the null device where a standard stream is closed.

    Otherwise the next file that is opened would take its number and what is printed there.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
