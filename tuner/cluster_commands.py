"""What is wrong with the shell commands of a cluster file: versions, authentication, open ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tuner.cluster_files import Machine
from tuner.cluster_packages import check_installs, missing
from tuner.cluster_problem import Problem
from tuner.cluster_shell import Call, options_of, read_calls

AUTH_MODES = ("token", "disabled")
TOKEN_FILE = "~/.ray/auth_token"
HEAD_START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"
START_KEYS = (HEAD_START, WORKER_START)

_COMMAND_KEYS = (
    *("initialization_commands", "setup_commands", "head_setup_commands"),
    "worker_setup_commands",
)
_HOST_OPTION = re.compile(r"--[a-z-]*(host|ip-address)")
# All spellings of the address that means every network: 0.0.0.0, 0, ::, [::], and of no address.
_ANY_HOST = re.compile(r"\[?[0x.:]*\]?|\*")
_HEAD_OPTIONS = {
    "--head": "then it is no head",
    "--autoscaling-config": "then no worker ever starts; "
    "expected --autoscaling-config=~/ray_bootstrap_config.yaml",
}


def ray_version(folder: Path) -> str:
    """Ray's version that ``constraints.txt`` in ``folder`` pins, else the installed one."""
    try:
        text = (folder / "constraints.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    pinned = re.search(r"^ray==(\S+)", text, re.MULTILINE)
    return pinned[1] if pinned else metadata.version("ray")


def check_commands(config: Mapping[str, Any], folder: Path) -> Iterator[Problem]:
    """Everything that is wrong with the commands of a cluster file.

    Args:
        config: The file's content, of Ray's schema.
        folder: Where the file is.
    """
    machine, version = Machine(config, folder), ray_version(folder)
    starts: dict[str, list[tuple[str, Call]]] = {}
    for key, commands in _commands(config):
        for index, command in enumerate(commands):
            at = f"{key}.{index}"
            try:
                calls = list(read_calls(command))
            except ValueError as err:
                yield Problem(at, f"not a shell command: {err}")
                continue
            for call in calls:
                machine.note(call)
                yield from check_installs(at, call, machine, version)
                yield from (missing(at, place) for place in machine.missing_of_words(call))
                if key in START_KEYS:
                    yield from _check_hosts(at, call)
                    starts.setdefault(key, []).extend((at, start) for start in _ray_start(call))
    yield from _check_starts(config, starts)
    yield from _check_modes(starts, has_token=machine.has(TOKEN_FILE))


def _commands(config: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Key path and commands of all that is run, in the order in which it is run."""
    for key in _COMMAND_KEYS:
        yield key, config.get(key, [])
    for name, kind in config.get("available_node_types", {}).items():
        for key in ("initialization_commands", "worker_setup_commands"):
            yield f"available_node_types.{name}.{key}", kind.get(key, [])
    for key in START_KEYS:
        yield key, config.get(key, [])


def _ray_start(call: Call) -> Iterator[Call]:
    """The call if it is ``ray start``, else nothing."""
    for reading in call.readings():
        if reading.words[:2] in (["ray", "start"], ["ray.scripts.scripts", "start"]):
            yield reading
            return


def _check_hosts(at: str, call: Call) -> Iterator[Problem]:
    """Servers that listen on every network."""
    following = [*call.words[1:], "-"]
    for word, after in zip(call.words, following, strict=True):
        name, equals, value = word.partition("=")
        name, host = name.replace("_", "-"), value if equals else after
        if _HOST_OPTION.fullmatch(name) and _ANY_HOST.fullmatch(host):
            yield Problem(
                at, f"{name} {host or repr(host)} listens on every network; use 127.0.0.1"
            )


def _check_starts(
    config: Mapping[str, Any], starts: Mapping[str, Sequence[tuple[str, Call]]]
) -> Iterator[Problem]:
    """Starts of Ray that are not there, or whose head starts no workers."""
    for key in START_KEYS:
        if key in config and not starts.get(key):
            yield Problem(key, "no `ray start` among the commands")
    for at, call in starts.get(HEAD_START, ()):
        options = {name for name, _ in options_of(call.words)[0]}
        for option, reason in _HEAD_OPTIONS.items():
            if option not in options:
                yield Problem(at, f"`ray start` without {option}: {reason}")
        is_old = call.environment.get("RAY_enable_autoscaler_v2", "").lower() in ("0", "false")
        if config["provider"]["type"] == "local" and not is_old:
            yield Problem(
                at,
                "expected RAY_enable_autoscaler_v2=0 before `ray start`: "
                "the newer autoscaler never starts the workers of a list",
            )


def _check_modes(
    starts: Mapping[str, Sequence[tuple[str, Call]]], *, has_token: bool
) -> Iterator[Problem]:
    """Authentication that is unstated or differs, and a token that not all machines have."""
    allowed = " or ".join(f"RAY_AUTH_MODE={name}" for name in AUTH_MODES)
    modes: dict[str, str] = {}
    for key, calls in starts.items():
        for at, call in calls:
            mode = call.environment.get("RAY_AUTH_MODE")
            if mode is None:
                yield Problem(at, f"RAY_AUTH_MODE is not stated; expected {allowed}")
            elif mode not in AUTH_MODES:
                yield Problem(at, f"expected {allowed}, found RAY_AUTH_MODE={mode}")
            else:
                modes[key] = mode
    if len(set(modes.values())) > 1:
        stated = ", ".join(f"{key} {mode}" for key, mode in modes.items())
        yield Problem(WORKER_START, f"RAY_AUTH_MODE differs: {stated}")
    own = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    all_calls = [call for calls in starts.values() for _, call in calls]
    has_token = has_token or all(own & call.environment.keys() for call in all_calls)
    if len(set(modes.values())) == 1 and "token" in modes.values() and not has_token:
        yield Problem(
            "file_mounts",
            f"RAY_AUTH_MODE=token needs the token on all machines: mount {TOKEN_FILE}",
        )
