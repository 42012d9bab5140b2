"""The registry of samplers that a space file can select as ``tuning.sampler``.

A sampler is a function from a seed and options to an ``optuna.samplers.BaseSampler``. The decorator
:func:`sampler` declares one; :mod:`tuner.study.samplers` declares those of Optuna. A space file
can also select any Optuna sampler as ``module:Class``, such as ``optuna.samplers:CmaEsSampler``.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from simreg_core.errors import ConfigError, one_line
from simreg_core.plugins import check_options
from simreg_core.registry import Component, Registry

_NUM_TRIED = 12  # finished trials of the study on which a sampler is tried


@dataclass(frozen=True, kw_only=True)
class Sampler(Component):
    """Called with ``seed`` (if it takes one) and the options of the space file."""

    is_exhaustive: bool = False
    """Whether every combination is tried once, queued when the study is created."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options that differ from the defaults of the function."""

    def make(self, seed: int, options: Mapping[str, Any]) -> BaseSampler:
        """Create the Optuna sampler.

        Raises:
            ConfigError: the sampler rejects the options, or the result is no Optuna sampler.
        """
        takes_seed = "seed" in inspect.signature(self.function).parameters
        if takes_seed and "seed" in options:
            raise ConfigError("tuning.options.seed: set tuning.seed instead")
        check_options(self.function, options, self.name, "tuning.options", given=("seed",))
        arguments = {**self.defaults, **options} | ({"seed": seed} if takes_seed else {})
        try:
            with experimental():
                made = self(**arguments)
        except Exception as err:  # a foreign sampler may raise anything
            raise ConfigError(f"tuning.options: {self.name}: {one_line(err)}") from err
        if not isinstance(made, BaseSampler):
            raise ConfigError(
                f"tuning.sampler: {self.name} makes {type(made).__name__}, not an Optuna sampler"
            )
        return made

    def check(
        self,
        options: Mapping[str, Any],
        directions: Sequence[Literal["maximize", "minimize"]],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Reject invalid options, or more objectives than the sampler supports.

        Raises:
            ConfigError: names the key and the reason.
        """
        chosen = self.make(0, options)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # hides this study, which is discarded
        try:
            with experimental():
                study = optuna.create_study(directions=directions, sampler=chosen)
                # Most samplers use their options only once there are some results.
                for number in range(_NUM_TRIED if options or self.is_foreign else 0):
                    values = [math.sin(number + place) for place in range(len(directions))]
                    study.tell(study.ask(dict(distributions)), values)
                study.ask(dict(distributions))
        except Exception as err:  # a foreign sampler may raise anything
            raise ConfigError(f"tuning.sampler: {self.name}: {one_line(err)}") from err


SAMPLERS = Registry(Sampler, "tuner.study.samplers")
sampler = Sampler.declare


@contextmanager
def experimental() -> Iterator[None]:
    """Silence Optuna's warnings about features that it calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
