"""Evidence beyond one seed and one attack: the confirmation's summary and audits of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from simreg_core.errors import one_line
from simreg_core.storage.location import local_path, read_json_inside, to_path

_AUDIT_KEYS = {"weights", "config_digest", "clean_accuracy", "num_images", "curves", "warnings"}
_AUDIT_PLACES = ("*.json", "audit*/*.json", "checkpoints/*/*.json", "checkpoints/*/*/*.json")


class Estimate(NamedTuple):
    """A mean over fresh seeds with its 95 % interval."""

    mean: float
    half_width: float
    """NaN with a single seed."""
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


class Confirmed(NamedTuple):
    """What confirmation found of one trial, on the test split."""

    trial: int
    estimates: dict[str, Estimate]
    """``clean_accuracy``, ``robust_accuracy`` and, paired with the baseline of the same seed,
    ``accuracy_cost``, ``robustness_gain`` and ``tradeoff_score``; empty if nothing is complete."""
    num_failed: int


class Confirmation(NamedTuple):
    """``confirmation.json``."""

    candidates: tuple[Confirmed, ...] = ()
    """By score, best first; those without one last."""
    seeds: tuple[int, ...] = ()
    answer: str = ""
    """What was found, in one sentence; empty if nothing is complete."""
    problem: str | None = None
    """Why an existing file is not used."""


class Audit(NamedTuple):
    """One file that ``simreg_core.audit --output`` wrote."""

    file: str
    """Relative to the folder of the search."""
    trial: int | None = None
    """The trial of the network; None if it belongs to another search."""
    num_images: int = 0
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    """Why a file with the name of an audit is not used."""


def read_confirmation(folder: str | Path) -> Confirmation:
    """The summary of a search's confirmation; without candidates if there is none."""
    folder = to_path(folder)
    path = folder / "confirmation.json"
    if not path.exists():
        return Confirmation()
    try:
        content = read_json_inside(path, folder)
        candidates = sorted(map(_confirmed, content["candidates"]), key=_rank)
        seeds = tuple(map(int, content["seeds"]))
        return Confirmation(
            tuple(candidates), seeds, " ".join(str(content["answer"] or "").split())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        return Confirmation(problem=f"{path.name} is damaged: {_reason(err)}")


def _confirmed(candidate: dict[str, Any]) -> Confirmed:
    estimates = {
        name: Estimate(
            float(value["mean"]),
            math.nan if value["half_width"] is None else float(value["half_width"]),
            int(value["n"]),
        )
        for name, value in candidate["estimates"].items()
    }
    return Confirmed(int(candidate["trial"]), estimates, int(candidate["num_failed"]))


def _rank(candidate: Confirmed) -> float:
    score = candidate.estimates.get("tradeoff_score")
    return math.inf if score is None else -score.mean


def read_audits(folder: str | Path, trials: pd.DataFrame) -> tuple[Audit, ...]:
    """Audits in a search's folder, recognized by their fields; other JSON files are ignored.

    A file that is no audit is a problem if its name or folder begins with ``audit``. The top of the
    folder, ``audit*`` and ``checkpoints/NUMBER`` are searched (in an object store only the top).
    """
    folder = to_path(folder)
    # A glob over folders asks an object store once for each.
    places = _AUDIT_PLACES if local_path(folder) else _AUDIT_PLACES[:1]
    by_digest = dict(zip(trials["config_digest"], trials["trial"], strict=True))
    found = []
    for path in sorted(path for place in places for path in folder.glob(place)):
        parts = path.relative_to(folder).parts
        if any(part[0] in "._" for part in parts):  # still being written
            continue
        name = "/".join(parts).encode(errors="replace").decode()  # file systems allow other bytes
        try:
            found.append(_audit(name, read_json_inside(path, folder), by_digest))
        except (OSError, ValueError, TypeError) as err:
            if name.startswith("audit"):
                found.append(Audit(name, problem=_reason(err)))
    return tuple(found)


def _reason(err: Exception) -> str:
    """What is the matter with a file, without its place on this machine."""
    return getattr(err, "strerror", None) or one_line(err)


def _audit(name: str, content: Any, by_digest: Mapping[Any, Any]) -> Audit:
    if not isinstance(content, dict) or not set(content) >= _AUDIT_KEYS:
        raise ValueError(f"it lacks fields of an audit: {', '.join(sorted(_AUDIT_KEYS))}")
    trial = by_digest.get(content["config_digest"])
    if not isinstance(content["warnings"], list):
        raise ValueError("warnings is no list")
    warnings = tuple(map(str, content["warnings"]))
    return Audit(name, None if trial is None else int(trial), int(content["num_images"]), warnings)
