"""The pages of the documentation: their code blocks, and the commands in these.

A comment above a block restricts it: ``<!-- not run: REASON -->`` if it cannot run in a test,
``<!-- needs: PATH -->`` if it reads results that a search has to write first.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from simreg_core.config.protocols import merge
from simreg_core.config.yaml_io import parse_yaml, to_yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_BASE = """
name: page
trial: {task: {dataset: digits}}
search: {regularizer.threshold: {type: float, low: 0.1, high: 0.9}}
objectives: [clean_accuracy, robust_accuracy]
tuning: {num_trials: 2}
"""


class Block(NamedTuple):
    """A fenced code block."""

    page: Path
    line: int
    language: str
    text: str
    note: str
    """The comment above it; empty if there is none."""

    @property
    def is_run(self) -> bool:
        """Whether it can run in a test."""
        return not self.note.startswith("not run: ")

    @property
    def needs(self) -> str:
        """A path that must exist; empty if there is none."""
        return self.note.removeprefix("needs: ") if self.note.startswith("needs: ") else ""

    def commands(self) -> list[list[str]]:
        """The words of each shell command, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in line.split(" && ")]
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The code blocks of a page, or those of a language."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, m.start()) + 1, m["language"], m["text"], m["note"] or "")
        for m in _FENCE.finditer(text)
    ]
    return [block for block in found if language in ("", block.language)]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def space_text(text: str) -> str:
    """A whole space file: a block as it is, or laid over a small space if it is a part of one."""
    tree = parse_yaml(text, "block")
    return text if "name" in tree else to_yaml(merge(parse_yaml(_BASE, "base"), tree))


class _Parsed(BaseException):
    """Ends a program when its arguments are parsed."""


def parser_of(module: str, arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The argument parser of ``python -m module``, after it has accepted the arguments.

    Raises:
        ConfigError: it refuses them; a parser of argparse itself exits instead.
    """
    parse, parsers = argparse.ArgumentParser.parse_args, []

    def parse_only(parser: argparse.ArgumentParser, given: Sequence[str] | None = None) -> NoReturn:
        parse(parser, given)
        parsers.append(parser)
        raise _Parsed

    program = importlib.import_module(module)
    if hasattr(program, "__path__"):
        program = importlib.import_module(f"{module}.__main__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr("sys.argv", [module, *arguments])
        with pytest.raises(_Parsed):
            program.main()
    return parsers[0]
