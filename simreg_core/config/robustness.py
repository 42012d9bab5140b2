"""The configuration of :mod:`simreg_core.robustness`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from simreg_core.config.base import Config, NonEmpty, PositiveInt, Seed, number_or
from simreg_core.registry import ATTACKS, CORRUPTIONS, METRICS, is_corruption

_PUBLISHED = {"gaussian": 0.1, "uniform": 0.1, "salt_pepper": 0.1, "transfer_fgsm": 0.02}
"""Reference and largest epsilons of the published CIFAR-10 protocol."""
_ENOUGH = 2500  # of these the standard error of an accuracy is at most .01
_MOST_DRAWS = 25  # for fewer than 100 images, it matters more which images these are
_AttackName = Annotated[str, AfterValidator(ATTACKS.require)]
_CorruptionName = Annotated[str, AfterValidator(CORRUPTIONS.require)]
_MetricName = Annotated[str, AfterValidator(METRICS.require)]
_Positive = Annotated[float, Field(gt=0)]
_Severity = Annotated[int, Field(ge=1, le=5)]
_EPSILON = TypeAdapter[float](Annotated[float, Field(le=1)])
_SEVERITY = TypeAdapter[int](_Severity)


class AttackConfig(Config):
    """Range and options of one attack."""

    max_epsilon: _Positive
    """Largest epsilon, in pixel units of [0, 1]; the attack's own default if not given. That of
    ``corruption:KIND`` is a severity from 1 to 5."""
    options: dict[str, float | int | str | bool] = {}
    """Keyword arguments of the attack's function."""


class BoundaryConfig(Config):
    """The decision-based boundary attack (Brendel et al., arXiv:1712.04248)."""

    steps: PositiveInt = 50
    """Steps of the attack."""
    num_images: PositiveInt = 1000
    """Number of images attacked per split, from its start; at most the whole split."""
    repeats: PositiveInt = 5
    """Attacks per image from different starting points; the smallest perturbation counts."""


class CorruptionsConfig(Config):
    """Common corruptions at severities 1 to 5 (Hendrycks, Dietterich, arXiv:1903.12261)."""

    kinds: NonEmpty[_CorruptionName] = Field(default_factory=lambda: tuple(CORRUPTIONS.known))
    """Corruptions by name, or ``module:function``."""
    severities: NonEmpty[_Severity] = (1, 2, 3, 4, 5)
    """Severities, from 1 to 5."""
    folder: str | None = None
    """Folder of CIFAR-10-C's original files ``KIND.npy`` and ``labels.npy``. The test split uses
    them for the kinds that they contain."""


class RobustnessConfig(Config):
    """Perturbations under which accuracy is measured, and the baselines for comparison."""

    attacks: dict[_AttackName, AttackConfig] = Field(
        min_length=1,
        default_factory=lambda: {
            name: AttackConfig(max_epsilon=epsilon) for name, epsilon in _PUBLISHED.items()
        },
    )
    """Attacks to measure, by name, ``module:function`` or ``corruption:KIND``."""
    reference: dict[_AttackName, _Positive] = Field(
        min_length=1, default_factory=lambda: dict(_PUBLISHED)
    )
    """Reference epsilons. Robust accuracy is the mean accuracy at them over these attacks. A list
    of names stands for the attacks' default reference epsilons."""
    boundary: BoundaryConfig | None = None
    """Boundary attack for minimal perturbations; not measured if not given."""
    corruptions: CorruptionsConfig | None = None
    """Accuracy under common corruptions; not measured if not given."""
    metrics: Annotated[tuple[_MetricName, ...], Field(strict=False)] = ()
    """Your own metrics to record, each as ``module:function``."""
    frequency: bool = False
    """Whether to measure the spectra of the minimal perturbations (requires ``boundary``) and the
    accuracy under band-limited noise (poster, section 4.ii)."""
    num_epsilons: Annotated[int, Field(ge=2)] = 10
    """Number of evenly spaced epsilons from 0 to an attack's maximum; the reference is added.
    Severities are rounded to whole numbers."""
    noise_seed: Seed = 0
    """Networks evaluated with the same noise seed get exactly the same noise."""
    noise_draws: Annotated[int | Literal["auto"], number_or("auto")] = "auto"
    """Draws of noise per image at the reference epsilons of attacks with random noise; accuracy is
    the mean over them. ``auto``: enough for 2,500 noisy images, so that the standard error is at
    most .01; 25 at most, and 1 for larger splits."""
    batch_size: PositiveInt = 500
    """Images per batch in evaluation. Draws depend on it."""
    baseline_seeds: NonEmpty[Seed] = (101, 102, 103)
    """Seeds of the baseline networks, whose mean accuracies are C_0 and R_0."""
    surrogate_seed: Seed = 0
    """Seed of the surrogate; independent of baselines of the same seed."""
    surrogates: Annotated[int | Literal["all"], number_or("all")] = "all"
    """Networks that transferred attacks come from; accuracy is the mean over them. They are the
    first so many of the surrogate and the baselines, in this order, without those of the attacked
    network's own seed: a baseline is never attacked by itself. 1: the published protocol."""
    tradeoff_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the accuracy cost in the tradeoff score."""

    @field_validator("attacks", mode="before")
    @classmethod
    def _default_ranges(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        return {
            name: {"max_epsilon": _default(name, "max_epsilon"), **given}
            if isinstance(given, Mapping) and "max_epsilon" not in given
            else given
            for name, given in table.items()
        }

    @field_validator("reference", mode="before")
    @classmethod
    def _default_references(cls, names: Any) -> Any:
        if not isinstance(names, list | tuple):
            return names
        return {name: _default(name, "reference") for name in names}

    @field_validator("attacks")
    @classmethod
    def _ranges_are_possible(cls, table: dict[str, AttackConfig]) -> dict[str, AttackConfig]:
        _check_epsilons({(name, "max_epsilon"): own.max_epsilon for name, own in table.items()})
        return table

    @field_validator("reference")
    @classmethod
    def _references_are_possible(cls, table: dict[str, float]) -> dict[str, float]:
        _check_epsilons({(name,): epsilon for name, epsilon in table.items()})
        return table

    @field_validator("baseline_seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected distinct seeds, found {', '.join(map(str, seeds))}")
        return seeds

    @model_validator(mode="after")
    def _surrogates_exist(self) -> Self:
        count = 1 + len(self.baseline_seeds)
        if self.surrogates != "all" and self.surrogates > count:
            raise ValueError(
                f"surrogates ({self.surrogates}) must be all, or at most {count}: the surrogate "
                "and the baselines"
            )
        return self

    @model_validator(mode="after")
    def _references_are_measured(self) -> Self:
        if self.frequency and self.boundary is None:
            raise ValueError("frequency needs boundary, whose perturbations it analyses")
        if missing := sorted(set(self.reference) - set(self.attacks)):
            raise ValueError(
                f"reference names attacks that are not measured: {', '.join(missing)}; "
                f"attacks has: {', '.join(self.attacks)}"
            )
        return self

    def num_draws(self, num_images: int) -> int:
        """Draws of noise for every image of a split of ``num_images``."""
        if self.noise_draws == "auto":
            return min(math.ceil(_ENOUGH / num_images), _MOST_DRAWS)
        return self.noise_draws

    def epsilons(self, attack: str) -> tuple[float, ...]:
        """Ascending epsilons at which ``attack`` is measured, including 0 and its reference."""
        top = self.attacks[attack].max_epsilon
        digits = 0 if is_corruption(attack) else 12
        steps = self.num_epsilons - 1
        grid = {round(top * i / steps, digits) for i in range(self.num_epsilons)}
        return tuple(sorted(grid | {self.reference.get(attack, 0.0)}))


def _default(name: Any, key: str) -> float:
    value: float | None = getattr(ATTACKS.get(str(name)), key)
    if value is None:
        raise ValueError(f"{name}: {key} is required, because the attack declares no default")
    return value


def _check_epsilons(values: Mapping[tuple[str, ...], float]) -> None:
    """Check epsilons, and severities of corruptions, by their locations in a table.

    Raises:
        ValidationError: with the location of every value out of its range.
    """
    problems: list[InitErrorDetails] = []
    for location, value in values.items():
        try:
            (_SEVERITY if is_corruption(location[0]) else _EPSILON).validate_python(value)
        except ValidationError as err:
            (found,) = err.errors()
            kind, context = found["type"], found.get("ctx", {})
            problems.append(InitErrorDetails(type=kind, loc=location, input=value, ctx=context))
    if problems:
        raise ValidationError.from_exception_data("epsilons", problems)
