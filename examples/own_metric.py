"""A metric of your own: the accuracy under the worst of the reference attacks."""

# Name it in a space file:
#
#   trial:
#     robustness: {metrics: ["examples.own_metric:worst_accuracy"]}
#   objectives: [clean_accuracy, "examples.own_metric:worst_accuracy"]

from simreg_core.registry import metric
from simreg_core.results.measurements import Measurements


@metric("worst_accuracy", direction="maximize", worst=0.0, label="accuracy under the worst attack")
def worst_accuracy(measured: Measurements) -> float:
    """Smallest accuracy over the reference attacks, each at its reference epsilon."""
    return min(measured.under_attack.values())
