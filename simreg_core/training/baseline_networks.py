"""Which unregularized networks a trial is compared with and attacked by."""

from __future__ import annotations

from dataclasses import dataclass

from simreg_core.config.trial import TrialConfig
from simreg_core.results.schema import Role
from simreg_core.seeding import derive_seed


@dataclass(frozen=True)
class BaselineNetwork:
    """One cached network: its configuration, and its role and seed in results."""

    role: Role
    seed: int
    config: TrialConfig


def baseline_networks(config: TrialConfig) -> list[BaselineNetwork]:
    """The baselines that ``config`` is compared with, and last the surrogate."""
    seeds, surrogate_seed = config.robustness.baseline_seeds, config.robustness.surrogate_seed
    # Whatever the configured seeds are, the surrogate is never one of the attacked baselines.
    root, number = derive_seed(surrogate_seed, "surrogate") % 2**32, 0
    while root in seeds:
        number += 1
        root = derive_seed(surrogate_seed, "surrogate", number) % 2**32
    return [
        *(BaselineNetwork("baseline", seed, config.unregularized(seed)) for seed in seeds),
        BaselineNetwork("surrogate", surrogate_seed, config.unregularized(root)),
    ]


def surrogates_of(config: TrialConfig) -> list[BaselineNetwork]:
    """The networks that attacks on the network of ``config`` are transferred from.

    They are the first ``robustness.surrogates`` of the surrogate and the baselines, in this order.
    A network of the same seed is left out: without regularizer it would be the attacked one, and
    with it starts from the same weights. So a baseline is attacked by the surrogate and the other
    baselines, and the surrogate by the baselines.
    """
    *baselines, surrogate = baseline_networks(config)
    others = [network for network in (surrogate, *baselines) if network.config.seed != config.seed]
    count = config.robustness.surrogates
    return others if count == "all" else others[:count]
