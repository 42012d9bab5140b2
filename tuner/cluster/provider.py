"""Checks of machines, images, open ports and secrets in a cluster file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

_SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
_RESOURCES = ("CPU", "GPU", "TPU", "memory", "object_store_memory")
# A block of addresses with a shorter prefix than /8 is larger than any private network.
_PUBLIC_BLOCK = re.compile(r"\w+=[\da-fA-F.:]+/[0-7]")
_RAY_IMAGE = re.compile(r"\w*image=rayproject/ray(-ml)?(:(?P<version>[^-]*).*)?")
# A value that starts with $ or ` comes from the environment or a command: it is not in the file.
_SECRET = re.compile(
    r"""\b(AKIA|ASIA)[0-9A-Z]{16}\b
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY
    | ://[^/\s:@]*:[^/\s:@$`]+@
    | (?i:aws_(secret_access_key|session_token))['"]?\s*[=:]\s*['"]?[^\s'"$`]
    | \bset\s+\S*aws_(secret_access_key|session_token)\s+['"]?[^\s'"$`]
    | \b[A-Z_]*(SECRET|TOKEN|PASSWORD|API_KEY)=['"]?[^\s'"$`]""",
    re.VERBOSE,
)


def check_provider(
    config: Mapping[str, Any], prepared: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """All problems of node types and provider settings, and secrets anywhere in the file.

    ``prepared`` is ``config`` with Ray's defaults.
    """
    for name, kind in prepared["available_node_types"].items():
        for path, message in _check_node_type(kind, prepared["max_workers"]):
            yield f"available_node_types.{name}{path}", message
    yield from _check_security_group(config["provider"].get("security_group", {}))
    for path, text in _texts(config, ()):
        image = _RAY_IMAGE.fullmatch(text)
        if image and image["version"] != metadata.version("ray"):
            yield path, f"expected an image of Ray {metadata.version('ray')}, found {text}"
        if _SECRET.search(text):
            yield path, "contains a secret, and Ray copies this file to the head of the cluster"


def _check_node_type(kind: Mapping[str, Any], total: int) -> Iterator[tuple[str, str]]:
    least, most = kind.get("min_workers", 0), kind.get("max_workers", total)
    if not 0 <= least <= most <= total:
        expected = f"expected 0 <= min_workers <= max_workers <= {total} (max_workers of all types)"
        yield "", f"{expected}, found min_workers {least} and max_workers {most}"
    known = {resource.lower(): resource for resource in _RESOURCES}
    for key in kind["resources"]:
        meant = known.get(key.lower()) or known.get(key.lower().removesuffix("s"), key)
        if key != meant:
            yield f".resources.{key}", f"unknown to Ray; did you mean {meant!r}?"


def _check_security_group(group: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Ports other than ssh that are open to the Internet."""
    for index, rule in enumerate(group.get("IpPermissions", [])):
        is_ssh = isinstance(rule, dict) and _SSH.items() <= rule.items()
        for path, text in _texts(rule, ("provider", "security_group", "IpPermissions", str(index))):
            if _PUBLIC_BLOCK.fullmatch(text) and not is_ssh:
                yield path, "open to the Internet; only ssh (tcp port 22) may be"


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The dotted path of every text in ``value``, and the text as ``key=text``."""
    if isinstance(value, str):
        yield ".".join(path), f"{path[-1]}={value}"
    elif isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _texts(item, (*path, str(key)))
