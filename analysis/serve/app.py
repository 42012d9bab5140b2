"""The web application behind ``analysis.serve``: index, reports, versions. It only reads.

A study's name in a URL is looked up among the studies found below the folder and never joined to a
path, so nothing else can be requested but the style and the script in ``static``.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from flask import Flask, Response, abort, render_template, request, url_for
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from analysis.serve.hosts import allowed_host
from analysis.serve.reports import Page, Render, Reports
from analysis.serve.studies import find_studies, listed_study
from simreg_core.errors import ConfigError, one_line
from simreg_core.results.schema import SPLITS

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


def create_app(root: Path, host: str, render: Render) -> Flask:
    """The application for the studies below a folder; reports are rendered one at a time.

    The address ``host`` that the server is bound to decides the names it may be called by.
    """
    app = Flask("analysis.serve")
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    allowed = allowed_host(host)

    @app.before_request
    def check() -> None:
        if not allowed(request.environ.get("HTTP_HOST", "")):
            abort(403, "This server has another name: use its address, or localhost.")
        if request.method not in METHODS:
            raise MethodNotAllowed(METHODS, "This server is read-only: GET and HEAD are allowed.")

    @app.after_request
    def secure(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Content-Security-Policy", _OWN_POLICY)
        return response

    reports = Reports(root, render)
    _add_index(app, root, reports)
    _add_studies(app, root, reports)
    app.add_url_rule("/favicon.ico", "icon", lambda: Response(status=204))
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    return app


def _add_index(app: Flask, root: Path, reports: Reports) -> None:
    @app.get("/")
    def index() -> Response:
        version = reports.index_version()
        rows = []
        for name, folder in find_studies(root).items():
            with suppress(FileNotFoundError):  # it was deleted just now
                found = listed_study(folder, root)
                problem = found.progress.problem or reports.problem(folder)
                rows.append((name, found, problem and _relative(problem, root)))
        title = root.resolve().name or str(root)
        page = render_template("page.html", title=title, rows=rows, splits=SPLITS)
        page = _refreshing(page, url_for("index_version"), version)
        return _tagged(page, version, "text/html")

    @app.get("/version")
    def index_version() -> Response:
        version = reports.index_version()
        return _tagged(version, version, "text/plain")


def _add_studies(app: Flask, root: Path, reports: Reports) -> None:
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
        except (ConfigError, OSError) as err:
            status = InternalServerError.code
            page = Page(version, _error_page(name, _relative(one_line(err), root)))
        url = url_for("study_version_of", name=name)
        html = _refreshing(page.html, url, page.version, url_for("index"))
        response = _tagged(html, f"{page.version}-{split}", "text/html", status)
        response.headers["Content-Security-Policy"] = _REPORT_POLICY
        return response

    @app.get("/study/<path:name>/version")
    def study_version_of(name: str) -> Response:
        version = reports.version(_folder(root, name))
        return _tagged(version, version, "text/plain")


def _refused(err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    html = _error_page(f"{err.code} {err.name}", err.description)
    response = Response(html, err.code, mimetype="text/html")
    if isinstance(err, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(METHODS)
    return response


def _failed(err: Exception) -> Response:
    _log.error("%s: %s", request.path, err, exc_info=err)
    what = f"This page could not be made: {one_line(err)}"
    html = _error_page("Internal error", what)
    return Response(html, InternalServerError.code, mimetype="text/html")


def _error_page(title: str, message: str | None) -> str:
    return render_template("page.html", title=title, message=message or title)


def _folder(root: Path, name: str) -> Path:
    folder = find_studies(root).get(name)
    if folder is None:
        abort(404, "No such study here.")
    return folder


def _relative(message: str, root: Path) -> str:
    """A message without the place of the folder on this machine."""
    return message.replace(f"{root}{os.sep}", "")


def _refreshing(html: str, url: str, version: str, index: str = "") -> str:
    """A page that asks ``url`` for its version and reloads when it has changed.

    A report that is a file states its policy in its head; here a header does, which lets it ask
    this server for the version and is otherwise the same.
    """
    script = render_template("refresher.html", url=url, version=version, index=index)
    before, end, after = _OWN_META.sub("", html, count=1).rpartition("</body>")
    return f"{before}{script}{end}{after}"


def _tagged(text: str, tag: str, kind: str, status: int = 200) -> Response:
    """An answer with an ETag; 304 where the client has it already. An error is always sent."""
    response = Response(text, status, mimetype=kind)
    if status == 200:
        response.set_etag(tag)
        response.make_conditional(request)
    return response
