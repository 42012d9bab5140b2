"""Commands of a cluster file that install packages: is every version stated?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tuner.cluster_files import Machine
from tuner.cluster_problem import Problem
from tuner.cluster_shell import Call, options_of

DEVELOPMENT_VERSION = "3.0.0.dev0"

_PYTHON_VALUES = {
    *("-c", "--constraint", "--constraints", "-r", "--requirement", "--requirements", "-e"),
    *("--editable", "-i", "--index-url", "--extra-index-url", "--index", "--default-index", "-f"),
    *("--find-links", "-t", "--target", "-p", "--python", "--prefix", "--root", "--timeout"),
    *("--retries", "--cache-dir", "--proxy", "--trusted-host", "--upgrade-strategy", "--platform"),
    *("--only-binary", "--no-binary", "--progress-bar", "--config-settings", "-C", "--report"),
    *("--log", "--abi", "--implementation", "--python-version", "--src", "--cert", "--group"),
    *("--client-cert", "--exists-action", "--use-feature", "--root-user-action", "--extra"),
    *("--keyring-provider", "--pip-args", "--suffix", "--tag", "--branch", "--rev", "--with"),
    *("--directory", "--project", "--torch-backend", "--index-strategy", "--link-mode"),
}
_CONDA_VALUES = {"-c", "--channel", "-n", "--name", "-p", "--prefix", "--file", "--solver"}
_CONSTRAINTS = {"-c", "--constraint", "--constraints"}
_REQUIREMENTS = {"-r", "--requirement", "--requirements", "--file"}
_EDITABLE = {"-e", "--editable"}


_CONSTRAINING_VARIABLES = ("PIP_CONSTRAINT", "UV_CONSTRAINT")

_PYTHON = [
    *(["pip", "install"], ["uv", "pip", "install"], ["uv", "add"], ["uv", "tool", "install"]),
    ["pipx", "install"],
]
_CONDA = [
    [program, command]
    for program in ("conda", "mamba", "micromamba")
    for command in ("install", "create")
]
_RAY_WHEEL = re.compile(r"\bray-(\d[^-/]*)-cp")
_ALONE = re.compile(r"@|[=<>!~]=|===")


def check_installs(at: str, call: Call, machine: Machine, version: str) -> Iterator[Problem]:
    """Packages whose version is left to chance, and Ray in another version than ours.

    Args:
        at: Path of the command.
        call: One call in it.
        machine: The files that are there when it runs.
        version: Ray's version.
    """
    for reading in call.readings():
        if not reading.words:
            continue
        program = re.sub(r"^pip[\d.]+$", "pip", reading.words[0])
        for commands, with_value in ((_PYTHON, _PYTHON_VALUES), (_CONDA, _CONDA_VALUES)):
            options, others = options_of(reading.words[1:], with_value)
            words = [program, *others]
            for command in commands:
                if words[: len(command)] == command:
                    install = _Install(
                        at, reading, options, words[len(command) :], machine, version
                    )
                    yield from install.problems()
                    return


def missing(at: str, place: str) -> Problem:
    """A file or folder that a command needs and that is not on the machine."""
    return Problem(at, f"no file mount brings {place}")


class _Install:
    """One call that installs."""

    def __init__(
        self,
        at: str,
        call: Call,
        options: Sequence[tuple[str, str]],
        packages: Sequence[str],
        machine: Machine,
        version: str,
    ) -> None:
        self._at, self._call, self._machine, self._version = at, call, machine, version
        self._packages = [*_values(options, _EDITABLE), *packages]
        self._requirements = _values(options, _REQUIREMENTS)
        self._is_conda = [call.words[0]] in [command[:1] for command in _CONDA]
        # conda's -c is a channel.
        self._constraints = [] if self._is_conda else _values(options, _CONSTRAINTS)
        for name in _CONSTRAINING_VARIABLES:
            self._constraints += call.environment.get(name, "").split()
        self._has_no_dependencies = any(name == "--no-deps" for name, _ in options)

    def problems(self) -> Iterator[Problem]:
        for file in self._constraints:
            if self._lacks(place := self._place(file)):
                yield missing(self._at, place)
        for file in self._requirements:
            yield from self._check_requirements(file)
        if any(_ALONE.fullmatch(word) for word in self._packages):
            words = " ".join(self._packages)
            yield Problem(self._at, f"a requirement with spaces needs quotes: {words}")
            return
        for package in self._packages:
            yield from self._check_package(package)

    def _place(self, path: str) -> str:
        return path if "://" in path else self._machine.place(path, self._call.folder)

    def _lacks(self, place: str) -> bool:
        return "://" not in place and "$" not in place and not self._machine.has(place)

    def _check_requirements(self, file: str) -> Iterator[Problem]:
        place = self._place(file)
        if self._lacks(place):
            yield missing(self._at, place)
        elif not self._constraints:
            text = None if place.endswith(".toml") else self._machine.read(place)
            if text is None:
                message = f"the versions in {place} cannot be seen from here"
                yield Problem(self._at, f"{message}; expected --constraint FILE too")
            else:
                found = list(self._check_lines(text))
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                for problem in found[:1]:
                    yield Problem(self._at, f"{place}: {problem.message}{more}")

    def _check_lines(self, text: str) -> Iterator[Problem]:
        lines = [
            re.sub(r"(^|\s)#.*|\s--hash=.*|\\$", "", line).strip() for line in text.split("\n")
        ]
        if not any(line.startswith(tuple(_CONSTRAINTS)) for line in lines):
            for line in lines:
                if line and not line.startswith("--"):
                    yield from self._check_package(line)

    def _check_package(self, package: str) -> Iterator[Problem]:
        requirement = package.replace(" ", "")
        if self._is_conda:  # NAME=VERSION
            requirement = re.sub(r"(?<![=<>!~])=(?!=)", "==", requirement, count=1)
        name = re.split(r"[\[=<>!~@;]", requirement, maxsplit=1)[0]
        pinned = re.search(r"==([^,;*]+)(?![^;]*\*)", requirement)
        wheel = _RAY_WHEEL.search(requirement)
        is_ray = pinned is not None and name.lower() == "ray"
        found = wheel[1] if wheel else pinned[1] if pinned and is_ray else None
        if found is not None:
            if found != self._version:
                yield Problem(
                    self._at, f"Ray {found}, but {self._version} is expected, as on this machine"
                )
        elif DEVELOPMENT_VERSION in requirement:
            yield Problem(
                self._at, f"a development version: {package}; Ray {self._version} is expected"
            )
        elif pinned or _is_exact(requirement):
            return
        elif _is_local(package) and (lacking := self._missing_of_project(package)):
            yield missing(self._at, lacking)
        elif not self._constraints and not (_is_local(package) and self._has_no_dependencies):
            expected = "NAME=VERSION" if self._is_conda else "NAME==VERSION or --constraint FILE"
            yield Problem(self._at, f"{package} in any version; expected {expected}")

    def _missing_of_project(self, package: str) -> str | None:
        place = self._place(re.sub(r"\[[^]]*\]$", "", package))
        return None if "$" in place else self._machine.missing_of_project(place)


def _values(options: Sequence[tuple[str, str]], names: set[str]) -> list[str]:
    return [value for name, value in options if name in names]


def _is_local(package: str) -> bool:
    return package.startswith((".", "/", "~", "$"))


def _is_exact(requirement: str) -> bool:
    """Whether an address or a path is of one file or one commit."""
    address = requirement.partition("#")[0]
    is_commit = re.search(r"git\+.*@[0-9a-f]{7,40}$", address) is not None
    return is_commit or address.endswith((".whl", ".tar.gz", ".zip", ".conda", ".tar.bz2"))
