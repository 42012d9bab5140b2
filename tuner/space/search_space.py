"""The contents of a space file as typed objects: fixed values, searched keys, settings.

A searched key is the dotted path of any field of the trial configuration. Use
:func:`tuner.space.loading.load_space` to read and check a file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Self

import optuna
from pydantic import Field, ValidationError, field_validator, model_validator

from simreg_core.config.base import Config
from simreg_core.config.loading import set_field
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import to_yaml
from simreg_core.results.metrics import is_foreign
from simreg_core.results.objectives import objective, parse_constraint
from tuner.space.distributions import Distribution
from tuner.space.samplers import SAMPLERS
from tuner.space.tuning import TuningConfig


class SearchSpace(Config):
    """A whole space file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    """Name of the search and of its folder of results."""
    trial: dict[str, Any]
    """Fixed part of the trial configuration."""
    search: Annotated[dict[str, Distribution], Field(min_length=1)]
    """Dotted paths into the trial configuration, and what to search for each."""
    objectives: Annotated[list[str], Field(min_length=1)]
    """One or several metrics that have a direction."""
    constraints: list[str] = Field(default_factory=list)
    """Bounds that a solution must meet, for example ``clean_accuracy >= 0.9``."""
    tuning: TuningConfig

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: list[str]) -> list[str]:
        for name in names:
            objective(name)
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is given twice")
        return names

    @field_validator("constraints")
    @classmethod
    def _good_constraints(cls, texts: list[str]) -> list[str]:
        bounds: dict[tuple[str, bool], tuple[float, str]] = {}
        for text in texts:
            metric, is_minimum, bound = parse_constraint(text)
            if (metric, is_minimum) in bounds:
                other = bounds[metric, is_minimum][1]
                raise ValueError(f"{other!r} and {text!r} bound the same; keep one")
            bounds[metric, is_minimum] = (bound, text)
        for (metric, is_minimum), (bound, text) in bounds.items():
            highest, other = bounds.get((metric, False), (math.inf, ""))
            if is_minimum and bound > highest:
                raise ValueError(f"{text!r} and {other!r} cannot both be met")
        return texts

    @model_validator(mode="after")
    def _seeds_once(self) -> Self:
        if self.tuning.num_seeds > 1 and "seed" in self.search:
            raise ValueError("seed is searched, and tuning.num_seeds asks for several; keep one")
        return self

    def trial_config(self, params: Mapping[str, Any]) -> TrialConfig:
        """The configuration of one trial.

        Args:
            params: Value of every searched key, as the configuration takes it.

        Raises:
            pydantic.ValidationError: the values conflict.
        """
        tree = copy.deepcopy(self.trial)
        for key, value in params.items():
            set_field(tree, key, value, "search")
        config = TrialConfig.from_dict(tree)
        # Plug-in metrics that the search uses must be measured in every trial.
        constrained = [parse_constraint(text).metric for text in self.constraints]
        foreign = [name for name in (*self.objectives, *constrained) if is_foreign(name)]
        metrics = tuple(dict.fromkeys((*config.robustness.metrics, *foreign)))
        robustness = config.robustness.model_copy(update={"metrics": metrics})
        return config.model_copy(update={"robustness": robustness})

    def network_seeds(self, config: TrialConfig, number: int) -> list[int]:
        """The seeds of the networks of a trial with this configuration and number.

        Every trial has seeds of its own. The luck of a seed that trials share would be no noise
        between them, so that no model of the metrics could average it out.
        """
        count = self.tuning.num_seeds
        first = config.seed if "seed" in self.search else config.seed + number * count
        return [(first + place) % 2**32 for place in range(count)]

    def is_exhaustive(self) -> bool:
        """Whether the sampler tries every combination once."""
        return SAMPLERS.get(self.tuning.sampler).is_exhaustive

    def baseline_varies(self) -> bool:
        """Whether a searched key affects the baselines, so that trials cannot share them."""
        shared = ("regularizer.", "seed")
        return any(not key.startswith(shared) for key in self.search)

    def extreme_configs(self) -> Iterator[TrialConfig]:
        """A configuration for every bound and choice, with the other keys at their first value.

        Invalid combinations are omitted. A checked space has at least one valid combination.
        """
        for _, _, params in self.assignments():
            with suppress(ValidationError):
                yield self.trial_config(params)

    def most_epochs(self) -> int:
        """The largest number of epochs that a trial can have."""
        return max(config.training.epochs for config in self.extreme_configs())

    def assignments(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """For every bound and choice: its key, its name, and values for all searched keys."""
        first = {key: d.extremes()[0][1] for key, d in self.search.items()}
        for key, distribution in self.search.items():
            for origin, value in distribution.extremes():
                yield key, origin, {**first, key: value}

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The Optuna distributions of the searched keys."""
        return {key: distribution.to_optuna() for key, distribution in self.search.items()}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values of searched keys as Optuna stores them."""
        return {key: self.search[key].encode(value) for key, value in params.items()}

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values that Optuna stored, as the configuration takes them."""
        return {key: self.search[key].decode(value) for key, value in params.items()}

    def to_yaml(self) -> str:
        """YAML text that :func:`~tuner.space.loading.load_space` reads back to an equal space."""
        return to_yaml(self.model_dump(mode="json"))
