"""The server of reports, asked over real connections; the report itself is a stub."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from analysis.results.load import ResultsError
from analysis.serve.__main__ import create_listener, main, url
from simreg_core.errors import ConfigError
from simreg_core.storage.location import storage_of
from tests.analysis_tests.programs import assert_refused
from tests.analysis_tests.result_rows import complete_row, write_part
from tests.analysis_tests.servers import Client, Renderer, get, output, serve, study

__all__ = ["get", "output", "serve"]


def test_index_lists_all_studies(get: Client) -> None:
    answer = get("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    text = " ".join(answer.text.split())
    assert '<a href="/study/one/">one</a>' in text
    assert '<a href="/study/poster/curves/">poster/curves</a>' in text
    # Scores of (0.9, 0.6) and (0.9, 0.7) against the baseline of (0.92, 0.42).
    for part in ("stopped", "2 of 3", "+0.160 (trial 1)", "finished", "3 of 3", "+0.260 (trial 2)"):
        assert part in text
    assert "references" not in text


def test_study_shows_its_report(get: Client) -> None:
    assert "report of one, validation: 2 trials" in get("/study/one/").text
    assert "report of curves, test: 3 trials" in get("/study/poster/curves/?split=test").text


def test_served_folder_can_be_a_study(serve: Callable[..., Client], output: Path) -> None:
    get = serve(output / "one")
    assert "/study/one/" in get("/").text
    assert get("/study/one/").status == 200


def test_report_is_kept_until_a_file_changes(get: Client, output: Path) -> None:
    for _ in range(3):
        get("/study/one/")
    assert get.render.calls == [("one", "validation")]
    before = get("/study/one/version")
    write_part(output / "one", "trials", "00002.parquet", [complete_row(2, 0.8, 0.8)])
    assert get("/study/one/version").text != before.text
    assert "3 trials" in get("/study/one/").text
    assert len(get.render.calls) == 2


def test_page_says_which_version_it_shows(get: Client) -> None:
    version = get("/study/one/version").text
    page = get("/study/one/").text
    assert f'data-url="/study/one/version" data-version="{version}"' in page
    assert page.endswith("</body></html>")
    assert "Content-Security-Policy" not in page  # a header has it, with the right to ask
    assert f'data-version="{get("/version").text}"' in get("/").text


def test_unchanged_is_told_in_a_word(get: Client) -> None:
    for path in ("/", "/version", "/study/one/", "/study/one/version", "/static/serve.js"):
        tag = get(path).headers["ETag"]
        again = get(path, If_None_Match=tag)
        assert (again.status, again.text) == (304, ""), path


def test_heartbeat_makes_no_new_report(get: Client, output: Path) -> None:
    (output / "one" / "heartbeat.json").write_text('{"phase": "trials", "updated_at": 1}')
    before = get("/study/one/version").text
    (output / "one" / "heartbeat.json").write_text('{"phase": "trials", "updated_at": 2}')
    (output / "one" / "study.journal").write_text("more")
    (output / "one" / "trials" / ".00009.tmp").write_text("half")
    assert get("/study/one/version").text == before


@pytest.mark.parametrize(
    "place", ["audit-00001.json", "audits/1.json", "checkpoints/00001/a.json", "confirmation.json"]
)
def test_audits_and_confirmations_make_a_new_report(place: str, get: Client, output: Path) -> None:
    before = get("/study/one/version").text
    path = output / "one" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert get("/study/one/version").text != before


def test_running_search_is_seen_and_its_end_too(get: Client, output: Path) -> None:
    folder = output / "one"
    (folder / "heartbeat.json").write_text('{"phase": "trials"}')
    stopped = get("/version").text
    with storage_of(folder).lock(folder / "heartbeat.json"):
        running = get("/version").text
        version = get("/study/one/version").text
        assert '<span class="running">running</span>: trials' in get("/").text
    assert running != stopped
    assert get("/version").text == stopped
    assert get("/study/one/version").text != version
    assert "running" not in get("/").text


def test_looking_at_a_study_writes_nothing(get: Client, output: Path) -> None:
    def files() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in output.rglob("*"))

    before = files()
    for path in ("/", "/version", "/study/one/", "/study/one/version"):
        get(path)
    assert files() == before


def test_damaged_study_shows_its_error(get: Client, output: Path) -> None:
    (output / "one" / "trials" / "00001.parquet").write_bytes(b"<script>alert(1)</script>")
    answer = get("/study/one/")
    assert answer.status == 500
    assert "00001.parquet: not a readable Parquet file" in answer.text
    assert "data-version" in answer.text
    index = get("/").text
    assert "one/trials/00001.parquet: not a readable Parquet file" in index
    assert str(output) not in index + answer.text
    assert "unknown" in index
    (output / "one" / "trials" / "00001.parquet").unlink()
    assert "report of one, validation: 1 trials" in get("/study/one/").text


def test_report_that_cannot_be_made_is_said_in_the_index_until_a_file_changes(
    get: Client, output: Path
) -> None:
    before = get("/version").text
    curves = output / "one" / "curves" / "00001.parquet"
    get.render.error = ResultsError(f"{curves}: not a readable\nParquet file")
    assert get("/study/one/?split=test").status == 500
    said = "no test report: one/curves/00001.parquet: not a readable Parquet file"
    assert said in get("/").text
    assert get("/version").text != before
    get.render.error = None
    assert get("/study/one/").status == 200
    assert said in get("/").text  # of the other split
    curves.write_bytes(b"changed")
    assert said not in get("/").text


def test_damaged_space_file_is_said_in_the_index(get: Client, output: Path) -> None:
    (output / "one" / "space.yaml").write_text("tuning: [")
    index = get("/")
    assert index.status == 200
    assert "not valid YAML" in index.text
    (output / "one" / "space.yaml").write_text("tuning: [1]")
    assert "2 of ?" in " ".join(get("/").text.split())


def test_report_that_cannot_be_made_does_not_end_the_server(
    get: Client, caplog: pytest.LogCaptureFixture
) -> None:
    get.render.error = TypeError("a <b> is missing")
    answer = get("/study/one/")
    assert answer.status == 500
    assert "could not be made: a &lt;b&gt; is missing" in answer.text
    assert "TypeError" in caplog.text
    get.render.error = None
    assert get("/study/one/").status == 200


def test_names_are_shown_as_they_are(serve: Callable[..., Client], tmp_path: Path) -> None:
    study(tmp_path / "o" / "a & <b> é?#%")
    get = serve(tmp_path / "o")
    page = get("/").text
    assert "a &amp; &lt;b&gt; é?#%" in page
    assert "<b>" not in page
    link = page.partition('<a href="')[2].partition('"')[0]
    assert "report of a & <b>" in get(link.replace("&amp;", "&")).text


def test_studies_that_come_and_go(get: Client, output: Path) -> None:
    before = get("/version").text
    new = study(output / "new")
    assert get("/study/new/").status == 200
    assert get("/version").text != before
    for path in sorted(new.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert get("/study/new/").status == 404
    assert get("/version").text == before


def test_empty_folder(serve: Callable[..., Client], tmp_path: Path) -> None:
    assert "There is no study here yet" in serve(tmp_path)("/").text


def test_head_has_no_body(get: Client) -> None:
    answer = get("/study/one/", "HEAD")
    assert (answer.status, answer.text) == (200, "")


def test_unknown_split(get: Client) -> None:
    answer = get("/study/one/?split=train")
    assert answer.status == 400
    assert "allowed: validation, test" in answer.text


def test_requests_at_once_render_once(get: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(get, ["/study/one/"] * 8))
    assert [answer.status for answer in answers] == [200] * 8
    assert len(get.render.calls) == 1


def test_port_that_is_taken(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        message = f"--port: {port} is taken on 127.0.0.1"
        assert_refused(main, [output, "--port", port], message, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["OUTPUT", "--port", "65536"], "--port: expected at most 65535, found '65536'"),
        (["OUTPUT", "--host", "192.0.2.1"], "--host: 192.0.2.1: cannot listen there"),
        (["OUTPUT", "--host", "a..b"], "--host: 'a..b' is no address"),
        (["NOWHERE"], "no such folder"),
    ],
    ids=["port", "host", "name", "folder"],
)
def test_bad_option_is_one_line(
    options: list[str], message: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"OUTPUT": str(output), "NOWHERE": str(output / "nowhere")}
    assert_refused(main, [places.get(option, option) for option in options], message, capsys)


def test_address_for_a_browser() -> None:
    assert url("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert url("::1", 81) == "http://[::1]:81/"
    assert url("0.0.0.0", 82) == f"http://{socket.gethostname()}:82/"


def test_listener_on_a_port_that_needs_rights() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may listen everywhere")
    with pytest.raises(ConfigError, match="above 1023"):
        create_listener("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("how", "host", "warns"),
    [(signal.SIGINT, "127.0.0.1", False), (signal.SIGTERM, "0.0.0.0", True)],
)
def test_command_serves_until_interrupted(
    how: signal.Signals, host: str, warns: bool, output: Path
) -> None:
    # A job in the background ignores Ctrl-C, and so would its children: a handler does not pass on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "analysis.serve", str(output), "--port", "0", "--host", host]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = int(said.partition("//")[2].partition(":")[2].partition("/")[0])
        assert f"serving the reports of {output} at http://" in said
        assert Client(port, Renderer())("/").status == 200
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    lines = err.splitlines()
    assert lines[-1] == "analysis.serve: interrupted; no longer serving"
    assert len(lines) == 1 + warns
    assert not warns or "without a password" in lines[0]
