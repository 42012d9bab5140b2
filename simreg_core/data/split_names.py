"""Splits by the names of folders and files: ``train``, ``Training``, ``Test_Set``, ``valid``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from simreg_core.errors import ConfigError

Role = Literal["train", "validation", "test"]

ROLES: tuple[Role, ...] = ("train", "validation", "test")
_WORDS: dict[Role, str] = {
    "train": "train|training|trn",
    "validation": "val|valid|validation|validate|dev|devel|development|eval|evaluation",
    "test": "test|testing|tst|holdout",
}
_AFFIX = (
    r"sets?|data|datasets?|images?|imgs?|pictures?|pics?|photos?|splits?|samples?|examples?|files?|"
    r"folder|dir|part|png|jpe?g|new|full|raw|original|final|\d+|x"
)
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(name: str) -> Role | None:
    """The split that a name stands for, in any case and with the usual affixes; None: no split."""
    plain = re.sub(r"[\W_]+", "", name.lower())
    for role, words in _WORDS.items():
        if re.fullmatch(rf"(?:{_AFFIX})*(?:{words})(?:{_AFFIX})*", plain):
            return role
    return None


def split_in(name: str) -> Role | None:
    """The one split that a word of a name stands for, as in ``seg_train``; None: none, several."""
    words = [word.lower() for word in _TOKEN.findall(name)]
    found = {role for role, known in _WORDS.items() if set(words) & set(known.split("|"))}
    return found.pop() if len(found) == 1 else None


def one_per_role(roles: Mapping[str, Role | None]) -> dict[Role, str]:
    """The name of every split, of names and the splits that they stand for.

    Raises:
        ConfigError: two names stand for one split.
    """
    found: dict[Role, str] = {}
    for name, role in roles.items():
        if role in found:
            raise ConfigError(
                f"{found[role]} and {name} are both named like a {role} set; rename one of them"
            )
        if role is not None:
            found[role] = name
    return found
