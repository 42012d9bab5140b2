"""The section ``tuning`` of a space file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from simreg_core.config.base import require_known
from simreg_core.results.objectives import STOPPING_METRICS
from tuner.space.distributions import Strict
from tuner.space.samplers import SAMPLERS

MIN_SEEDS = 2  # a confidence interval needs at least two seeds


def _number_or_front(value: Any) -> Any:
    if value == "front" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"expected a whole number of at least 1, or front, found {value!r}")


class ConfirmConfig(Strict):
    """Which configurations are trained again after the search, and how often."""

    top: Annotated[int | Literal["front"], BeforeValidator(_number_or_front)]
    """Number of the best configurations, or ``front`` for the whole Pareto front."""
    seeds: Annotated[int, Field(ge=MIN_SEEDS)]
    """Fresh seeds per configuration."""


class EarlyStoppingConfig(Strict):
    """The rule that stops trials before their last epoch: Ray Tune's ASHA or median rule.

    A stopped trial is pruned in Optuna and has no values, since results after fewer epochs are not
    comparable with those of complete trials.
    """

    type: Literal["asha", "median"]
    metric: str
    """Measured on the validation split after every epoch."""
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs before a trial can be stopped."""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """ASHA: one in this many trials continues at each rung; default 4."""
    min_trials: Annotated[int, Field(ge=1)] | None = None
    """Median: trials that must have reported before any is stopped; default 3."""

    @field_validator("metric")
    @classmethod
    def _measured_every_epoch(cls, name: str) -> str:
        require_known("metric", [name], STOPPING_METRICS)
        return name

    @model_validator(mode="after")
    def _options_of_its_type(self) -> Self:
        other = "min_trials" if self.type == "asha" else "reduction_factor"
        if getattr(self, other) is not None:
            raise ValueError(f"{other} is no option of type {self.type}")
        return self


class TuningConfig(Strict):
    """How trials are proposed, run and confirmed."""

    num_trials: Annotated[int, Field(ge=1, le=1_000_000)]
    sampler: str = "tpe"
    """``grid`` tries every combination once (:mod:`tuner.space.grid`). The others are Optuna's; you
    can select any other Optuna sampler as ``module:Class``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the sampler."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler. The networks use ``trial.seed``."""
    warm_starts: list[dict[str, Any]] = Field(default_factory=list)
    """Configurations to try first, at most ``num_trials``. The sampler fills in omitted keys; under
    ``grid``, a partial warm start stands for every combination of them."""
    confirm: ConfirmConfig | None = None
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often a trial resumes from its last epoch after a lost worker or exhausted memory."""
    num_seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Networks per trial, with seeds from ``trial.seed``. The study records their mean."""
    early_stopping: EarlyStoppingConfig | None = None

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        SAMPLERS.require(name)
        return name
