"""Charts of single networks: accuracy against distortion, layer weights and learning curves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.charts.chart import AxisSpec, Chart, Missing, Panel, Series, mean_line, not_empty
from analysis.charts.style import BASELINE, BASELINE_LOOK, MUTED, Look, look
from analysis.charts.wording import images_text, list_trials, number, seeds_text
from analysis.findings.study import Study
from analysis.results.load import load_table
from analysis.results.seed_groups import over_seeds
from simreg_core.errors import counted

MAX_FRONT = 5
MAX_WARM = 3
MAX_GAMMA = 6
QUANTITIES = {
    "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss, nats",
    "similarity_correlation": "correlation of S_cnn and S_target",
}
LAYER_NAMES = ("stem", "section 1", "section 2", "section 3", "section 4", "section 5")


class Shown(NamedTuple):
    """The trials whose curves are drawn."""

    front: list[int]
    warm: list[int]
    """Warm starts that are not on the front."""
    given: frozenset[int]
    """All warm starts."""
    note: str

    def lines(self, rows: pd.DataFrame, x: str, value: str) -> list[Series]:
        """The mean curve of each of the trials that has rows."""
        series = []
        for place, trial in enumerate([*self.front, *self.warm]):
            own = look(place) if trial in self.front else Look(MUTED, look(place).symbol, "solid")
            label = f"trial {trial}" + (" (warm start)" if trial in self.given else "")
            places, mean, _ = over_seeds(rows[rows["trial"] == trial], x, value)
            line = Series(label, places, mean, "line", *own, size=6)
            series.append(line._replace(trials=np.full(len(mean), trial)))
        return [*not_empty(series)]


def shown_trials(study: Study) -> Shown:
    """A few trials of the front, best score first, and the first warm starts."""
    every = study.numbers[study.front].tolist()
    front = every[:MAX_FRONT]
    given = study.numbers[study.warm_starts].tolist()
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
    of_front = study.numbers[study.front[:MAX_GAMMA]].tolist()
    return load_table(study.folder, "epochs", {*shown.front, *shown.warm, *of_front})


def curves_chart(study: Study) -> Chart | Missing:
    """Accuracy against epsilon: front, warm starts, baseline; a panel per attack."""
    name, title = "curves", "Accuracy against distortion"
    curves = study.results.curves
    curves = curves[curves["split"] == study.split].dropna(subset=["epsilon", "accuracy"])
    shown = shown_trials(study)
    own = curves[(curves["role"] == "trial") & curves["trial"].isin([*shown.front, *shown.warm])]
    baselines = _first_baseline(study, curves[curves["role"] == "baseline"])
    rows = pd.concat([baselines, own])
    if rows.empty:
        return Missing(name, title, "there are no curves of the front or of a baseline")
    attacks = rows["attack"].unique()
    panels = [_curves_panel(str(a), rows[rows["attack"] == a], shown) for a in attacks]
    caption = f"Epsilon in pixel units of [0, 1]. {shown.note} {' '.join(map(_ends_text, panels))}"
    note = (
        f"{study.split.capitalize()} split, {images_text(curves['num_images'].dropna())}; "
        f"{seeds_text(study.trials['num_seeds'])}; baseline: mean ± SD of "
        f"{counted(baselines['seed'].nunique(), 'seed')}."
    )
    return Chart(name, title, tuple(panels), caption, note)


def _first_baseline(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of the baseline that the first usable trial is compared with; all if none is."""
    if len(study.trials):
        rows = rows.loc[rows["baseline_digest"] == study.trials["baseline_digest"].iloc[0]]
    return rows


def _curves_panel(attack: str, rows: pd.DataFrame, shown: Shown) -> Panel:
    baseline, own = rows[rows["role"] == "baseline"], rows[rows["role"] == "trial"]
    series = mean_line("baseline", *over_seeds(baseline, "epsilon", "accuracy"), BASELINE_LOOK)
    series += shown.lines(own, "epsilon", "accuracy")
    axes = AxisSpec("epsilon"), AxisSpec("accuracy", limits=(-0.02, 1.02))
    return Panel(attack, *axes, tuple(series))


def _ends_text(panel: Panel) -> str:
    lines = [series for series in panel.series if series.kind == "line"]
    ends = ", ".join(f"{line.label} {number(line.y[-1], 3)}" for line in lines)
    largest = max((line.x[-1] for line in lines), default=np.nan)
    return f"Under {panel.title} at epsilon {number(largest)}: {ends}."


def gamma_chart(study: Study, epochs: pd.DataFrame) -> Chart | Missing:
    """Weights of the layers over the epochs; a panel per trial of the front."""
    name, title = "gamma", "Layer weights gamma over the epochs"
    front = study.numbers[study.front].tolist()
    rows = epochs[(epochs["role"] == "trial") & epochs["gamma"].notna()]
    panels = [
        _gamma_panel(trial, rows[rows["trial"] == trial])
        for trial in front[:MAX_GAMMA]
        if (rows["trial"] == trial).any()
    ]
    if not panels:
        return Missing(name, title, "no epochs of a trial on the front have layer weights")
    ends = " ".join(
        f"{panel.title.capitalize()} ends with "
        + ", ".join(f"{s.label} {number(s.y[-1], 2)}" for s in panel.series)
        + "."
        for panel in panels
    )
    left = len(front) - len(panels)
    more = f" {counted(left, 'more trial')} of the front left out." if left > 0 else ""
    caption = f"After each epoch; the weights of a network add up to 1. {ends}{more}"
    note = seeds_text(study.trials["num_seeds"])
    return Chart(name, title, tuple(panels), caption, f"{note[0].upper()}{note[1:]}.")


def _gamma_panel(trial: int, rows: pd.DataFrame) -> Panel:
    """Mean over a trial's seeds, whose networks have the same layers."""
    values = pd.DataFrame(rows["gamma"].tolist(), index=rows["epoch"].to_numpy())
    mean = values.groupby(level=0).mean()
    epochs = mean.index.to_numpy(dtype=np.float64)
    series = []
    for place, gamma in enumerate(mean.to_numpy(dtype=np.float64).T):
        label = LAYER_NAMES[place] if place < len(LAYER_NAMES) else f"layer {place}"
        line = Series(label, epochs, gamma, "line", *look(place), size=6)
        series.append(line._replace(trials=np.full(len(gamma), trial)))
    axes = AxisSpec("epoch"), AxisSpec("gamma", limits=(-0.02, 1.02))
    return Panel(f"trial {trial}", *axes, tuple(series))


def learning_chart(study: Study, epochs: pd.DataFrame) -> Chart | Missing:
    """Validation accuracy and loss, and the correlation of similarities, over the epochs."""
    name, title = "learning", "Learning curves"
    shown = shown_trials(study)
    panels: list[Panel] = []
    for column, label in QUANTITIES.items():
        series = _learning_series(epochs, column, shown) if column in epochs else ()
        is_log = "loss" in column and all((s.y > 0).all() for s in series)
        if series:
            panels.append(Panel("", AxisSpec("epoch"), AxisSpec(label, is_log), series))
    if not panels:
        return Missing(name, title, "no epochs of the shown trials or of a baseline were recorded")
    ends = ", ".join(f"{s.label} {number(s.y[-1], 3)}" for s in panels[0].series)
    caption = f"{shown.note} {panels[0].y.label.capitalize()} after the last epoch: {ends}."
    note = (
        "Validation split without distortion; "
        f"{seeds_text(study.trials['num_seeds'])}; baseline: mean over its seeds."
    )
    return Chart(name, title, tuple(panels), caption, note)


def _learning_series(epochs: pd.DataFrame, column: str, shown: Shown) -> tuple[Series, ...]:
    known = epochs.dropna(subset=[column])
    x, y, _ = over_seeds(known[known["role"] == "baseline"], "epoch", column)
    baseline = Series("baseline", x, y, "line", BASELINE, "none", "dash")
    lines = shown.lines(known[known["role"] == "trial"], "epoch", column)
    return not_empty([baseline, *lines])
