"""Which trials a confirmation takes."""

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

    Trials on the front come first. Within the front and behind it, trials are in the order of
    :func:`~simreg_core.results.objectives.ranked_trials`.

    Args:
        rows: Rows of the trials table.
        front: Numbers of the trials on the study's Pareto front.
        space: The search space.
        top: How many; all if there are fewer. ``front`` for as many as are on the front.
    """
    ranked = [row["trial"] for row in ranked_trials(rows, space.objectives, space.constraints)]
    ranked.sort(key=lambda number: number not in front)  # stable
    return ranked[: len(front) if top == "front" else top]
