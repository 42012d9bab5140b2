"""Charts of single networks: accuracy against distortion, layer weights and learning curves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.charts.chart import (
    BASELINE,
    LINE_COLORS,
    MUTED,
    SYMBOLS,
    AxisSpec,
    Chart,
    Missing,
    Panel,
    Series,
)
from analysis.charts.wording import list_trials, number
from analysis.findings.study import Study, warm_starts
from analysis.results.load import load_table
from analysis.results.parameters import Array

MAX_FRONT = 5
MAX_WARM = 3
MAX_GAMMA = 6
LAYER_NAMES = ("stem", "section 1", "section 2", "section 3", "section 4", "section 5")


class Shown(NamedTuple):
    """The trials whose curves are drawn."""

    front: list[int]
    warm: list[int]
    """Warm starts that are not on the front."""
    given: frozenset[int]
    """All warm starts."""
    note: str

    def label(self, trial: int) -> str:
        """A trial's name in legends."""
        return f"trial {trial}" + (" (warm start)" if trial in self.given else "")


def shown_trials(study: Study) -> Shown:
    """A few trials of the front, best score first, and the first warm starts."""
    of_row = study.trials["trial"].to_numpy(dtype=np.int64)
    every = [int(of_row[row]) for row in study.front]
    front = every[:MAX_FRONT]
    given = [int(of_row[row]) for row in warm_starts(study)]
    warm = [trial for trial in given if trial not in front][:MAX_WARM]
    left = len(every) - len(front)
    note = f"Shown of the front: {list_trials(front)}" if front else "Nothing is on the front"
    note += f", the best by score; {left} more are left out." if left else "."
    if given:
        note += f" Warm starts: {list_trials(given)}."
    return Shown(front, warm, frozenset(given), note)


def load_epochs(study: Study) -> pd.DataFrame:
    """Epochs of the shown trials and of the baselines; no rows where none were recorded.

    Raises:
        ResultsError: the table is unusable.
    """
    if not (study.folder / "epochs").is_dir():
        return pd.DataFrame(columns=["role", "trial", "epoch", "gamma"])
    shown = shown_trials(study)
    of_front = [int(study.trials["trial"].iloc[row]) for row in study.front[:MAX_GAMMA]]
    return load_table(study.folder, "epochs", {*shown.front, *shown.warm, *of_front})


def curves_chart(study: Study) -> Chart | Missing:
    """Accuracy against epsilon: front, warm starts, baseline; a panel per attack."""
    name, title = "curves", "Accuracy against distortion"
    curves = study.results.curves
    curves = curves[curves["split"] == study.split]
    shown = shown_trials(study)
    own = curves[(curves["role"] == "trial") & curves["trial"].isin([*shown.front, *shown.warm])]
    baselines = _first_baseline(study, curves[curves["role"] == "baseline"])
    attacks = list(dict.fromkeys([*baselines["attack"], *own["attack"]]))
    if not attacks:
        return Missing(name, title, "there are no curves of the front or of a baseline")
    panels, words = [], []
    for attack in attacks:
        panel, said = _curves_panel(
            str(attack),
            own[own["attack"] == attack],
            baselines[baselines["attack"] == attack],
            shown,
        )
        panels.append(panel)
        words.append(said)
    seeds = baselines["seed"].nunique()
    images = curves["num_images"].dropna().astype(int)
    n = f"n = {images.max()} images; " if len(images) else ""
    caption = (
        f"{study.split.capitalize()} split, {n}epsilon in pixel units of [0, 1]. {shown.note} "
        f"Baseline: mean and SD (band) of {seeds} seed{'s' if seeds != 1 else ''}. "
        + " ".join(words)
    )
    return Chart(name, title, tuple(panels), caption)


def _first_baseline(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of the baseline that the first usable trial is compared with; all if none is."""
    if len(study.trials):
        rows = rows.loc[rows["baseline_digest"] == study.trials["baseline_digest"].iloc[0]]
    return rows


def _curves_panel(
    attack: str, own: pd.DataFrame, baseline: pd.DataFrame, shown: Shown
) -> tuple[Panel, str]:
    series = []
    x, mean, std = _mean_curve(baseline)
    if len(x):
        if np.isfinite(std).all():
            bounds = np.stack([mean - std, mean + std])
            series.append(
                Series("baseline ± SD", x, mean, "band", BASELINE, y_bounds=bounds, in_legend=False)
            )
        series.append(Series("baseline", x, mean, "line", BASELINE, dash=True))
    for place, trial in enumerate([*shown.front, *shown.warm]):
        x, y, _ = _mean_curve(own[own["trial"] == trial])
        is_warm = place >= len(shown.front)
        label = shown.label(trial)
        color = MUTED if is_warm else LINE_COLORS[place % len(LINE_COLORS)]
        symbol = SYMBOLS[place % len(SYMBOLS)]
        series.append(
            Series(
                label,
                x,
                y,
                "line",
                color,
                symbol,
                trials=np.full(len(x), trial),
            )
        )
    ends = [f"{s.label} {number(s.y[-1], 3)}" for s in series if s.kind == "line" and len(s.y)]
    largest = max((s.x[-1] for s in series if len(s.x)), default=np.nan)
    said = f"Under {attack} at epsilon {number(largest)}: {', '.join(ends)}."
    axes = AxisSpec("epsilon"), AxisSpec("accuracy", limits=(-0.02, 1.02))
    return Panel(attack, *axes, tuple(s for s in series if len(s.x))), said


def _mean_curve(rows: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Accuracy over seeds at each epsilon, and its sample SD (NaN for one)."""
    grouped = rows.dropna(subset=["epsilon", "accuracy"]).groupby("epsilon")["accuracy"]
    mean, std = grouped.mean(), grouped.std()
    return (
        mean.index.to_numpy(dtype=np.float64),
        np.asarray(mean, dtype=np.float64),
        np.asarray(std, dtype=np.float64),
    )


def gamma_chart(study: Study, epochs: pd.DataFrame) -> Chart | Missing:
    """Weights of the layers over the epochs; a panel per trial of the front."""
    name, title = "gamma", "Layer weights gamma over the epochs"
    of_row = study.trials["trial"].to_numpy(dtype=np.int64)
    front = [int(of_row[row]) for row in study.front]
    rows = epochs[(epochs["role"] == "trial") & epochs["gamma"].notna()]
    panels: list[Panel] = []
    words = []
    for trial in front[:MAX_GAMMA]:
        at, gamma = _mean_gamma(rows[rows["trial"] == trial])
        if not len(at):
            continue
        names = [
            LAYER_NAMES[i] if i < len(LAYER_NAMES) else f"layer {i}" for i in range(gamma.shape[1])
        ]
        series = tuple(
            Series(
                layer,
                at,
                gamma[:, i],
                "line",
                LINE_COLORS[i % len(LINE_COLORS)],
                SYMBOLS[i % len(SYMBOLS)],
                size=5,
                trials=np.full(len(at), trial),
            )
            for i, layer in enumerate(names)
        )
        panels.append(
            Panel(
                f"trial {trial}", AxisSpec("epoch"), AxisSpec("gamma", limits=(-0.02, 1.02)), series
            )
        )
        last = ", ".join(
            f"{layer} {number(v, 2)}" for layer, v in zip(names, gamma[-1], strict=True)
        )
        words.append(f"Trial {trial} ends with {last}.")
    if not panels:
        return Missing(name, title, "no epochs of a trial on the front have layer weights")
    left = len(front) - len(panels)
    more = f" {left} more trials of the front are left out." if left > 0 else ""
    caption = (
        "After each epoch, mean over a trial's seeds; the weights of a network add up to 1. "
        f"{' '.join(words)}{more}"
    )
    return Chart(name, title, tuple(panels), caption)


def _mean_gamma(rows: pd.DataFrame) -> tuple[Array, Array]:
    """Epochs (E,) and gamma (E, layers), mean over seeds; networks of one depth."""
    if rows.empty:
        return np.empty(0), np.empty((0, 0))
    values = pd.DataFrame(rows["gamma"].tolist(), index=rows["epoch"].to_numpy())
    mean = values.groupby(level=0).mean()
    return mean.index.to_numpy(dtype=np.float64), mean.to_numpy(dtype=np.float64)


def learning_chart(study: Study, epochs: pd.DataFrame) -> Chart | Missing:
    """Validation accuracy and loss, and the correlation of similarities, over the epochs."""
    name, title = "learning", "Learning curves"
    shown = shown_trials(study)
    quantities = (
        ("validation_accuracy", "validation accuracy"),
        ("validation_loss", "validation loss, nats"),
        ("similarity_correlation", "correlation of S_cnn and S_target"),
    )
    panels: list[Panel] = []
    for column, label in quantities:
        if column not in epochs or epochs[column].isna().all():
            continue
        series = _learning_series(epochs, column, shown)
        is_log = "loss" in column and all((s.y > 0).all() for s in series)
        if series:
            panels.append(Panel("", AxisSpec("epoch"), AxisSpec(label, is_log), tuple(series)))
    if not panels:
        return Missing(name, title, "no epochs of the shown trials or of a baseline were recorded")
    ends = [f"{s.label} {number(s.y[-1], 3)}" for s in panels[0].series]
    caption = (
        "On the validation split without distortion, mean over a trial's seeds and over the "
        f"baseline's. {shown.note} {panels[0].y.label.capitalize()} after the last epoch: "
        f"{', '.join(ends)}."
    )
    return Chart(name, title, tuple(panels), caption)


def _learning_series(epochs: pd.DataFrame, column: str, shown: Shown) -> list[Series]:
    series = []
    for place, trial in enumerate([None, *shown.front, *shown.warm]):
        if trial is None:
            rows = epochs[epochs["role"] == "baseline"]
        else:
            rows = epochs[(epochs["role"] == "trial") & (epochs["trial"] == trial)]
        mean = rows.dropna(subset=[column]).groupby("epoch")[column].mean()
        if mean.empty:
            continue
        label = "baseline" if trial is None else shown.label(trial)
        is_warm = place > len(shown.front)
        color = BASELINE if trial is None else MUTED if is_warm else LINE_COLORS[place - 1]
        series.append(
            Series(
                label,
                mean.index.to_numpy(dtype=np.float64),
                mean.to_numpy(dtype=np.float64),
                "line",
                color,
                size=5,
                symbol=SYMBOLS[(place - 1) % len(SYMBOLS)],
                dash=trial is None,
                trials=None if trial is None else np.full(len(mean), trial),
            )
        )
    return series
