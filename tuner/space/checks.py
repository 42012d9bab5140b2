"""Checks of a space beyond the types of its fields.

All problems are found before the first trial: every bound and every choice is tried in a trial
configuration when the file is read.
"""

from __future__ import annotations

import copy
import difflib

from pydantic import ValidationError

from simreg_core.config.messages import explain, problems
from simreg_core.config.trial import TrialConfig, field_paths
from simreg_core.config.yaml_io import get_dotted, set_dotted
from simreg_core.errors import ConfigError, counted
from simreg_core.results.metrics import ATTACK_FAMILY
from simreg_core.results.objectives import directions, objective, parse_constraint
from tuner.space.grid import MAX_COMBINATIONS
from tuner.space.samplers import SAMPLERS
from tuner.space.search_space import SearchSpace

_TABLES = (
    "model.options.",
    "robustness.attacks.",
    "robustness.reference.",
    "robustness.boundary.",
    "robustness.corruptions.",
)
"""Fields that are mappings, whose columns are JSON text; any entry of them can be searched."""


def validate_space(space: SearchSpace, where: str) -> None:
    """Reject a space with a key, value or setting that cannot work.

    Raises:
        ConfigError: names ``where`` (the file) and the first invalid key.
    """
    try:
        _check_keys(space)
        _check_values(space)
        _check_objectives(space)
        _check_early_stopping(space)
        _check_warm_starts(space)
        tuning = space.tuning
        chosen = SAMPLERS.get(tuning.sampler)
        chosen.check(tuning.options, directions(space.objectives), space.distributions())
        if space.is_exhaustive():
            _check_grid(space)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from err


def _check_keys(space: SearchSpace) -> None:
    paths = [path for path, _ in field_paths()]
    for key in space.search:
        if key not in paths and not key.startswith(_TABLES):
            close = difflib.get_close_matches(key, paths, n=3, cutoff=0.4)
            raise ConfigError(
                f"search.{key}: no field of the trial configuration; "
                f"allowed: dotted paths such as {', '.join(close or paths[:3])}"
            )
        if (fixed := get_dotted(space.trial, key)) is not None:
            raise ConfigError(
                f"search.{key}: also fixed, to {fixed!r}, in trial.{key}; keep one of the two"
            )
        if below := [other for other in space.search if other.startswith(f"{key}.")]:
            raise ConfigError(
                f"search.{below[0]}: lies within {key}, which is searched as a whole; "
                "keep one of the two"
            )
        set_dotted(copy.deepcopy(space.trial), key, None, "search")


def _check_values(space: SearchSpace) -> None:
    """Build a configuration for every bound and choice, with the other keys at their first."""
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
                    raise ConfigError(f"search.{key}.{origin}: {text}") from err
                if any(_is_at_or_below(other, location) for other in params):
                    combined = message  # these values conflict; other combinations may not
                elif not any(_is_at_or_below(location, other) for other in params):
                    raise ConfigError(f"trial.{message}") from err
    if next(space.extreme_configs(), None) is None:
        raise ConfigError(f"trial: {combined}")


def _is_at_or_below(location: str, key: str) -> bool:
    return not key or location == key or location.startswith(f"{key}.")


def _check_objectives(space: SearchSpace) -> None:
    config = next(space.extreme_configs())
    constrained = [parse_constraint(text).metric for text in space.constraints]
    named = [("objectives", name) for name in space.objectives]
    for key, name in (*named, *(("constraints", name) for name in constrained)):
        field = objective(name).needs
        if field and not any(searched.startswith(field) for searched in space.search):
            if get_dotted(config.to_dict(), field) is None:
                raise ConfigError(f"{key}: {name} is measured only if trial.{field} is given")
        if any(searched.startswith("robustness.reference") for searched in space.search):
            continue
        attack = name.removeprefix(ATTACK_FAMILY)
        if attack != name and attack not in config.robustness.reference:
            raise ConfigError(
                f"{key}: {name} needs {attack} in trial.robustness.reference, "
                f"found {', '.join(config.robustness.reference)}"
            )


def _check_early_stopping(space: SearchSpace) -> None:
    rule = space.tuning.early_stopping
    num_epochs = space.most_epochs()
    if rule is not None and rule.grace_epochs >= num_epochs:
        raise ConfigError(
            f"tuning.early_stopping.grace_epochs: {rule.grace_epochs} of at most {num_epochs} "
            "epochs, so no trial could be stopped early; "
            + ("leave early_stopping out" if num_epochs == 1 else f"allowed: 1 to {num_epochs - 1}")
        )


def _check_warm_starts(space: SearchSpace) -> None:
    for number, start in enumerate(space.tuning.warm_starts):
        for key, value in start.items():
            at = f"tuning.warm_starts.{number}.{key}"
            if key not in space.search:
                raise ConfigError(f"{at}: not a searched key; allowed: {', '.join(space.search)}")
            if not space.search[key].contains(value):
                allowed = space.search[key].model_dump(exclude_defaults=True)
                raise ConfigError(f"{at}: {value!r} is outside the searched range, {allowed}")


def _check_grid(space: SearchSpace) -> None:
    count = 1
    for key, distribution in space.search.items():
        num_values = distribution.num_values()
        if num_values is None:
            raise ConfigError(
                f"search.{key}: sampler grid tries every value, so a float needs step "
                "(or type categorical)"
            )
        count *= num_values
    if count > MAX_COMBINATIONS:
        raise ConfigError(f"search: the grid has {count} combinations; allowed: {MAX_COMBINATIONS}")
    if space.tuning.num_trials > count:
        raise ConfigError(
            f"tuning.num_trials: {space.tuning.num_trials} asked, but the grid has "
            f"{counted(count, 'combination')}; allowed: 1 to {count}"
        )
