"""Chooses the trials to confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from simreg_core.results.objectives import ranked_trials
from tuner.space.search_space import SearchSpace


def choose(
    rows: Sequence[Mapping[str, Any]],
    front: set[int],
    space: SearchSpace,
    top: int | Literal["front"],
) -> list[int]:
    """Numbers of the ``top`` best complete trials, or of the whole front, best first.

    Trials on the front (``front``: their numbers) come before the others. Both groups are in the
    order of :func:`~simreg_core.results.objectives.ranked_trials`.
    """
    ranked = [row["trial"] for row in ranked_trials(rows, space.objectives, space.constraints)]
    ranked.sort(key=lambda number: number not in front)  # stable
    return ranked[: len(front) if top == "front" else top]
