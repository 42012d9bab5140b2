"""What a space file can name as ``tuning.sampler``.

A sampler is one function from a seed and options to an ``optuna.samplers.BaseSampler``.
:func:`sampler` declares one; :mod:`tuner.study.samplers` has those of Optuna. A space file names
any other as ``module:Class``, for example ``optuna.samplers:CmaEsSampler``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler

from simreg_core.errors import ConfigError, reason_of
from simreg_core.registry import Component, Registry


@dataclass(frozen=True, kw_only=True)
class Sampler(Component):
    """Called with ``seed`` (where it takes one) and the options of the space file."""

    is_exhaustive: bool = False
    """Whether it tries every combination once, queued when the study is created."""

    def make(self, seed: int, options: Mapping[str, Any]) -> BaseSampler:
        """The Optuna sampler.

        Args:
            seed: Its seed.
            options: Keyword arguments.

        Raises:
            ConfigError: it refuses the options, or makes no Optuna sampler.
        """
        takes_seed = "seed" in inspect.signature(self.function).parameters
        arguments = {**options, "seed": seed} if takes_seed else dict(options)
        try:
            with experimental():
                made = self(**arguments)
        except Exception as err:  # whatever a foreign sampler raises
            raise ConfigError(f"tuning.options: {self.name}: {reason_of(err)}") from err
        if not isinstance(made, BaseSampler):
            raise ConfigError(
                f"tuning.sampler: {self.name} makes {type(made).__name__}, not an Optuna sampler"
            )
        return made

    def check(
        self, options: Mapping[str, Any], directions: Sequence[Literal["maximize", "minimize"]]
    ) -> None:
        """Refuse options, or more objectives than the sampler can pursue.

        Raises:
            ConfigError: names the key and the reason.
        """
        chosen = self.make(0, options)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a word of the tried study
        try:
            with experimental():
                study = optuna.create_study(directions=directions, sampler=chosen)
                study.ask({"value": optuna.distributions.FloatDistribution(0.0, 1.0)})
        except Exception as err:  # whatever a foreign sampler raises
            raise ConfigError(f"tuning.sampler: {self.name}: {reason_of(err)}") from err
        finally:
            optuna.logging.set_verbosity(verbosity)


SAMPLERS = Registry(Sampler, "tuner.study.samplers")
sampler = Sampler.declare


@contextmanager
def experimental() -> Iterator[None]:
    """Accept what Optuna has called experimental for years."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
