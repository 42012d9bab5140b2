"""Shell commands of a cluster file taken apart: which programs they start, where, with what.

Quotes, comments, redirections, ``cd``, ``export`` and nested shells are understood; loops,
functions and substitutions only as far as the commands in them are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

_TOKEN = re.compile(
    r"""
      (?P<space> (?: [ \t\r] | \\\n )+ )
    | (?P<comment> \#[^\n]* )
    | (?P<redirect> (?: \d+ | & )? (?: <<<? -? | <> | >> | >\| | [<>]&? ) )
    | (?P<end> [\n;&|()`]+ )
    | (?P<word> (?: \\. | '[^']*' | "(?: \\. | [^"\\] )*" | [^ \t\r\n;&|()<>`'"\\] )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(r"""\\(.)|'([^']*)'|"((?:\\.|[^"\\])*)"|([^\\'"]+)""", re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_KEYWORDS = {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time"}
# The command that they start may be any of the words behind them, because of their own options.
_WRAPPERS = {
    *("sudo", "doas", "env", "nohup", "exec", "command", "builtin", "timeout", "nice", "ionice"),
    *("setsid", "stdbuf", "flock", "xargs", "conda run", "mamba run", "micromamba run", "uv run"),
}
_SHELLS = {"bash", "sh", "dash", "zsh", "ash", "su"}


@dataclass(frozen=True)
class Call:
    """A program with its arguments.

    Attributes:
        words: The program's name without folders, then its arguments. ``python -m NAME`` is NAME.
        environment: What the command exports or assigns for it.
        folder: Where it runs; ``~`` unless the command changes it.
        outputs: Files that its output goes to.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "~"
    outputs: Sequence[str] = ()

    def readings(self) -> Iterator[Call]:
        """The call, and behind ``sudo`` and the like all that may be the call that is meant."""
        words = list(self.words)
        yield replace(self, words=_program(words))
        if words and ({_name(words[0]), " ".join([_name(words[0]), *words[1:2]])} & _WRAPPERS):
            environment = dict(self.environment)
            for index, word in enumerate(words[1:], 1):
                if match := _ASSIGNMENT.fullmatch(word):
                    environment[match[1]] = match[2]
                yield replace(self, words=_program(words[index:]), environment=environment)


def read_calls(command: str, start: Call | None = None) -> Iterator[Call]:
    """All calls of a command, in their order; a nested shell's come after the shell itself.

    Raises:
        ValueError: quotes are not closed.
    """
    start = start or Call(())
    folder, exported, variables = start.folder, dict(start.environment), dict(start.environment)
    for all_words, outputs in _simple_commands(command):
        words = list(all_words)
        own = {}
        while words and (words[0] in _KEYWORDS or _ASSIGNMENT.fullmatch(words[0])):
            if match := _ASSIGNMENT.fullmatch(words.pop(0)):
                own[match[1]] = match[2]
        if not words:
            variables |= own
            exported |= {name: value for name, value in own.items() if name in exported}
            continue
        if words[0] == "export":
            for word in words[1:]:
                name, equals, value = word.partition("=")
                exported[name] = value if equals else variables.get(name, "")
        elif words[0] == "cd":
            folder = place_of(words[1] if len(words) > 1 else "~", folder)
        call = Call(words, exported | own, folder, outputs)
        yield call
        for reading in call.readings():
            if (nested := _nested(reading.words)) is not None:
                yield from read_calls(nested, reading)
                break


def place_of(path: str, folder: str = "~") -> str:
    """A path on the machine, as an absolute one or one from ``~`` on."""
    path = re.sub(r"^\$(HOME|\{HOME\})(?=/|$)", "~", path)
    parts: list[str] = []
    for part in (PurePosixPath(folder) / path if path[:1] != "~" else PurePosixPath(path)).parts:
        if part != "..":
            parts.append(part)
        elif len(parts) > 1:
            parts.pop()
    return str(PurePosixPath(*parts))


def options_of(
    words: Sequence[str], with_value: Sequence[str] | set[str] = ()
) -> tuple[list[tuple[str, str]], list[str]]:
    """Options with their values, and the other words.

    Args:
        words: The arguments of a program.
        with_value: The options whose value is the next word unless it is attached.
    """
    options, others = [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            others.append(word)
        elif not word.startswith("--") and len(word) > 2 and word[:2] in with_value:
            options.append((word[:2], word[2:].removeprefix("=")))
        elif name in with_value and not equals:
            options.append((name, next(rest, "")))
        else:
            options.append((name, value))
    return options, others


def _simple_commands(command: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words of each command between separators, and where its output goes."""
    words: list[str] = []
    outputs: list[str] = []
    position, redirect = 0, ""
    while position < len(command):
        match = _TOKEN.match(command, position)
        if match is None:
            raise ValueError("a quote or a backslash at the end is left open")
        kind, text, position = match.lastgroup, match[0], match.end()
        if kind == "word" and redirect:
            outputs += [_unquote(text)] if ">" in redirect else []
            redirect = ""
        elif kind == "word":
            words.append(_unquote(text))
        elif kind == "redirect":
            redirect = text
        elif kind == "end":
            yield words, outputs
            words, outputs, redirect = [], [], ""
    yield words, outputs


def _unquote(word: str) -> str:
    parts = []
    for match in _PIECE.finditer(word):
        escaped, single, double, plain = match.groups()
        if double is not None:
            parts.append(re.sub(r'\\([$`"\\])', r"\1", double.replace("\\\n", "")))
        else:
            parts.append((escaped or "").strip("\n") or single or plain or "")
    return "".join(parts)


def _name(word: str) -> str:
    return word.rpartition("/")[2]


def _program(words: Sequence[str]) -> Sequence[str]:
    """The words with the program's bare name first, and a module of Python as a program."""
    if not words:
        return words
    name, rest = _name(words[0]), list(words[1:])
    if re.fullmatch(r"python[\d.]*", name):
        for index, word in enumerate(rest):
            if not word.startswith("-") or word == "-c":
                break
            if word.startswith("-m"):
                module = [word[2:]] if word[2:] else []
                return [*module, *rest[index + 1 :]]
    return [name, *rest]


def _nested(words: Sequence[str]) -> str | None:
    """The command that a shell is given as text, or None."""
    if not words:
        return None
    if words[0] == "eval":
        return " ".join(words[1:])
    if words[0] in _SHELLS:
        for index, word in enumerate(words[1:-1], 1):
            if re.fullmatch(r"-[a-z]*c|--command", word):
                return words[index + 1]
    return None
