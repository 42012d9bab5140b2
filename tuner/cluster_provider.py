"""What is wrong with a cluster file's settings of the provider: machines, networks, keys."""

from __future__ import annotations

import difflib
import functools
import importlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from simreg_core.errors import describe
from tuner.cluster_problem import Problem

# A family with its generation, a dot, a size: g6.xlarge, p4d.24xlarge, u-6tb1.metal, m5.metal-24xl.
_AWS_TYPE = re.compile(
    r"[a-z]+[0-9a-z-]*\d[0-9a-z-]*"
    r"\.(nano|micro|small|medium|large|\d*xlarge|metal(-\d+xl)?)"
)
# A series with its generation, then its shape: g2-standard-8, n1-standard-4, a2-highgpu-1g.
_GCP_TYPE = re.compile(r"[a-z]\d+[a-z]?(-[a-z0-9]+)+")
_TYPE_KEYS = {
    "aws": ("InstanceType", _AWS_TYPE, "family.size, such as g6.xlarge"),
    "gcp": ("machineType", _GCP_TYPE, "series-kind-cpus, such as g2-standard-8"),
}

# Keys of the providers that Ray's schema does not list, but their code reads.
_MORE_PROVIDER_KEYS = (
    "aws_credentials",
    "coordinator_address",
    "launch_multiple",
    "use_node_id_as_ip",
)

# Ray's own key among EC2's in node_config.
_RAY_NODE_KEYS = ("SubnetIds",)

_WIDEST_PREFIX = 8
_SECRET_NAME = r"aws_(?:secret_access_key|session_token)"
# The name of a variable of the shell is no secret: =$VALUE, ="$VALUE".
_AWS_SECRETS = [
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(rf"{_SECRET_NAME}['\"]?\s*[=:](?!\s*['\"]?\$)", re.IGNORECASE),
    re.compile(rf"\bset\b.*{_SECRET_NAME}['\"]?\s+(?!['\"]?\$)\S", re.IGNORECASE),
]


def check_provider(config: Mapping[str, Any], known: Iterable[str]) -> Iterator[Problem]:
    """Everything that is wrong with the provider's settings.

    Args:
        config: The file's content, of Ray's schema.
        known: The keys below ``provider`` in Ray's schema.
    """
    yield from _check_keys(config, [*known, *_MORE_PROVIDER_KEYS])
    yield from _check_instance_types(config)
    yield from _check_node_config(config)
    yield from _check_security_group(config)
    yield from _check_secrets(config)


def unknown(path: str, key: str, allowed: Iterable[str]) -> Problem:
    """A key that is none of those allowed."""
    close = difflib.get_close_matches(key, list(allowed), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return Problem(path, f"unknown key; allowed here: {', '.join(allowed)}{hint}")


def _check_keys(config: Mapping[str, Any], known: Sequence[str]) -> Iterator[Problem]:
    """Misspelt keys below ``provider``: there Ray accepts any, so that others can add their own."""
    for key in config["provider"].keys() - set(known):
        if difflib.get_close_matches(key, known, n=1, cutoff=0.8):
            yield unknown(f"provider.{key}", key, known)


def _check_instance_types(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Instance types that cannot exist; whether one does exist is known to the cloud only."""
    provider = config["provider"]["type"]
    if provider not in _TYPE_KEYS:
        return
    key, pattern, form = _TYPE_KEYS[provider]
    for name, kind in config.get("available_node_types", {}).items():
        found = kind["node_config"].get(key)
        # Google also takes the address of a type, which ends in its name.
        if not isinstance(found, str) or not pattern.fullmatch(found.rpartition("/")[2]):
            yield Problem(
                f"available_node_types.{name}.node_config.{key}",
                f"expected {form}, found {describe(found)}; "
                "that the cloud has a type cannot be checked offline",
            )


def _check_node_config(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys that EC2 does not know, as far as boto3 is here to ask."""
    known = ec2_keys() if config["provider"]["type"] == "aws" else ()
    for name, kind in config.get("available_node_types", {}).items():
        for key in map(str, kind["node_config"]):
            if known and key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                yield Problem(
                    f"available_node_types.{name}.node_config.{key}",
                    "unknown to EC2's RunInstances"
                    + (f"; did you mean {close[0]!r}?" if close else ""),
                )


@functools.cache
def ec2_keys() -> Sequence[str]:
    """The parameters of an instance; none if nobody here can tell."""
    try:
        session = importlib.import_module("botocore.session").get_session()
        shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    # Without botocore, or with an account's settings that it cannot read.
    except Exception:
        return ()
    return [*shape.members, *_RAY_NODE_KEYS]


def _check_security_group(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Ports other than ssh's that are open to the world."""
    group = config["provider"].get("security_group", {})
    for index, rule in enumerate(group.get("IpPermissions", [])):
        at = f"provider.security_group.IpPermissions.{index}"
        if not isinstance(rule, dict):
            yield Problem(at, f"expected a mapping, found {describe(rule)}")
            continue
        ranges = [*_mappings(rule.get("IpRanges")), *_mappings(rule.get("Ipv6Ranges"))]
        cidrs = [entry[key] for entry in ranges for key in ("CidrIp", "CidrIpv6") if key in entry]
        ports = rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort")
        wide = [str(cidr) for cidr in cidrs if _is_wide(cidr)]
        if wide and ports != ("tcp", 22, 22):
            yield Problem(
                at,
                f"open to the world ({', '.join(wide)}): protocol {ports[0]}, ports {ports[1]} to "
                f"{ports[2]}; only ssh may be: tcp, 22 to 22",
            )


def _is_wide(cidr: object) -> bool:
    """Whether addresses are more than any network of one's own has."""
    try:
        return ipaddress.ip_network(str(cidr), strict=False).prefixlen < _WIDEST_PREFIX
    except ValueError:  # the cloud refuses it
        return False


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _check_secrets(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of an AWS account: the file is copied to the head, and into repositories."""
    for path, text in _texts(config, ()):
        if any(pattern.search(text) for pattern in _AWS_SECRETS):
            yield Problem(path, "a key of an AWS account; use an instance role instead")


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(path), f"{path[-1] if path else ''}={value}"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, str(index)))
