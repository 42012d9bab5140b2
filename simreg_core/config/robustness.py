"""How a network is attacked: the configuration of :mod:`simreg_core.robustness`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from simreg_core.config.base import Config, IntTuple, Names, PositiveInt, Seed
from simreg_core.registry import ATTACKS, CORRUPTIONS, METRICS

_PUBLISHED = {"gaussian": 0.1, "uniform": 0.1, "salt_pepper": 0.1, "transfer_fgsm": 0.02}
"""Reference epsilons of the published CIFAR-10 protocol, where the curves end too."""


class AttackConfig(Config):
    """The range over which one attack is measured, and the attack's own options."""

    max_epsilon: Annotated[float, Field(gt=0, le=1)]
    """Largest epsilon, in pixel units of [0, 1]; the attack's own default if not given."""
    options: dict[str, float | int | str | bool] = {}
    """Keyword arguments of the attack's function."""


class BoundaryConfig(Config):
    """The decision-based boundary attack (Brendel et al., arXiv:1712.04248)."""

    steps: PositiveInt = 50
    """Steps of the attack."""
    num_images: PositiveInt = 1000
    """Images to attack per split, the first ones; all if a split has fewer."""
    repeats: PositiveInt = 5
    """Attacks per image from different starting points; the smallest perturbation counts."""


class CorruptionsConfig(Config):
    """Common corruptions at severities 1 to 5 (Hendrycks, Dietterich, arXiv:1903.12261)."""

    kinds: Names = Field(default_factory=lambda: tuple(CORRUPTIONS.known))
    """Corruptions by name, or ``module:function``."""
    severities: IntTuple = (1, 2, 3, 4, 5)
    """Severities, from 1 to 5."""
    folder: str | None = None
    """Folder of CIFAR-10-C's own ``KIND.npy`` and ``labels.npy``. They replace the test images of
    the kinds that have a file."""

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            CORRUPTIONS.require(kind)
        return kinds

    @field_validator("severities")
    @classmethod
    def _in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if not severities or not set(severities) <= set(range(1, 6)):
            raise ValueError("allowed: one or more of 1, 2, 3, 4, 5")
        return severities


class RobustnessConfig(Config):
    """What accuracy is measured under, and what it is compared with."""

    attacks: dict[str, AttackConfig] = Field(
        default_factory=lambda: {
            name: AttackConfig(max_epsilon=epsilon) for name, epsilon in _PUBLISHED.items()
        }
    )
    """Attacks to measure, by name or ``module:function``."""
    reference: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: dict(_PUBLISHED)
    )
    """Reference epsilon per attack: R is the mean accuracy over these attacks at these epsilons. A
    list of names takes the attacks' own defaults."""
    boundary: BoundaryConfig | None = None
    """Boundary attack for minimal perturbations; not measured if not given."""
    corruptions: CorruptionsConfig | None = None
    """Accuracy under common corruptions; not measured if not given."""
    metrics: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Metrics of your own to record, each as ``module:function``."""
    frequency: bool = False
    """Measure the spectra of minimal perturbations, and the accuracy under noise in one band of
    frequencies (poster, section 4.ii); needs ``boundary``."""
    num_epsilons: Annotated[int, Field(ge=2)] = 10
    """Evenly spaced epsilons from 0 to an attack's maximum; its reference epsilon is added."""
    noise_seed: Seed = 0
    """Seed of the noise; networks evaluated with the same seed meet exactly the same noise."""
    batch_size: PositiveInt = 500
    """Images per batch in evaluation. Draws depend on it."""
    baseline_seeds: IntTuple = (101, 102, 103)
    """Seeds of the baseline networks, whose mean accuracies are C_0 and R_0."""
    surrogate_seed: Seed = 0
    """Seed of the surrogate, from which FGSM is transferred; it is never a baseline."""
    tradeoff_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the accuracy cost in the tradeoff score."""

    @field_validator("attacks", mode="before")
    @classmethod
    def _own_ranges(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        return {name: _with_default(name, "max_epsilon", given) for name, given in table.items()}

    @field_validator("reference", mode="before")
    @classmethod
    def _own_references(cls, names: Any) -> Any:
        if not isinstance(names, list | tuple):
            return names
        return {name: _default(name, "reference") for name in names}

    @field_validator("attacks", "reference")
    @classmethod
    def _known_attacks(cls, table: dict[str, Any]) -> dict[str, Any]:
        for name in table:
            ATTACKS.require(name)
        if not table:
            raise ValueError("at least one attack is needed")
        return table

    @field_validator("metrics")
    @classmethod
    def _foreign_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            METRICS.require(name)
        return names

    @field_validator("baseline_seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= s < 2**32 for s in seeds):
            raise ValueError("allowed: one or more distinct integers in [0, 2**32)")
        return seeds

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

    def epsilons(self, attack: str) -> tuple[float, ...]:
        """Ascending epsilons at which ``attack`` is measured; 0 first, its reference among them."""
        top = self.attacks[attack].max_epsilon
        grid = {round(top * i / (self.num_epsilons - 1), 12) for i in range(self.num_epsilons)}
        return tuple(
            sorted(grid | ({self.reference[attack]} if attack in self.reference else set()))
        )


def _with_default(name: Any, key: str, given: Any) -> Any:
    """What is given for an attack, with the attack's own default where ``key`` is left out."""
    if isinstance(given, Mapping) and key not in given:
        return {key: _default(name, key), **given}
    return given


def _default(name: Any, key: str) -> float:
    value: float | None = getattr(ATTACKS.get(str(name)), key)
    if value is None:
        raise ValueError(f"{name}: {key} is required, because the attack declares none")
    return value
