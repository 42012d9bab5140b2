"""What is wrong with a cluster file of ``ray up``, found without an account or a network.

Ray's own schema comes first; then what Ray accepts and only the cloud, the bill or an intruder
would notice: see the functions named ``_check_*``.
"""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simreg_core.errors import describe
from tuner.cluster_commands import START_KEYS, check_commands, ray_version
from tuner.cluster_files import exists, local_path
from tuner.cluster_packages import DEVELOPMENT_VERSION
from tuner.cluster_problem import Problem
from tuner.cluster_provider import check_provider, unknown

# What Ray takes for a kind of resource of our own if it is spelt in another way.
_RESOURCES = ("CPU", "GPU", "TPU", "memory", "object_store_memory")


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
    found = list(dict.fromkeys(_check_all(config, folder)))
    return found or list(_check_with_ray(config))


def _check_all(config: Mapping[str, Any], folder: Path) -> Iterator[Problem]:
    yield from _check_file_sources(config, folder)
    yield from _check_workers(config)
    yield from _check_resources(config)
    yield from check_provider(config, _ray_schema()["properties"]["provider"]["properties"])
    yield from _check_defaults(config)
    yield from _check_image(config, ray_version(folder))
    yield from check_commands(config, folder)


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


def _check_schema(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Unknown keys, wrong types and missing keys, by the schema that Ray brings."""
    import jsonschema

    def is_integer(_: Any, value: object) -> bool:  # Ray would count 1.0 GPUs as a float
        return isinstance(value, int) and not isinstance(value, bool)

    types = jsonschema.Draft7Validator.TYPE_CHECKER.redefine("integer", is_integer)
    validator = jsonschema.validators.extend(jsonschema.Draft7Validator, type_checker=types)
    errors = validator(_ray_schema()).iter_errors(config)
    for error in sorted(errors, key=lambda error: [str(part) for part in error.path]):
        path = [str(part) for part in error.path]
        if error.validator == "additionalProperties":
            allowed = error.schema.get("properties", {})
            for key in sorted(error.instance.keys() - allowed.keys()):
                yield unknown(".".join([*path, key]), key, allowed)
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
                f"expected a whole number without quotes or point, found {found} "
                "(trials share a GPU by --gpus-per-trial)"
            )
        return f"expected {wanted}, found {found}"
    if error.validator == "minimum":
        return f"expected at least {error.validator_value}, found {found}"
    return " ".join(str(error.message).split())


def _ray_schema() -> Any:
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _check_file_sources(config: Mapping[str, Any], folder: Path) -> Iterator[Problem]:
    """Files to be copied that are not there; Ray would stop in the middle of ``ray up``."""
    sources = {f"file_mounts.{to}": source for to, source in config.get("file_mounts", {}).items()}
    if "ssh_private_key" in config.get("auth", {}):
        sources["auth.ssh_private_key"] = config["auth"]["ssh_private_key"]
    for path, source in sources.items():
        if not isinstance(source, str):
            yield Problem(path, f"expected a path on this machine, found {describe(source)}")
        elif not exists(local_path(source, folder)):
            hint = "; `ray get-auth-token --generate` makes it" if "auth_token" in source else ""
            yield Problem(path, f"no such file or folder: {source} (from {folder}){hint}")


def _check_resources(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Resources of Ray that are spelt in another way: nothing could ever use them."""
    known = {name.lower(): name for name in _RESOURCES}
    for name, kind in config.get("available_node_types", {}).items():
        for key in map(str, kind["resources"]):
            meant = known.get(key.lower()) or known.get(key.lower().removesuffix("s"))
            if meant and key != meant:
                yield Problem(
                    f"available_node_types.{name}.resources.{key}",
                    f"unknown to Ray's scheduler; did you mean {meant!r}?",
                )


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
