"""Complete designs: every combination of the searched values, each exactly once.

Optuna's BruteForceSampler does not fit here: it raises when the last combination is told to a
study that is asked and told (it calls ``Study.stop``), and a warm start that leaves keys out can
make it repeat a combination. So the combinations are drawn here and queued in the study, which
hands out each queued trial once, however many are asked for before one is told.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.space.distributions import Distribution

MAX_COMBINATIONS = 1_000_000  # as many trials as a search may have

Combination = dict[str, Any]


def num_combinations(search: Mapping[str, Distribution]) -> int:
    """How many combinations the searched values have.

    Raises:
        ValueError: a key has infinitely many values; its message begins with the key.
    """
    counts = []
    for key, distribution in search.items():
        count = distribution.num_values()
        if count is None:
            raise ValueError(
                f"{key}: sampler grid tries every value, so a float needs step "
                "(or type categorical)"
            )
        counts.append(count)
    return math.prod(counts)


def design(
    search: Mapping[str, Distribution],
    warm_starts: Sequence[Mapping[str, Any]],
    num_trials: int,
    seed: int,
) -> Iterator[Combination]:
    """The first ``num_trials`` combinations of a grid, none twice.

    Warm starts come first, in their order. One that leaves keys out stands for every combination
    of these, the last key varying fastest. The other combinations follow in an order that
    ``seed`` shuffles, so that a search which is cut short has covered the grid evenly.

    Args:
        search: The searched keys, at most :data:`MAX_COMBINATIONS` combinations.
        warm_starts: Values of searched keys, all of them on the grid.
        num_trials: At most the number of combinations.
        seed: Of the order.

    Yields:
        A value for every searched key, in the order of ``search``.
    """
    rest = list(_combinations(search, {}))
    random.Random(seed).shuffle(rest)
    started = itertools.chain.from_iterable(_combinations(search, start) for start in warm_starts)
    return itertools.islice(_distinct(search, itertools.chain(started, rest)), num_trials)


def _combinations(
    search: Mapping[str, Distribution], fixed: Mapping[str, Any]
) -> Iterator[Combination]:
    choices = [
        [fixed[key]] if key in fixed else distribution.values()
        for key, distribution in search.items()
    ]
    for values in itertools.product(*choices):
        yield dict(zip(search, values, strict=True))


def _distinct(
    search: Mapping[str, Distribution], combinations: Iterator[Combination]
) -> Iterator[Combination]:
    seen = set()
    for combination in combinations:
        # As Optuna stores it: 1 and 1.0 are one value of a float, lists can be compared.
        key = tuple(repr(search[name].encode(value)) for name, value in combination.items())
        if key not in seen:
            seen.add(key)
            yield combination
