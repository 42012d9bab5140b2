"""The samplers that a space file can name; Optuna's own are declared in the wing ``study``."""

from __future__ import annotations

from dataclasses import dataclass

from simreg_core.registry import Component, Registry


@dataclass(frozen=True, kw_only=True)
class Sampler(Component):
    """Called with ``seed`` and the options of the space file; returns an Optuna sampler."""

    is_exhaustive: bool = False
    """Whether it tries every combination once, queued when the study is created."""


SAMPLERS = Registry(Sampler, "tuner.study.samplers")
sampler = Sampler.declare
