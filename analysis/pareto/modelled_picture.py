"""The modelled front as part of a matplotlib figure; nothing read or computed."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis.findings.modelled_front import NoiseAwareFront

MODEL_COLOR = "#CC79A7"  # of Okabe and Ito's palette; neither the baseline's nor the raw front's
LINK_COLOR = "0.7"


def draw_model_front(axes: Axes, front: NoiseAwareFront) -> None:
    """The modelled front of two metrics: means with their SDs, joined, tied to their raw figures.

    Args:
        axes: Of raw figures, the first metric horizontal.
        front: Its first two metrics are drawn; nothing if no trial is on it.
    """
    chosen = np.flatnonzero(front.on_front)
    if not len(chosen):
        return
    chosen = chosen[np.lexsort((front.means[chosen, 1], front.means[chosen, 0]))]
    means, raw = front.means[chosen], front.raw[chosen]
    for number, (mean, own) in enumerate(zip(means, raw, strict=True)):
        axes.plot(
            [mean[0], own[0]],
            [mean[1], own[1]],
            color=LINK_COLOR,
            linewidth=0.8,
            linestyle=":",
            zorder=2,
            label="from modelled mean to raw figures" if number == 0 else "_link",
        )
    errors = np.nan_to_num(front.deviations[chosen])
    axes.errorbar(
        means[:, 0],
        means[:, 1],
        xerr=errors[:, 0],
        yerr=errors[:, 1],
        fmt="none",
        ecolor=MODEL_COLOR,
        elinewidth=0.9,
        alpha=0.6,
        zorder=2,
        label="± SD of the model",
    )
    axes.plot(
        means[:, 0],
        means[:, 1],
        color=MODEL_COLOR,
        linewidth=1.4,
        linestyle="--",
        drawstyle="steps-pre" if front.metrics[0].direction == "maximize" else "steps-post",
        marker="s",
        markersize=6,
        markerfacecolor="white",
        markeredgewidth=1.4,
        zorder=4,
        label="modelled front"
        if front.is_trustworthy
        else "modelled front (not to be trusted: see text)",
    )
