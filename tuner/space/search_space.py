"""The space file: what is fixed, what is searched and how, as typed and checked objects.

A searched key is the dotted path of any field of the trial configuration. Everything that can be
wrong is refused before the first trial: every bound and every choice is tried in a trial
configuration when the file is read.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import optuna
import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from simreg_core.config.loading import absolute_paths, set_field
from simreg_core.config.messages import explain, problems, validated
from simreg_core.config.trial import TrialConfig, field_paths
from simreg_core.config.yaml_io import get_dotted, parse_override, read_yaml_mapping, set_dotted
from simreg_core.errors import ConfigError
from simreg_core.results.objectives import OBJECTIVES, parse_constraint
from tuner.space.distributions import Distribution, Strict
from tuner.space.grid import MAX_COMBINATIONS, num_combinations

MIN_SEEDS = 2  # of a confirmation: an interval needs two
_MEASURED_BY = {
    "boundary_distance": "robustness.boundary",
    "corruption_accuracy": "robustness.corruptions",
}
_SPACE_KEYS = ("name", "trial", "search", "objectives", "constraints", "tuning")


def _number_or_front(value: Any) -> Any:
    if value == "front" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"expected a whole number of at least 1, or front, found {value!r}")


class ConfirmConfig(Strict):
    """Which of the best configurations are trained again, and how often."""

    top: Annotated[int | Literal["front"], BeforeValidator(_number_or_front)]
    """So many, or every one on the front."""
    seeds: Annotated[int, Field(ge=MIN_SEEDS)]
    """Fresh seeds per configuration."""
    by: Literal["raw", "model"] = "raw"
    """Chosen by their recorded figures, or by a model of these over the searched parameters (see
    :mod:`tuner.confirmation.selection`)."""


class EarlyStoppingConfig(Strict):
    """Which trials are stopped before their last epoch: Ray Tune's ASHA or median rule.

    A trial that is stopped is told to Optuna as pruned, without values: what a network reaches in
    a part of its epochs is on no front.
    """

    type: Literal["asha", "median"]
    metric: Literal["clean_accuracy", "robust_accuracy", "tradeoff_score"]
    """Of every epoch's network, on the validation split."""
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """ASHA: the best one in so many goes on at each rung; default 4."""
    min_trials: Annotated[int, Field(ge=1)] | None = None
    """Median: trials that must have reported before any is stopped; default 3."""

    @model_validator(mode="after")
    def _options_of_its_type(self) -> Self:
        other = "min_trials" if self.type == "asha" else "reduction_factor"
        if getattr(self, other) is not None:
            raise ValueError(f"{other} is no option of type {self.type}")
        return self


class TuningConfig(Strict):
    """How the search goes about it."""

    num_trials: Annotated[int, Field(ge=1, le=1_000_000)]
    sampler: Literal["tpe", "nsgaii", "gp", "random", "grid"] = "tpe"
    """``grid`` tries every combination once (:mod:`tuner.space.grid`), the others are Optuna's."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler; the networks' seed is ``trial.seed``."""
    warm_starts: list[dict[str, Any]] = Field(default_factory=list)
    """Configurations to try first. Keys that one leaves out are sampled; under ``grid`` it stands
    for every combination of them. At most ``num_trials``."""
    confirm: ConfirmConfig | None = None
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often a trial whose worker is lost, or out of memory, goes on from its last epoch."""
    num_seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Networks per trial, with seeds from ``trial.seed`` on; the sampler is told their mean."""
    early_stopping: EarlyStoppingConfig | None = None


class SearchSpace(Strict):
    """A whole space file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    trial: dict[str, Any]
    search: Annotated[dict[str, Distribution], Field(min_length=1)]
    objectives: Annotated[list[str], Field(min_length=1)]
    constraints: list[str] = Field(default_factory=list)
    """What a solution must reach, for example ``clean_accuracy >= 0.9``; the sampler is told by
    how much a trial misses it, and no trial that does is on the front."""
    tuning: TuningConfig

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in OBJECTIVES:
                raise ValueError(f"{name!r} is no objective; allowed: {', '.join(OBJECTIVES)}")
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
            pydantic.ValidationError: these values do not go together.
        """
        tree = copy.deepcopy(self.trial)
        for key, value in params.items():
            set_field(tree, key, value, "search")
        return TrialConfig.from_dict(tree)

    def baseline_varies(self) -> bool:
        """Whether a searched key changes the baselines, so that trials cannot share them."""
        shared = ("regularizer.", "seed")
        return any(not key.startswith(shared) for key in self.search)

    def extreme_configs(self) -> Iterator[TrialConfig]:
        """A configuration for every bound and choice, the other keys at their first value.

        Combinations that are not allowed are left out; a checked space has at least one other.
        """
        for _, _, params in self.assignments():
            with suppress(ValidationError):
                yield self.trial_config(params)

    def most_epochs(self) -> int:
        """The most epochs that a trial may have."""
        return max(config.training.epochs for config in self.extreme_configs())

    def assignments(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Searched key, the bound or choice that is tried, and values for all searched keys."""
        first = {key: d.extremes()[0][1] for key, d in self.search.items()}
        for key, distribution in self.search.items():
            for origin, value in distribution.extremes():
                yield key, origin, {**first, key: value}

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The searched keys in Optuna's terms."""
        return {key: distribution.to_optuna() for key, distribution in self.search.items()}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values of searched keys as Optuna stores them."""
        return {key: self.search[key].encode(value) for key, value in params.items()}

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values that Optuna stored, as the configuration takes them."""
        return {key: self.search[key].decode(value) for key, value in params.items()}

    def to_yaml(self) -> str:
        """YAML text that :func:`load_space` reads back to an equal space."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


def load_space(path: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The checked space in a YAML file, with ``key=value`` overrides laid over it.

    An override's key is a path in the space file (``tuning.num_trials``,
    ``search.regularizer.alpha.high``, ``trial.training.epochs``) or, shorter, in the trial
    configuration (``training.epochs``). Where ``tuning.num_trials`` is overridden, the first warm
    starts are kept, as many as there are trials.

    Raises:
        ConfigError: anything is wrong with the file or an override; names the key.
    """
    tree = read_yaml_mapping(path)
    parsed = [parse_override(text) for text in overrides]
    for key, value in parsed:
        _override(tree, key, value)
    where = str(path)
    space = validated(SearchSpace.model_validate, absolute_paths(tree), SearchSpace, where)
    _check_keys(space, where)
    _check_values(space, where)
    _check_objectives(space, where)
    _check_early_stopping(space, where)
    _check_warm_starts(space, where)
    if space.tuning.sampler == "grid":
        _check_grid(space, where)
    return space


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    first, _, rest = key.partition(".")
    if first not in _SPACE_KEYS:
        key, first, rest = f"trial.{key}", "trial", key
    if first == "trial" and rest and isinstance(tree.get("trial"), dict):
        set_field(tree["trial"], rest, value, f"--set {key}")
        return
    if first == "search" and isinstance(tree.get("search"), dict):
        # Searched keys have dots themselves: the longest that matches is meant.
        known = [k for k in tree["search"] if rest == k or rest.startswith(f"{k}.")]
        if known:
            searched = max(known, key=len)
            inner = rest[len(searched) + 1 :]
            if not inner:
                tree["search"][searched] = value
            elif isinstance(tree["search"][searched], dict):
                set_dotted(tree["search"][searched], inner, value, f"--set {key}")
            return
        tree["search"][rest] = value
        return
    set_dotted(tree, key, value, f"--set {key}")


def _check_keys(space: SearchSpace, where: str) -> None:
    paths = [path for path, _ in field_paths()]
    tables = ("robustness.attacks.", "robustness.reference.")
    for key in space.search:
        if key not in paths and not key.startswith(tables):
            close = difflib.get_close_matches(key, paths, n=3, cutoff=0.4)
            raise ConfigError(
                f"{where}: search.{key}: no field of the trial configuration; "
                f"allowed: dotted paths such as {', '.join(close or paths[:3])}"
            )
        if get_dotted(space.trial, key) is not None:
            raise ConfigError(
                f"{where}: search.{key}: also fixed, to {get_dotted(space.trial, key)!r}, "
                f"in trial.{key}; keep one of the two"
            )
        if below := [other for other in space.search if other.startswith(f"{key}.")]:
            raise ConfigError(
                f"{where}: search.{below[0]}: lies within {key}, which is searched as a whole; "
                "keep one of the two"
            )
        set_dotted(copy.deepcopy(space.trial), key, None, f"{where}: search")


def _check_values(space: SearchSpace, where: str) -> None:
    """Build a configuration with every bound and choice, the other keys at their first value."""
    combined = ""
    for key, origin, params in space.assignments():
        try:
            space.trial_config(params)
        except ValidationError as err:
            for error in problems(err):
                location = ".".join(str(part) for part in error["loc"])
                message = explain(error, TrialConfig)
                if _is_at_or_below(location, key):
                    text = message.removeprefix(f"{key}: ")
                    raise ConfigError(f"{where}: search.{key}.{origin}: {text}") from err
                if any(_is_at_or_below(other, location) for other in params):
                    combined = message  # several values do not go together; others may
                elif not any(_is_at_or_below(location, other) for other in params):
                    raise ConfigError(f"{where}: trial.{message}") from err
    if next(space.extreme_configs(), None) is None:
        raise ConfigError(f"{where}: trial: {combined}")


def _is_at_or_below(location: str, key: str) -> bool:
    return not key or location == key or location.startswith(f"{key}.")


def _check_objectives(space: SearchSpace, where: str) -> None:
    config = next(space.extreme_configs())
    constrained = [parse_constraint(text).metric for text in space.constraints]
    for key, names in (("objectives", space.objectives), ("constraints", constrained)):
        for name in names:
            field = _MEASURED_BY.get(name)
            if field and not any(searched.startswith(field) for searched in space.search):
                if get_dotted(config.to_dict(), field) is None:
                    raise ConfigError(
                        f"{where}: {key}: {name} is measured only where trial.{field} is given"
                    )
            if any(searched.startswith("robustness.reference") for searched in space.search):
                continue
            attack = name.partition(".")[2]
            if attack and attack not in config.robustness.reference:
                raise ConfigError(
                    f"{where}: {key}: {name} needs {attack} in trial.robustness.reference, "
                    f"which has: {', '.join(config.robustness.reference)}"
                )


def _check_early_stopping(space: SearchSpace, where: str) -> None:
    rule = space.tuning.early_stopping
    num_epochs = space.most_epochs()
    if rule is not None and rule.grace_epochs >= num_epochs:
        raise ConfigError(
            f"{where}: tuning.early_stopping.grace_epochs: {rule.grace_epochs} of at most "
            f"{num_epochs} epochs, so that no trial could be stopped early; "
            + ("leave early_stopping out" if num_epochs == 1 else f"allowed: 1 to {num_epochs - 1}")
        )


def _check_warm_starts(space: SearchSpace, where: str) -> None:
    for number, start in enumerate(space.tuning.warm_starts):
        for key, value in start.items():
            at = f"{where}: tuning.warm_starts.{number}.{key}"
            if key not in space.search:
                raise ConfigError(f"{at}: not a searched key; allowed: {', '.join(space.search)}")
            if not space.search[key].contains(value):
                allowed = space.search[key].model_dump(exclude_defaults=True)
                raise ConfigError(f"{at}: {value!r} is outside of what is searched, {allowed}")


def _check_grid(space: SearchSpace, where: str) -> None:
    try:
        count = num_combinations(space.search)
    except ValueError as err:
        raise ConfigError(f"{where}: search.{err}") from err
    if count > MAX_COMBINATIONS:
        raise ConfigError(
            f"{where}: search: the grid has {count} combinations; allowed: {MAX_COMBINATIONS}"
        )
    if space.tuning.num_trials > count:
        raise ConfigError(
            f"{where}: tuning.num_trials: {space.tuning.num_trials} trials asked of a grid of "
            f"{count} combinations; allowed: 1 to {count}"
        )
