"""Which names a server may be called by."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable


def allowed_host(bound: str) -> Callable[[str], bool]:
    """A check of Host headers, which the page of another site cannot forge.

    ``bound`` is the address that the server is bound to.
    A name that an attacker points to this machine (DNS rebinding) reaches the header as a name, so
    addresses are safe. Of names only localhost is allowed, and this machine's own if others may
    connect.
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
        return host in names or (is_loopback(host) if is_local else _address(host) is not None)

    return allowed


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
