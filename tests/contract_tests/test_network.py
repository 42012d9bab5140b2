from __future__ import annotations

import socket
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("family", "address"),
    [
        pytest.param(socket.AF_INET, ("192.0.2.1", 80), id="ipv4"),
        pytest.param(socket.AF_INET, ("example.org", 80), id="name"),
        pytest.param(socket.AF_INET6, ("2001:db8::1", 80), id="ipv6"),
    ],
)
def test_tests_cannot_reach_the_network(
    family: socket.AddressFamily, address: tuple[str, int]
) -> None:
    with socket.socket(family) as client, pytest.raises(PermissionError, match=address[0]):
        client.connect(address)


@pytest.mark.parametrize("is_local_file", [False, True], ids=["loopback", "unix"])
def test_tests_can_reach_this_machine(is_local_file: bool, tmp_path: Path) -> None:
    family = socket.AF_UNIX if is_local_file else socket.AF_INET
    with socket.socket(family) as server, socket.socket(family) as client:
        server.bind(str(tmp_path / "s") if is_local_file else ("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"hello")
            assert client.recv(5) == b"hello"
