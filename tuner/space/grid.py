"""Complete designs: every combination of the searched values, each exactly once.

Optuna's BruteForceSampler does not fit the ask-and-tell interface: it calls ``Study.stop`` with the
last combination, which raises an error, and it can repeat a combination after a partial warm start.
The combinations are therefore generated here and queued in the study. Optuna hands out each queued
trial once, regardless of how many trials run concurrently.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.space.distributions import Distribution

MAX_COMBINATIONS = 1_000_000  # equals the largest num_trials


def design(
    search: Mapping[str, Distribution],
    warm_starts: Sequence[Mapping[str, Any]],
    num_trials: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """The first ``num_trials`` combinations of a grid, without repetition.

    Warm starts come first, in their order. A partial warm start stands for all combinations of the
    keys that it omits, with the last key varying fastest. The remaining combinations follow in
    random order (``seed``), so that a search that ends early has covered the grid evenly. The keys
    of every combination are in the order of ``search``.
    """
    rest = list(_combinations(search, {}))
    random.Random(seed).shuffle(rest)
    started = itertools.chain.from_iterable(_combinations(search, start) for start in warm_starts)
    seen = set()
    for combination in itertools.chain(started, rest):
        # Compare what Optuna stores: 1 and 1.0 are the same float, and lists become hashable.
        key = tuple(repr(search[name].encode(value)) for name, value in combination.items())
        if key not in seen:
            seen.add(key)
            yield combination
        if len(seen) == num_trials:
            return


def _combinations(
    search: Mapping[str, Distribution], fixed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    choices = [
        [fixed[key]] if key in fixed else distribution.values()
        for key, distribution in search.items()
    ]
    for values in itertools.product(*choices):
        yield dict(zip(search, values, strict=True))
