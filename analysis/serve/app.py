"""The web application behind ``analysis.serve``: index, reports, versions; it only reads.

A study's name in a URL is looked up among those that were found below the folder, never joined to a
path: nothing else can be asked for, however it is written.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import re
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flask import Flask, Response, abort, render_template_string, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from analysis.results.load import ResultsError
from analysis.serve.pages import ERROR, INDEX, REFRESHER, SCRIPT, STYLE, as_text
from analysis.serve.studies import find_studies, listed_study, study_version
from simreg_core.errors import ConfigError
from simreg_core.results.schema import SPLITS

Render = Callable[[Path, str], str]
"""The report of a study's folder and a split, as a whole HTML page."""

MAX_PAGES = 16  # kept in memory, a few MB each
METHODS = ("GET", "HEAD")
_CLOSED = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
_CLOSED += "frame-ancestors 'none'; "
_OWN_POLICY = _CLOSED + "script-src 'self'; style-src 'self'; img-src 'self'"
# A report has its scripts, styles and pictures in it, and the charts' library compiles code.
_REPORT_POLICY = _CLOSED + (
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src data:; worker-src blob:"
)
_OWN_META = re.compile(r"""<meta\s+http-equiv=["']Content-Security-Policy["'][^>]*>""", re.I)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """A rendered report, of the files as they were when its rendering began."""

    version: str
    html: str


def create_app(root: Path, host: str, render: Render) -> Flask:
    """The application for the studies below a folder.

    Args:
        root: The folder; exists.
        host: Address that the server is bound to: which names it may be called by.
        render: Makes the reports; called for one study at a time.
    """
    app = Flask("analysis.serve", static_folder=None)
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    reports = _Reports(root, render)
    allowed = _allowed_host(host)

    @app.before_request
    def check() -> None:
        if not allowed(request.environ.get("HTTP_HOST", "")):
            abort(403, "This server is called by another name: use its address, or localhost.")
        if request.method not in METHODS:
            raise MethodNotAllowed(METHODS, "This server only shows: GET and HEAD are allowed.")

    @app.after_request
    def secure(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Content-Security-Policy", _OWN_POLICY)
        return response

    @app.get("/")
    def index() -> Response:
        version = reports.index_version()
        rows = []
        for name, folder in find_studies(root).items():
            with suppress(FileNotFoundError):  # deleted just now
                found = listed_study(folder, root)
                problem = found.progress.problem or reports.problem(folder)
                rows.append((name, found, problem and _relative(problem, root)))
        page = render_template_string(
            INDEX,
            title=root.resolve().name or str(root),
            rows=rows,
            splits=SPLITS,
            version=version,
            as_text=as_text,
            refresher=_refresher,
        )
        return _tagged(page, version, "text/html")

    @app.get("/version")
    def index_version() -> Response:
        return _version(reports.index_version())

    @app.get("/study/<path:name>/")
    def study(name: str) -> Response:
        split = request.args.get("split", SPLITS[0])
        if split not in SPLITS:
            abort(400, f"Unknown split; allowed: {', '.join(SPLITS)}")
        folder = _folder(root, name)
        version = reports.version(folder)
        status = 200
        try:
            page = reports.page(folder, split)
        except (ResultsError, ConfigError, OSError) as err:
            status = InternalServerError.code
            message = _relative(_one_line(err), root)
            html = render_template_string(ERROR, title=name, message=message)
            page = Page(version, html)
        url = url_for("study_version_of", name=name)
        extra = _refresher(url, page.version, url_for("index"))
        response = _tagged(
            _before_end(page.html, extra), f"{page.version}-{split}", "text/html", status
        )
        response.headers["Content-Security-Policy"] = _REPORT_POLICY
        return response

    @app.get("/study/<path:name>/version")
    def study_version_of(name: str) -> Response:
        return _version(reports.version(_folder(root, name)))

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status=204)

    @app.get("/serve.css")
    def style() -> Response:
        return _tagged(STYLE, _digest(STYLE), "text/css")

    @app.get("/serve.js")
    def script() -> Response:
        return _tagged(SCRIPT, _digest(SCRIPT), "text/javascript")

    @app.errorhandler(HTTPException)
    def refuse(err: HTTPException) -> Response:
        html = render_template_string(
            ERROR, title=f"{err.code} {err.name}", message=err.description
        )
        response = Response(html, err.code, mimetype="text/html")
        if isinstance(err, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(METHODS)
        return response

    @app.errorhandler(Exception)
    def fail(err: Exception) -> Response:
        _log.error("%s: %s", request.path, err, exc_info=err)
        what = f"This page could not be made: {type(err).__name__}: {_one_line(err)}"
        html = render_template_string(ERROR, title="Internal error", message=what)
        return Response(html, InternalServerError.code, mimetype="text/html")

    return app


class _Reports:
    """Rendered reports, each kept until a file of its study changes; one is rendered at a time."""

    def __init__(self, root: Path, render: Render) -> None:
        self._root = root
        self._render = render
        self._pages: OrderedDict[tuple[Path, str], Page] = OrderedDict()
        self._failures: dict[tuple[Path, str], tuple[str, str]] = {}
        self._access = threading.Lock()
        self._rendering = threading.Lock()

    def page(self, folder: Path, split: str) -> Page:
        """The report of a study as its files are now."""
        found = self._kept(folder, split)
        if found is None:
            with self._rendering:
                found = self._kept(folder, split)  # another request may have waited for the same
                if found is None:
                    # Before the files are read: what changes meanwhile makes the page an old one.
                    version = study_version(folder, self._root)
                    try:
                        found = Page(version, self._render(folder, split))
                    except Exception as err:
                        self._failures[folder, split] = version, _one_line(err)
                        raise
                    self._failures.pop((folder, split), None)
                    self._keep(folder, split, found)
        return found

    def problem(self, folder: Path) -> str | None:
        """Why a report of a study's files as they are now could not be made, if one was tried."""
        for split in SPLITS:
            version, message = self._failures.get((folder, split), ("", None))
            if message and version == self.version(folder):
                return f"no {split} report: {message}"
        return None

    def _kept(self, folder: Path, split: str) -> Page | None:
        version = study_version(folder, self._root)
        with self._access:
            found = self._pages.get((folder, split))
            if found is None or found.version != version:
                return None
            self._pages.move_to_end((folder, split))
            return found

    def _keep(self, folder: Path, split: str, page: Page) -> None:
        with self._access:
            self._pages[folder, split] = page
            self._pages.move_to_end((folder, split))
            while len(self._pages) > MAX_PAGES:
                self._pages.popitem(last=False)

    def version(self, folder: Path) -> str:
        """Version of a study's files, or of what keeps them from being listed."""
        try:
            return study_version(folder, self._root)
        except (ResultsError, OSError) as err:
            return _digest(str(err))

    def index_version(self) -> str:
        """Version of everything that the index shows."""
        studies = find_studies(self._root).items()
        lines = (f"{name}\0{self.version(f)}\0{self.problem(f)}" for name, f in studies)
        return _digest("\n".join(lines))


def _folder(root: Path, name: str) -> Path:
    folder = find_studies(root).get(name)
    if folder is None:
        abort(404, "No such study here.")
    return folder


def _relative(message: str, root: Path) -> str:
    """A message without the place of the folder on this machine."""
    return message.replace(f"{root}{os.sep}", "")


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())


def _refresher(url: str, version: str, index: str = "") -> Markup:
    return Markup(render_template_string(REFRESHER, url=url, version=version, index=index))


def _before_end(html: str, extra: str) -> str:
    """A page with something more at the end of its body, where its own policy does not forbid it.

    A report that is a file states its policy in its head; here a header does, which lets it ask
    this server for the version and is otherwise the same.
    """
    html = _OWN_META.sub("", html, count=1)
    before, end, after = html.rpartition("</body>")
    return f"{before}{extra}{end}{after}" if end else f"{html}{extra}"


def _version(version: str) -> Response:
    return _tagged(version, version, "text/plain")


def _tagged(text: str, tag: str, kind: str, status: int = 200) -> Response:
    """An answer with an ETag; 304 where the client has it already. An error is always sent."""
    response = Response(text, status, mimetype=kind)
    if status == 200:
        response.set_etag(tag)
        response.make_conditional(request)
    return response


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def _allowed_host(bound: str) -> Callable[[str], bool]:
    """Which Host headers are this server's: a page of another site cannot send them.

    A name that an attacker points to this machine (DNS rebinding) is in the header as a name, so
    addresses are safe; of names, only localhost, and where others may connect this machine's own.
    """
    bound = bound.strip("[]").lower()
    names = {"localhost", bound}
    is_local = is_loopback(bound)
    if not is_local:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def allowed(header: str) -> bool:
        host = header.lower()
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            port = port.removeprefix(":") if bracket else "?"
        else:
            host, _, port = host.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        return host in names or (is_loopback(host) if is_local else _is_address(host))

    return allowed


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
