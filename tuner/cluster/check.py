"""Find the problems of a cluster file without an account or a network.

Ray validates the file first. The other checks cover what Ray accepts but costs money or opens the
cluster to others. A problem is a pair: the dotted path of the key, and a message.
"""

from __future__ import annotations

import copy
import difflib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import ray.autoscaler
from ray.autoscaler._private.providers import _get_default_config
from ray.autoscaler._private.util import prepare_config, validate_config

from simreg_core.errors import counted, describe, one_line
from tuner.cluster.commands import check_commands
from tuner.cluster.provider import check_provider


def find_problems(config: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """All problems of a cluster file in ``folder``, to which its file mounts are relative.

    The key path of a problem is empty if Ray refuses the file as a whole.
    """
    # The other checks rely on the types that the schema guarantees.
    if found := list(_check_schema(config)):
        return found
    found = list(_check_files(config, folder))
    try:
        prepared = _prepare(config)
    # Ray raises nearly anything here: KeyError, AssertionError, click's exceptions.
    except Exception as err:
        return found or [("", f"Ray refuses the file: {one_line(err)}")]
    found += check_provider(config, prepared)
    for path, message in check_commands({**_get_default_config(config["provider"]), **config}):
        key = path.partition(".")[0]
        note = "" if key in config else f" (Ray's default, because the file has no {key})"
        found.append((path, message + note))
    return found


def describe_cluster(config: Mapping[str, Any]) -> str:
    """The provider and the largest number of workers of a configuration without problems."""
    num_workers = _prepare(config)["max_workers"]
    return f"provider {config['provider']['type']}, at most {counted(num_workers, 'worker')}"


def _check_schema(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Unknown keys, wrong types and missing keys, according to Ray's own schema."""
    file = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema = json.loads(file.read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        path = ".".join(map(str, error.path))
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for key in sorted(error.instance.keys() - known.keys()):
                yield f"{path}.{key}".lstrip("."), f"unknown key{_suggest(key, known)}"
        elif error.validator == "type":
            yield path, f"expected {error.validator_value}, found {describe(error.instance)}"
        else:
            yield path, " ".join(error.message.split())
    # Ray accepts any key of `provider` and ignores a misspelt one.
    known = [*schema["properties"]["provider"]["properties"], "aws_credentials"]
    provider = config.get("provider")
    for key in provider if isinstance(provider, dict) else ():
        if key not in known and (hint := _suggest(key, known)):
            yield f"provider.{key}", f"unknown key{hint}"


def _suggest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    return f"; did you mean {close[0]!r}?" if close else ""


def _prepare(config: Mapping[str, Any]) -> Any:
    """The configuration with Ray's defaults, validated by Ray, whose output is dropped."""
    level = logging.root.manager.disable
    logging.disable()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            prepared = prepare_config(copy.deepcopy(dict(config)))
            validate_config(prepared)
    finally:
        logging.disable(level)
    return prepared


def _check_files(config: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Missing local files, because of which `ray up` would stop after it has started the head."""
    sources = {f"file_mounts.{to}": source for to, source in config.get("file_mounts", {}).items()}
    if "ssh_private_key" in config.get("auth", {}):
        sources["auth.ssh_private_key"] = config["auth"]["ssh_private_key"]
    for path, source in sources.items():
        if not isinstance(source, str):
            yield path, f"expected a path on this machine, found {describe(source)}"
        elif not os.path.exists(folder / os.path.expanduser(source)):
            hint = "; `ray get-auth-token --generate` creates it" if "auth_token" in source else ""
            yield path, f"no such file or folder: {source} (relative to {folder}){hint}"
