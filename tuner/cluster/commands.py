"""Checks of the shell commands in a cluster file: Ray's version, authentication, open addresses.

Commands are split with ``shlex``. Loops, functions and variables are not followed.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

_HEAD, _WORKER = "head_start_ray_commands", "worker_start_ray_commands"
# Options that `ray start` needs, and the effect of leaving them out.
_START_OPTIONS = {
    _HEAD: {
        "--head": "no head starts",
        "--autoscaling-config": "no worker ever starts; use ~/ray_bootstrap_config.yaml",
    },
    _WORKER: {"--address": "the worker does not join the head"},
}
_SETUP_KEYS = ("initialization", "setup", "head_setup", "worker_setup")
_AUTH_MODES = {"token", "disabled"}

_COMMENT = re.compile(r"""('[^']*'|"(?:\\.|[^"\\])*"|\\.)|(?<!\S)\#[^\n]*""", re.DOTALL)
_SEPARATORS = ";&|()<>`\n"
_EXACT_RAY = re.compile(
    r"ray(\[[^]]*\])?\s*==\s*(?P<pin>[\w.]+)\s*(;.*)?|.*\bray-(?P<wheel>\d[^-/]*)-.*"
)
# Ray itself (but not ray-cpp or raydp), and a project folder, which brings Ray as a dependency.
_WITH_RAY = re.compile(r"ray(\[[^]]*\])?(?![\w.[-]).*|\.(\[.*)?|-e|--editable(=.*)?")
_PIN = re.compile("-c|--constraint|--no-deps")
_ANY_ADDRESS = re.compile(r"--([\w-]+[_-])?(host|ip)[= ](0\.0\.0\.0|0|::|\[::\]|\*)(?!\S)")


class Call(NamedTuple):
    """One program with its arguments, and the environment variables that are set for it."""

    words: Sequence[str]
    environment: Mapping[str, str]

    def arguments_of(self, program: str, command: str) -> Sequence[str] | None:
        """The arguments of ``program command``, also after ``sudo`` or ``python -m``; else None."""
        for index, word in enumerate(self.words):
            rest = self.words[index + 1 :]
            if re.fullmatch(rf"(.*/)?{program}", word) and command in rest:
                return rest[rest.index(command) + 1 :]
        return None


def check_commands(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All problems of the commands in a cluster file with Ray's defaults for missing keys."""
    starts = []
    for path, command in _commands(config):
        try:
            calls = list(read_calls(command))
        except ValueError as err:
            yield path, f"not a shell command: {err}"
            continue
        for call in calls:
            for message in _check_install(call):
                yield path, message
            if match := _ANY_ADDRESS.search(" ".join(call.words)):
                yield path, f"{match[0]} accepts connections from every network; use 127.0.0.1"
            key = path.partition(".")[0]
            if key in _START_OPTIONS and call.arguments_of("ray", "start") is not None:
                starts.append((key, path, call))
    yield from _check_starts(config, starts)


def _check_starts(
    config: Mapping[str, Any], starts: Sequence[tuple[str, str, Call]]
) -> Iterator[tuple[str, str]]:
    """Missing options, an autoscaler that does not work, and authentication."""
    modes = set()
    is_local = config["provider"]["type"] == "local"
    for key, path, call in starts:
        given = {word.partition("=")[0] for word in call.words}
        for option, effect in _START_OPTIONS[key].items():
            if option not in given:
                yield path, f"`ray start` without {option}: {effect}"
        if is_local and key == _HEAD and call.environment.get("RAY_enable_autoscaler_v2") != "0":
            yield path, "expected RAY_enable_autoscaler_v2=0: v2 never starts local workers"
        mode = call.environment.get("RAY_AUTH_MODE", "nothing")
        modes.add(mode)
        if mode not in _AUTH_MODES:
            yield path, f"expected RAY_AUTH_MODE=token (or disabled) for `ray start`, found {mode}"
    for key in _START_OPTIONS:
        if key not in [start[0] for start in starts]:
            yield key, "no `ray start` among the commands"
    if modes == _AUTH_MODES:
        yield _WORKER, "RAY_AUTH_MODE differs from that of the head"
    has_token = any(to.endswith(".ray/auth_token") for to in config.get("file_mounts", {}))
    if modes == {"token"} and not has_token:
        if not all("RAY_AUTH_TOKEN" in " ".join(call.environment) for _, _, call in starts):
            yield "file_mounts", "expected ~/.ray/auth_token, because RAY_AUTH_MODE=token needs it"


def read_calls(command: str, environment: Mapping[str, str] | None = None) -> Iterator[Call]:
    """The program calls of a shell command in order, including those within ``bash -c``.

    Raises:
        ValueError: a quote is not closed.
    """
    exported = dict(environment or {})
    for words in _split(command):
        assigned = dict(word.split("=", 1) for word in words if re.match(r"[A-Za-z_]\w*=", word))
        if words[0] == "export":
            exported |= assigned
        elif words[0] not in ("echo", "printf"):
            call = Call(words, exported | assigned)
            yield call
            nested = call.arguments_of("(ba)?sh", "-c") or call.arguments_of("(ba)?sh", "-lc")
            if nested:
                yield from read_calls(nested[0], call.environment)


def _split(command: str) -> Iterator[list[str]]:
    """The words between separators, without comments. A redirection also ends a call."""
    text = _COMMENT.sub(lambda match: match[1] or "", command.replace("\\\n", " "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    for is_call, words in itertools.groupby(lexer, lambda word: word.strip(_SEPARATORS) != ""):
        if is_call:
            yield list(words)


def _commands(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key path and text of every command."""
    keys = [*(f"{key}_commands" for key in _SETUP_KEYS), _HEAD, _WORKER]
    parts = {"": config}
    for name, kind in config.get("available_node_types", {}).items():
        parts[f"available_node_types.{name}."] = kind
    for prefix, part in parts.items():
        for key in keys:
            for index, command in enumerate(part.get(key, [])):
                yield f"{prefix}{key}.{index}", command


def _check_install(call: Call) -> Iterator[str]:
    """Ray in a version that differs from the installed one, or in any version."""
    version = metadata.version("ray")
    arguments = call.arguments_of(r"pip[\d.]*", "install") or ()
    exact = filter(None, map(_EXACT_RAY.fullmatch, arguments))
    found = {match["pin"] or match["wheel"] for match in exact}
    for other in found - {version}:
        yield f"installs Ray {other}, but this machine has {version}"
    is_pinned = found or "PIP_CONSTRAINT" in call.environment or any(map(_PIN.match, arguments))
    if not is_pinned and any(map(_WITH_RAY.fullmatch, arguments)):
        yield f"installs Ray in any version; expected ray=={version} or --constraint FILE"
