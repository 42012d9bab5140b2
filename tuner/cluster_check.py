"""What is wrong with a cluster file of ``ray up``, found without an account or a network.

Ray's own schema comes first; then what Ray accepts and only the cloud, the bill or an intruder
would notice: see the functions named ``_check_*``.
"""

from __future__ import annotations

import copy
import difflib
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simreg_core.config_io import describe
from tuner.cluster_commands import (
    DEVELOPMENT_VERSION,
    Problem,
    check_setup_commands,
    check_start_commands,
    ray_version,
)

COMMAND_KEYS = ("initialization_commands", "setup_commands", "head_setup_commands")
START_KEYS = ("head_start_ray_commands", "worker_start_ray_commands")

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
_MORE_PROVIDER_KEYS = ("coordinator_address", "launch_multiple", "use_node_id_as_ip")

_EVERYWHERE = {"0.0.0.0/0", "::/0"}
_AWS_KEY = re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|AWS_SECRET_ACCESS_KEY=")


@dataclass(frozen=True)
class Summary:
    """What a cluster may grow to."""

    provider: str
    node_types: Sequence[str]
    min_gpus: int
    max_gpus: int


def find_problems(config: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Everything that is wrong with a cluster configuration; nothing on the machine is changed.

    Args:
        config: The file's content.
        folder: Where the file is: relative sources of file mounts start there.
    """
    # What does not fit the schema may have any shape, so nothing further can be said of it.
    if schema := list(_check_schema(config)):
        return schema
    found = list(_check_all(config, folder))
    return found or list(_check_with_ray(config))


def _check_all(config: Mapping[str, Any], folder: Path) -> Iterator[Problem]:
    yield from _check_provider_keys(config)
    yield from _check_file_sources(config, folder)
    yield from _check_workers(config)
    yield from _check_instance_types(config)
    yield from _check_security_group(config)
    yield from _check_secrets(config)
    yield from _check_defaults(config)
    version = ray_version(folder)
    yield from _check_image(config, version)
    for key, commands in setup_commands(config):
        yield from check_setup_commands(key, commands, version)
    yield from check_start_commands(config)


def summarize(config: Mapping[str, Any]) -> Summary:
    """Node types and GPUs of a configuration without problems."""
    prepared = _prepare(config)
    types = prepared["available_node_types"]
    counts = [
        (kind.get("resources", {}).get("GPU", 0), kind["min_workers"], kind["max_workers"])
        for name, kind in types.items()
        if name != prepared["head_node_type"]
    ]
    head = types[prepared["head_node_type"]].get("resources", {}).get("GPU", 0)
    free, most = prepared["max_workers"], head
    for gpus, _, workers in sorted(counts, reverse=True):
        most += gpus * min(workers, free)
        free -= min(workers, free)
    least = head + sum(gpus * workers for gpus, workers, _ in counts)
    return Summary(config["provider"]["type"], list(types), least, most)


def setup_commands(config: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Key path and commands of everything that is run before Ray starts."""
    for key in (*COMMAND_KEYS, "worker_setup_commands"):
        yield key, config.get(key, [])
    for name, kind in config.get("available_node_types", {}).items():
        for key in ("initialization_commands", "worker_setup_commands"):
            yield f"available_node_types.{name}.{key}", kind.get(key, [])


def _check_schema(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Unknown keys, wrong types and missing keys, by the schema that Ray brings."""
    import jsonschema

    errors = jsonschema.Draft7Validator(_ray_schema()).iter_errors(config)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.path]):
        path = [str(part) for part in error.path]
        if error.validator == "additionalProperties":
            allowed = error.schema.get("properties", {})
            for key in sorted(error.instance.keys() - allowed.keys()):
                yield _unknown(".".join([*path, key]), key, allowed)
        elif error.validator == "required":
            missing = next(key for key in error.validator_value if key not in error.instance)
            yield Problem(".".join([*path, missing]), "required, but not given")
        else:
            yield Problem(".".join(path), _explain(error, path))


def _explain(error: Any, path: Sequence[str]) -> str:
    found = describe(error.instance)
    if error.validator == "type":
        kinds = error.validator_value
        wanted = kinds if isinstance(kinds, str) else " or ".join(kinds)
        if len(path) > 1 and path[-2] == "resources":
            return (
                f"expected a whole number without quotes, found {found} "
                "(trials share a GPU by --gpus-per-trial)"
            )
        return f"expected {wanted}, found {found}"
    if error.validator == "minimum":
        return f"expected at least {error.validator_value}, found {found}"
    return " ".join(str(error.message).split())


def _unknown(path: str, key: str, allowed: Iterable[str]) -> Problem:
    close = difflib.get_close_matches(key, list(allowed), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return Problem(path, f"unknown key; allowed here: {', '.join(allowed)}{hint}")


def _ray_schema() -> Any:
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _check_provider_keys(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Misspelt keys below ``provider``: there Ray accepts any, so that others can add their own."""
    known = [*_ray_schema()["properties"]["provider"]["properties"], *_MORE_PROVIDER_KEYS]
    for key in config["provider"].keys() - set(known):
        if difflib.get_close_matches(key, known, n=1, cutoff=0.8):
            yield _unknown(f"provider.{key}", key, known)


def _check_file_sources(config: Mapping[str, Any], folder: Path) -> Iterator[Problem]:
    """Files to be copied that are not there; Ray would stop in the middle of ``ray up``."""
    sources = {f"file_mounts.{to}": source for to, source in config.get("file_mounts", {}).items()}
    if "ssh_private_key" in config.get("auth", {}):
        sources["auth.ssh_private_key"] = config["auth"]["ssh_private_key"]
    for path, source in sources.items():
        if not isinstance(source, str):
            yield Problem(path, f"expected a path on this machine, found {describe(source)}")
        elif not _exists(source, folder):
            hint = "; `ray get-auth-token --generate` makes it" if "auth_token" in source else ""
            yield Problem(path, f"no such file or folder: {source} (from {folder}){hint}")


def _exists(source: str, folder: Path) -> bool:
    try:
        return (folder / Path(source).expanduser()).exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, no such user
        return False


def _check_workers(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Numbers of machines that contradict each other."""
    types = config.get("available_node_types", {})
    total = config.get("max_workers", _defaults(config).get("max_workers"))
    head = config.get("head_node_type")
    if types and head not in types:
        yield Problem("head_node_type", f"expected one of {', '.join(types)}, found {head!r}")
    for name, kind in types.items():
        at = f"available_node_types.{name}"
        least, most = kind.get("min_workers", 0), kind.get("max_workers", total)
        for key, number in (("min_workers", least), ("max_workers", most)):
            if number is not None and number < 0:
                yield Problem(f"{at}.{key}", f"expected at least 0, found {number}")
        if total is not None and most is not None and most > total:
            yield Problem(
                f"{at}.max_workers", f"{most} machines, but max_workers of the cluster is {total}"
            )
        if most is not None and least > most:
            yield Problem(f"{at}.min_workers", f"{least} is more than its max_workers {most}")
    needed = sum(kind.get("min_workers", 0) for kind in types.values())
    if total is not None and needed > total:
        yield Problem("max_workers", f"{total} is less than all min_workers together, {needed}")


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


def _check_security_group(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Ports other than ssh's that are open to the world."""
    group = config["provider"].get("security_group", {})
    for index, rule in enumerate(group.get("IpPermissions", [])):
        at = f"provider.security_group.IpPermissions.{index}"
        if not isinstance(rule, dict):
            yield Problem(at, f"expected a mapping, found {describe(rule)}")
            continue
        ranges = [*_mappings(rule.get("IpRanges")), *_mappings(rule.get("Ipv6Ranges"))]
        cidrs = [str(entry.get(key)) for entry in ranges for key in ("CidrIp", "CidrIpv6")]
        ports = rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort")
        if _EVERYWHERE.intersection(cidrs) and ports != ("tcp", 22, 22):
            yield Problem(
                at,
                f"open to the world: protocol {ports[0]}, ports {ports[1]} to {ports[2]}; "
                "only ssh may be: tcp, 22 to 22",
            )


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _check_secrets(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of an AWS account: the file is copied to the head, and into repositories."""
    for path, text in _texts(config, ()):
        if _AWS_KEY.search(text):
            yield Problem(path, "a key of an AWS account; use an instance role instead")


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(path), value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, str(index)))


def _check_defaults(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Commands that the file leaves to Ray's defaults."""
    defaults = _defaults(config)
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands", *START_KEYS):
        if key not in config and (key in START_KEYS or defaults.get(key)):
            commands = " ".join(defaults.get(key) or ["ray start"])
            reason = "its default is not ours"
            if DEVELOPMENT_VERSION in commands:
                reason = f"its default installs Ray {DEVELOPMENT_VERSION}"
            elif "0.0.0.0" in commands:
                reason = "its default opens the dashboard to every network"
            yield Problem(key, f"required, but not given: {reason}")


def _check_image(config: Mapping[str, Any], version: str) -> Iterator[Problem]:
    """Images of Ray whose version is another or none."""
    docker = config.get("docker", {})
    for key in ("image", "head_image", "worker_image"):
        image = docker.get(key, "")
        name, _, tag = image.partition(":")
        if name in ("rayproject/ray", "rayproject/ray-ml") and tag.split("-")[0] != version:
            yield Problem(f"docker.{key}", f"expected Ray {version}, found {image}")


def _check_with_ray(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What Ray itself refuses once its defaults are filled in."""
    try:
        _prepare(config)
    # Ray raises nearly anything here: KeyError, AssertionError, click's exceptions.
    except Exception as err:
        reason = " ".join(str(err).split()) or type(err).__name__
        yield Problem("", f"Ray refuses the file: {reason}")


def _prepare(config: Mapping[str, Any]) -> Any:
    from ray.autoscaler._private.util import prepare_config, validate_config

    with _silence():
        prepared = prepare_config(copy.deepcopy(dict(config)))
        validate_config(prepared)
    return prepared


def _defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    from ray.autoscaler._private.providers import _get_default_config

    try:
        with _silence():
            defaults: dict[str, Any] = _get_default_config(config["provider"])
    except (NotImplementedError, ImportError, OSError):  # an unknown provider is Ray's to refuse
        return {}
    return defaults


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what Ray prints and logs while it looks at a file."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
