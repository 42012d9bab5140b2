"""The metrics of a trial, which a search can optimize and charts can show.

A metric is one function from :class:`~simreg_core.results.measurements.Measurements` to a number,
or None if it is undefined. :func:`simreg_core.registry.metric` declares one; it becomes a column of
the table ``trials`` for each split. ``robust_accuracy.ATTACK`` is the accuracy under one attack.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from numbers import Real
from typing import Any

from simreg_core.errors import ConfigError, describe
from simreg_core.plugins import foreign_code
from simreg_core.registry import METRICS, Metric
from simreg_core.results.measurements import CurvePoint, Measurements
from simreg_core.results.tradeoff import BaselineAccuracy

ATTACK_FAMILY = "robust_accuracy."


def metric_named(name: str) -> Metric:
    """The metric of a name, a ``module:function``, or ``robust_accuracy.ATTACK``."""
    if not name.startswith(ATTACK_FAMILY):
        return METRICS.get(name)
    attack = name.removeprefix(ATTACK_FAMILY)
    return Metric(
        name=name,
        function=lambda measured: measured.under_attack.get(attack),
        direction="maximize",
        worst=0.0,
        is_accuracy=True,
        label=f"accuracy under {attack.replace('_', ' ')}",
        description=f"accuracy under {attack} at its reference epsilon",
    )


def is_foreign(name: str) -> bool:
    """Whether a metric comes from outside of this project."""
    return name not in METRICS.own and not name.startswith(ATTACK_FAMILY)


def check(foreign: Iterable[str]) -> None:
    """Try foreign metrics on made-up measurements, before anything is trained.

    Raises:
        ConfigError: one cannot be imported, raises, or returns no number.
    """
    points = [
        CurvePoint("test", "gaussian", epsilon, epsilon > 0, 0.5, 2) for epsilon in (0.0, 0.1)
    ]
    measured = Measurements(points, 0.01, BaselineAccuracy(0.9, 0.4, 0.01, 0.01))
    for name in foreign:
        try:
            found = METRICS.get(name)
        except ConfigError as err:
            raise ConfigError(f"robustness.metrics: {err}") from err
        _value(found, measured)


def compute(measured: Measurements, foreign: Iterable[str] = ()) -> dict[str, float | None]:
    """The project's own metrics, those of the reference attacks, and foreign ones, by name.

    A value that is not finite is None.

    Raises:
        ConfigError: a foreign metric cannot be imported, or raises.
    """
    attacks = (f"{ATTACK_FAMILY}{attack}" for attack in measured.under_attack)
    names = (*METRICS.own, *attacks, *foreign)
    return {name: _value(metric_named(name), measured) for name in names}


def _value(metric: Metric, measured: Measurements) -> float | None:
    where = f"robustness.metrics: {metric.name}"
    with foreign_code(where) if metric.is_foreign else nullcontext():
        value = metric(measured)
        if value is not None and not isinstance(value, Real):
            raise ConfigError(f"{where}: expected a number, found {describe(value)}")
        return None if value is None or not math.isfinite(value) else float(value)


def _measured(name: str, measured: Measurements) -> float | None:
    value: float | None = measured.tradeoff.get(name, getattr(measured, name, None))
    return value


def _own(name: str, description: str, **properties: Any) -> Metric:
    function = partial(_measured, name)
    return Metric(name=name, function=function, description=description, **properties)


_ACCURACY: dict[str, Any] = {"direction": "maximize", "worst": 0.0, "is_accuracy": True}

clean_accuracy = _own("clean_accuracy", "C: accuracy at zero distortion", **_ACCURACY)
robust_accuracy = _own(
    "robust_accuracy",
    "R: mean accuracy over the reference attacks at their reference epsilons",
    **_ACCURACY,
)
tradeoff_score = _own(
    "tradeoff_score",
    "robustness_gain - weight * accuracy_cost; the baseline scores 0",
    direction="maximize",
    against_baseline=True,
)
accuracy_cost = _own(
    "accuracy_cost", "C_0 - C_N", direction="minimize", worst=1.0, against_baseline=True
)
robustness_gain = _own(
    "robustness_gain", "R_N - R_0", direction="maximize", worst=-1.0, against_baseline=True
)
tradeoff_ratio = _own(
    "tradeoff_ratio",
    "accuracy_cost / robustness_gain; null unless both are positive",
    direction=None,
    against_baseline=True,
)
boundary_distance = _own(
    "boundary_distance",
    "median over images of the squared L2 distance per pixel to the decision boundary",
    direction="maximize",
    worst=0.0,
    needs="robustness.boundary",
    undefined="the network assigns most images, and all images and noise tried, to one class",
)
corruption_accuracy = _own(
    "corruption_accuracy",
    "mean accuracy over all measured corruptions and severities",
    label="accuracy under corruptions",
    needs="robustness.corruptions",
    **_ACCURACY,
)
