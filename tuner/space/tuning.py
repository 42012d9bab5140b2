"""The section ``tuning`` of a space file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from simreg_core.config.base import Config, PositiveInt, number_or, require_known
from simreg_core.results.objectives import STOPPING_METRICS
from tuner.space.samplers import SAMPLERS

MIN_SEEDS = 2  # a confidence interval needs at least two seeds


class ConfirmConfig(Config):
    """Which configurations are trained again after the search, and how often."""

    top: Annotated[int | Literal["front"], number_or("front")]
    """How many, or ``front`` for all on the front."""
    seeds: Annotated[int, Field(ge=MIN_SEEDS)]
    """Fresh seeds per configuration."""


class EarlyStoppingConfig(Config):
    """When trials are stopped before their last epoch: Ray Tune's ASHA or median rule.

    Optuna records a stopped trial as pruned, without values: what a network reaches in a part of
    its epochs is on no front.
    """

    type: Literal["asha", "median"]
    """The rule."""
    metric: str
    """Metric of every epoch's network that decides, on the validation split: ``clean_accuracy``,
    ``robust_accuracy`` or ``tradeoff_score``."""
    grace_epochs: PositiveInt = 1
    """Epochs before a trial can be stopped."""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """``asha``: at each rung, the best of this many trials continues; 4 if not given."""
    min_trials: PositiveInt | None = None
    """``median``: trials that must have reported before any is stopped; 3 if not given."""

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


class TuningConfig(Config):
    """How trials are proposed, run and confirmed."""

    num_trials: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of trials."""
    sampler: Annotated[str, AfterValidator(SAMPLERS.require)] = "nehvi"
    """A sampler's name, or ``module:Class`` for any other Optuna sampler."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the sampler."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler. Those of networks begin at ``trial.seed``."""
    warm_starts: list[dict[str, Any]] = Field(default_factory=list)
    """Configurations to try first, as ``{key: value}``. Keys that one leaves out are sampled; with
    ``grid`` it stands for all their combinations. At most ``num_trials``."""
    confirm: ConfirmConfig | None = None
    """Train the best configurations again after the search."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often a trial restarts from its last epoch after its worker is lost or runs out of
    memory."""
    stall_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 14400.0
    """Seconds without a report after which the worker of a trial counts as lost; never if null. A
    trial reports after every epoch and after its evaluation."""
    num_seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Networks per trial; the sampler gets their mean. Trial n has the seeds from ``trial.seed`` +
    n * ``num_seeds`` on."""
    early_stopping: EarlyStoppingConfig | None = None
    """Stop unpromising trials; never if not given."""
