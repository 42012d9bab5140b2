"""Fixtures for tests with an object store: a server on this machine that speaks like S3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simreg_core.storage.location import as_place

SECRET = "not-a-secret-but-looks-so"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """URL of an S3 server, to which the environment points, subprocesses' too."""
    moto = pytest.importorskip("moto.server", reason="needs moto: pip install '.[dev]'")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install '.[s3]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_CA_BUNDLE", raising=False)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        s3fs.S3FileSystem.clear_instance_cache()
        yield f"http://{host}:{port}"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def make_bucket(s3_server: str) -> Callable[[str], Path]:
    """Factory of buckets by their names."""
    s3fs = pytest.importorskip("s3fs")

    def make(name: str) -> Path:
        s3fs.S3FileSystem().mkdir(name)
        return as_place(f"s3://{name}")

    return make


@pytest.fixture
def bucket(make_bucket: Callable[[str], Path], request: pytest.FixtureRequest) -> Path:
    """An empty bucket of this test's own."""
    return make_bucket(f"test-{abs(hash(request.node.nodeid)):x}")
