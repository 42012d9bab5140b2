"""What the server of reports refuses: other paths, links, methods and names of hosts."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.report.page import report_html
from analysis.serve import studies
from simreg_core.results.progress import StudyProgress, study_progress
from tests.analysis_tests.servers import SPACE, Client, get, output, serve, study

__all__ = ["get", "output", "serve"]


@pytest.mark.parametrize(
    "path",
    [
        "/study/",
        "/study/none/",
        "/study/references/",
        "/study/poster/",
        "/study/one/trials/",
        "/study/one/space.yaml",
        "/study/../../outside/",
        "/study/one/../../outside/",
        "/study/%2e%2e/outside/",
        "/study/..%2foutside/",
        "/study/%252e%252e/outside/",
        "/study/..%5coutside/",
        "/study/..",
        "/../outside/",
        "/study/%2ftmp/",
        "/study/link/",
        "/study/one%00/",
        "/study/ONE/",
        "/static/x",
        "/study/{output}/one/",
        "/study//{output}/one/",
        "//{output}/one/",
    ],
)
def test_nothing_else_is_there(path: str, get: Client, output: Path) -> None:
    study(output.parent / "outside")
    (output / "link").symlink_to(output.parent / "outside")
    path = path.format(output=output)
    answer = get(path)
    if answer.status == 308:  # a missing slash at the end
        assert answer.headers["Location"] == f"http://127.0.0.1:{get.port}{path}/"
        answer = get(f"{path}/")
    assert answer.status == 404
    assert "outside" not in get("/").text
    assert get.render.calls == []


@pytest.mark.parametrize("where", ["trials", "trials/00000.parquet", "curves"])
def test_link_inside_a_study_that_leads_outside(where: str, get: Client, output: Path) -> None:
    outside = study(output.parent / "outside")
    target = output / "one" / where
    target.rename(target.with_name("moved"))
    (output / "one" / "moved.txt").write_text("")
    target.symlink_to(outside / where)
    answer = get("/study/one/")
    assert "a link that leads out of the folder that is served" in answer.text
    assert "a link that leads out of the folder that is served" in get("/").text
    assert get("/study/one/version").status == 200
    assert get.render.calls == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_allowed(method: str, get: Client) -> None:
    for path in ("/", "/study/one/", "/nothing"):
        answer = get(path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/study/one/", "/version", "/nothing", "/static/serve.js"])
def test_security_headers(path: str, get: Client) -> None:
    headers = get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert "*" not in policy
    assert ("unsafe" in policy) == (path == "/study/one/")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers
    assert "Access-Control-Allow-Origin" not in headers


OWN = ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.2:80", "[::1]:8080", "[::1]"]
OTHERS = ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"]
OTHERS += ["", "192.0.2.1", "[::1", "localhost:80@evil.example", "[2001:db8::1]", "a:b:c"]


@pytest.mark.parametrize(("host", "status"), [(h, 200) for h in OWN] + [(h, 403) for h in OTHERS])
def test_other_names_are_refused(host: str, status: int, get: Client) -> None:
    answer = get("/", host=host or " ")
    assert answer.status == status
    assert ("/study/one/" in answer.text) == (status == 200)


def test_open_server_is_called_by_address_or_its_own_name(
    serve: Callable[..., Client], output: Path
) -> None:
    get = serve(output, host="0.0.0.0")
    for host in ("192.0.2.1:8080", "[2001:db8::1]", "localhost", socket.gethostname()):
        assert get("/", host=host).status == 200
    assert get("/", host="evil.example").status == 403


SECRET = "what-nobody-may-see"


def _hostile(folder: Path, kind: str) -> None:
    """Make a file of a study one that must not be read."""
    secret = folder.parent.parent / "secret.json"
    audit = {"weights": "w", "config_digest": "d", "clean_accuracy": 1, "num_images": 1}
    secret.write_text(json.dumps(audit | {"curves": [], "warnings": [SECRET], "phase": SECRET}))
    match kind:
        case "heartbeat":
            (folder / "heartbeat.json").symlink_to(secret)
        case "hidden audit":
            (folder / "audit").mkdir()
            (folder / "audit" / ".x.json").symlink_to(secret)
        case "hidden folder":
            (folder / "audit").mkdir()
            (folder / "audit" / "x.json").symlink_to(secret)
        case "pipe":
            for name in ("audit.json", "confirmation.json", "heartbeat.json", "driver.json"):
                os.mkfifo(folder / name)
            os.mkfifo(folder / "trials" / "00002.parquet")
        case "nested":
            for name in ("audit.json", "confirmation.json", "heartbeat.json"):
                (folder / name).write_text("[" * 100_000)
        case "nested space":
            (folder / "space.yaml").write_text("[" * 100_000)
        case "bomb":
            lists = "".join(
                f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
            )
            (folder / "space.yaml").write_text(f"a0: &a0 [x]\n{lists}")
        case "objectives":
            (folder / "space.yaml").write_text(SPACE.replace("[clean", "[[clean]], clean"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "kind",
    [
        *("heartbeat", "hidden audit", "hidden folder", "pipe", "nested", "nested space", "bomb"),
        "objectives",
    ],
)
def test_hostile_study_hides_no_other_and_shows_no_other_file(
    kind: str, serve: Callable[..., Client], output: Path
) -> None:
    _hostile(output / "one", kind)
    get = serve(output, render=report_html)
    for _ in range(2):
        index = get("/")
        assert index.status == 200
        assert "/study/one/" in index.text
        assert "poster/curves" in index.text
    assert SECRET not in index.text
    page = get("/study/one/")
    assert SECRET not in page.text
    assert "Internal error" not in page.text
    assert get("/study/one/version").status == 200
    assert get("/study/poster/curves/version").status == 200
    if kind not in ("heartbeat", "hidden audit", "nested"):
        assert 'class="problem"' in get("/").text


def test_error_of_one_study_is_its_entrys_reason(
    get: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> StudyProgress:
        if folder.name == "one":
            raise RecursionError("too deep")
        return study_progress(folder)

    monkeypatch.setattr(studies, "study_progress", fail)
    index = get("/")
    assert index.status == 200
    assert "too deep" in index.text
    assert "poster/curves" in index.text
