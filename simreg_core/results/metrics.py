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

from simreg_core.errors import ConfigError
from simreg_core.plugins import foreign_code
from simreg_core.registry import METRICS, Metric, metric
from simreg_core.results.measurements import Measurements

ATTACK_FAMILY = "robust_accuracy."


def metric_named(name: str) -> Metric:
    """The metric of a name; also of ``robust_accuracy.ATTACK``.

    Raises:
        ConfigError: the name is unknown, or its ``module:function`` cannot be imported.
    """
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
    """Check that foreign metrics can be imported.

    Raises:
        ConfigError: names the key and the metric.
    """
    for name in foreign:
        try:
            METRICS.get(name)
        except ConfigError as err:
            raise ConfigError(f"robustness.metrics: {err}") from err


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
    is_foreign = metric.is_foreign
    with foreign_code(f"robustness.metrics: {metric.name}") if is_foreign else nullcontext():
        value = metric(measured)
        return None if value is None or not math.isfinite(value) else float(value)


_accuracy = partial(metric, direction="maximize", worst=0.0, is_accuracy=True)
_compared = partial(metric, against_baseline=True)


@_accuracy("clean_accuracy", description="C: accuracy at zero distortion")
def _clean_accuracy(measured: Measurements) -> float:
    return measured.clean_accuracy


@_accuracy(
    "robust_accuracy",
    description="R: mean accuracy over the reference attacks at their reference epsilons",
)
def _robust_accuracy(measured: Measurements) -> float:
    return measured.robust_accuracy


@_compared(
    "tradeoff_score",
    direction="maximize",
    description="robustness_gain - weight * accuracy_cost; the baseline scores 0",
)
def _tradeoff_score(measured: Measurements) -> float | None:
    return measured.tradeoff.get("tradeoff_score")


@_compared("accuracy_cost", direction="minimize", worst=1.0, description="C_0 - C_N")
def _accuracy_cost(measured: Measurements) -> float | None:
    return measured.tradeoff.get("accuracy_cost")


@_compared("robustness_gain", direction="maximize", worst=-1.0, description="R_N - R_0")
def _robustness_gain(measured: Measurements) -> float | None:
    return measured.tradeoff.get("robustness_gain")


@_compared(
    "tradeoff_ratio",
    direction=None,
    description="accuracy_cost / robustness_gain; null unless both are positive",
)
def _tradeoff_ratio(measured: Measurements) -> float | None:
    return measured.tradeoff.get("tradeoff_ratio")


@metric(
    "boundary_distance",
    direction="maximize",
    worst=0.0,
    description="median over images of the squared L2 distance per pixel to the decision boundary",
    needs="robustness.boundary",
)
def _boundary_distance(measured: Measurements) -> float | None:
    return measured.boundary_distance


@_accuracy(
    "corruption_accuracy",
    label="accuracy under corruptions",
    description="mean accuracy over the configured corruptions and severities",
    needs="robustness.corruptions",
)
def _corruption_accuracy(measured: Measurements) -> float | None:
    return measured.corruption_accuracy
