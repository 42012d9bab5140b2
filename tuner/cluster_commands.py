"""What is wrong with the shell commands of a cluster file: versions, authentication, open ports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

DEVELOPMENT_VERSION = "3.0.0.dev0"
AUTH_MODES = ("token", "disabled")
TOKEN_FILE = "~/.ray/auth_token"

_SEPARATORS = {";", "&&", "||", "|", "&", "(", ")", "\n"}
_CONSTRAINING = {"-c", "--constraint", "-r", "--requirement"}
_PROJECT = {"-e", "--editable"}
_WITH_VALUE = {
    *("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-t", "--target"),
    *("--python", "--prefix", "--root", "--timeout", "--retries", "--cache-dir", "--proxy"),
    *("--trusted-host", "--upgrade-strategy", "--platform", "--only-binary", "--no-binary"),
}
_HOST_OPTION = re.compile(
    r"(--[a-z-]*(?:host|ip-address))[= ]+['\"]?(0\.0\.0\.0|\[?::\]?|\*)(?![\w:.])"
)
_AUTH_MODE = re.compile(r"\bRAY_AUTH_MODE=['\"]?([\w-]*)")
_RAY_WHEEL = re.compile(r"\bray-(\d[^-/]*)-cp")


@dataclass(frozen=True)
class Problem:
    """One mistake: the dotted path of its key, and what was found and is allowed."""

    path: str
    message: str


def ray_version(folder: Path) -> str:
    """Ray's version that ``constraints.txt`` in ``folder`` pins, else the installed one."""
    try:
        text = (folder / "constraints.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    pinned = re.search(r"^ray==(\S+)", text, re.MULTILINE)
    return pinned[1] if pinned else metadata.version("ray")


def check_setup_commands(key: str, commands: Sequence[str], version: str) -> Iterator[Problem]:
    """Packages whose version is left to chance, and Ray in another version than ours.

    Args:
        key: Path of the list of commands.
        commands: Shell commands.
        version: Ray's version.
    """
    for index, command in enumerate(commands):
        at = f"{key}.{index}"
        try:
            calls = list(_simple_commands(command))
        except ValueError as err:
            yield Problem(at, f"not a shell command: {str(err).lower()}")
            continue
        for call in calls:
            arguments = _pip_install(call)
            if arguments is not None:
                yield from _check_install(at, arguments, version)


def _simple_commands(command: str) -> Iterator[list[str]]:
    """The words of each command between separators.

    Raises:
        ValueError: quotes are not closed.
    """
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in _SEPARATORS:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _pip_install(words: Sequence[str]) -> Sequence[str] | None:
    """The arguments of ``pip install``, or None if ``words`` is another command."""
    for index, word in enumerate(words[:-1]):
        if re.fullmatch(r"(.*/)?pip[\d.]*", word) and "install" in words[index + 1 :]:
            return words[words.index("install", index) + 1 :]
    return None


def _check_install(at: str, arguments: Sequence[str], version: str) -> Iterator[Problem]:
    is_constrained, packages = False, []
    words = iter(arguments)
    for word in words:
        option, equals, _ = word.partition("=")
        if option in _CONSTRAINING or word == "--no-deps":
            is_constrained = True
        if option in _PROJECT:
            packages.append(next(words, "") if not equals else word)
        elif option in _CONSTRAINING | _WITH_VALUE and not equals:
            next(words, None)
        elif not word.startswith("-") and word not in ("<", ">", ">>"):
            packages.append(word)
    for package in packages:
        yield from _check_package(at, package, version, is_constrained=is_constrained)


def _check_package(
    at: str, package: str, version: str, *, is_constrained: bool
) -> Iterator[Problem]:
    requirement = package.replace(" ", "")
    name = re.split(r"[\[=<>!~@;]", requirement, maxsplit=1)[0]
    pinned = re.search(r"==([^,;*]+)(?![^;]*\*)", requirement)
    wheel = _RAY_WHEEL.search(requirement)
    found = wheel[1] if wheel else pinned[1] if pinned and name.lower() == "ray" else None
    if found is not None:
        if found != version:
            yield Problem(at, f"Ray {found}, but {version} is expected, as on this machine")
    elif DEVELOPMENT_VERSION in requirement:
        yield Problem(at, f"a development version: {package}; Ray {version} is expected")
    elif not is_constrained and not pinned and not _is_exact_file(requirement):
        yield Problem(at, f"{package} in any version; expected NAME==VERSION or --constraint FILE")


def _is_exact_file(requirement: str) -> bool:
    return requirement.partition("#")[0].endswith((".whl", ".tar.gz", ".zip"))


def check_start_commands(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Authentication that is unstated or differs, and servers open to every network."""
    modes: dict[str, str] = {}
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = config.get(key)
        if commands is None:
            continue  # reported as not given
        starts = [(i, text) for i, text in enumerate(commands) if re.search(r"\bray\s+start", text)]
        if not starts:
            yield Problem(key, "no `ray start` among the commands")
        for index, text in enumerate(commands):
            for option, host in _HOST_OPTION.findall(text):
                yield Problem(
                    f"{key}.{index}", f"{option} {host} listens on every network; use 127.0.0.1"
                )
        for index, text in starts:
            mode = _AUTH_MODE.search(text)
            allowed = " or ".join(f"RAY_AUTH_MODE={name}" for name in AUTH_MODES)
            if mode is None:
                yield Problem(f"{key}.{index}", f"RAY_AUTH_MODE is not stated; expected {allowed}")
            elif mode[1] not in AUTH_MODES:
                yield Problem(f"{key}.{index}", f"expected {allowed}, found {mode[0]}")
            else:
                modes[key] = mode[1]
    if len(set(modes.values())) > 1:
        stated = ", ".join(f"{key} {mode}" for key, mode in modes.items())
        yield Problem("worker_start_ray_commands", f"RAY_AUTH_MODE differs: {stated}")
    elif "token" in modes.values() and not _distributes_token(config):
        yield Problem(
            "file_mounts",
            f"RAY_AUTH_MODE=token needs the token on all machines: mount {TOKEN_FILE}",
        )


def _distributes_token(config: Mapping[str, Any]) -> bool:
    starts = [
        *config.get("head_start_ray_commands", []),
        *config.get("worker_start_ray_commands", []),
    ]
    return TOKEN_FILE in config.get("file_mounts", {}) or all(
        "RAY_AUTH_TOKEN" in text for text in starts if re.search(r"\bray\s+start", text)
    )
