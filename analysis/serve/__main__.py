"""Command line: serve the reports of all studies below a folder, and keep them fresh.

    python -m analysis.serve OUTPUT [--port PORT] [--host ADDRESS]

It only reads, and listens on loopback unless ``--host`` says otherwise. A study that is a symbolic
link is not listed. Exit codes: 130 ended by Ctrl-C or SIGTERM, 2 the folder, the port or the
address is not usable.
"""

from __future__ import annotations

import argparse
import errno
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simreg_core import cli
from simreg_core.errors import ConfigError

NUM_THREADS = 8  # of which one may render a report
MAX_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code."""
    return cli.run(_parser(), argv, _run, interrupted="no longer serving")


def _run(options: argparse.Namespace) -> int:
    if lacking := [name for name in ("flask", "waitress") if find_spec(name) is None]:
        raise ConfigError(
            f"{' and '.join(lacking)} not installed: pip install 'simreg-tune[serve]'"
        )
    from analysis.serve.hosts import is_loopback

    with create_listener(options.host, options.port) as listener:
        server = create_server(options.folder, options.host, listener)
        address = url(options.host, listener.getsockname()[1])
        print(f"serving the reports of {options.folder} at {address} (Ctrl-C ends it)", flush=True)
        if not is_loopback(options.host.strip("[]").lower()):
            print(
                f"analysis.serve: --host {options.host}: anyone who reaches this machine can read "
                "these results, without a password and unencrypted",
                file=sys.stderr,
            )
        server.run()  # returns after a Ctrl-C
    raise KeyboardInterrupt


def create_listener(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        ConfigError: the port is taken, or the address is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except UnicodeError as err:
        raise ConfigError(f"--host: {host!r} is no address") from err
    except OSError as err:
        reasons = {
            errno.EADDRINUSE: f"{port} is taken on {host} by another program; choose another",
            errno.EACCES: f"{port}: {err.strerror}; above 1023 is allowed",
        }
        if reason := reasons.get(err.errno or 0):
            raise ConfigError(f"--port: {reason}") from err
        reason = (err.strerror or str(err)).lower()
        raise ConfigError(f"--host: {host}: cannot listen there: {reason}") from err


def create_server(
    folder: Path,
    host: str,
    listener: socket.socket,
    render: Callable[[Path, str], str] | None = None,
) -> Any:
    """A server of the reports of a study, or of a folder of them; call its ``run``.

    It makes HTML reports if no ``render`` is given.
    """
    import waitress

    from analysis.report.page import report_html
    from analysis.serve.app import create_app

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # browsers send bursts
    return waitress.create_server(
        create_app(folder, host, render or report_html),
        sockets=[listener],
        threads=NUM_THREADS,
        ident=None,
        max_request_body_size=1,  # requests have no body
    )


def url(host: str, port: int) -> str:
    """Where a browser finds the server."""
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host.strip("[]") else f"http://{host}:{port}/"


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: no such folder on this machine; expected a folder of searches"
        )
    return folder


def _port(text: str) -> int:
    port = cli.whole_number(0)(text)
    if port > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_PORT}, found {text!r}")
    return port


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "analysis.serve",
        "Serve the reports of all studies below OUTPUT; links to folders are not followed.",
    )
    parser.add_argument("folder", type=_folder, metavar="OUTPUT", help="folder of searches")
    parser.add_argument(
        "--port", type=_port, default=8080, help="0 takes any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s, which only this machine reaches)",
    )
    return parser


if __name__ == "__main__":
    cli.leave(main())
