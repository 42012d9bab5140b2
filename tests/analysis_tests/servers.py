"""The server of reports on a free port, and a client for it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from waitress import wasyncore

from analysis.results.load import load_results
from analysis.serve.__main__ import create_listener, create_server
from analysis.serve.reports import Render
from tests.analysis_tests.result_rows import complete_row, write_results

SPACE = """name: demo
objectives: [clean_accuracy, robust_accuracy]
tuning: {num_trials: 3, confirm: null}
"""


def study(folder: Path, num_trials: int = 2) -> Path:
    rows = [complete_row(trial, 0.9, 0.5 + trial / 10) for trial in range(num_trials)]
    write_results(folder, rows)
    (folder / "space.yaml").write_text(SPACE)
    return folder


class Renderer:
    """Stands in for the report: number of trials and rendering, of a folder and a split."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def __call__(self, folder: Path, split: str) -> str:
        self.calls.append((folder.name, split))
        if self.error is not None:
            raise self.error
        num_trials = len(load_results(folder).trials)
        policy = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'">"""
        text = f"report of {folder.name}, {split}: {num_trials} trials"
        return f"<html><head>{policy}</head><body>{text}</body></html>"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    text: str


class Client:
    """Asks a running server, one connection per request, paths as they are given."""

    def __init__(self, port: int, render: Renderer) -> None:
        self.port = port
        self.render = render

    def __call__(
        self, path: str, method: str = "GET", host: str | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Client]]:
    """Starts servers of folders on free ports; ends them."""
    started: list[tuple[Any, threading.Thread]] = []
    ending = threading.Event()

    def answer(server: Any) -> None:
        # Not the server's own loop, which nothing ends from outside without a race for its pipe.
        while not ending.is_set():
            wasyncore.loop(map=server._map, count=1)

    def start(root: Path, host: str = "127.0.0.1", render: Render | None = None) -> Client:
        own = Renderer()
        listener = create_listener("127.0.0.1", 0)
        port = listener.getsockname()[1]
        server = create_server(root, host, listener, render or own)
        thread = threading.Thread(target=answer, args=[server])
        thread.start()
        started.append((server, thread))
        return Client(port, own)

    yield start
    ending.set()
    for server, thread in started:
        server.pull_trigger()
        thread.join(10)
        assert not thread.is_alive()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(server._map, ignore_all=True)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    study(folder / "one")
    study(folder / "poster" / "curves", 3)
    (folder / "references").mkdir()
    return folder


@pytest.fixture
def get(serve: Callable[..., Client], output: Path) -> Client:
    return serve(output)
