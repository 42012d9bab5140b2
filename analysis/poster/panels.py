"""What the panels of the poster show: titles, lines, spreads, and the conditions of each number.

Every panel is computed from one folder of results; the drawing adds nothing to it. Sections are
those of the source poster (Attias, Pehlevan, Obeid). Spread is always the sample standard
deviation over seeds; it is NaN, and not drawn, where there is a single seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.poster.panel import DotPlot, Level, Line, LinePlot, Panel, ScatterPlot
from analysis.poster.variants import (
    Study,
    baseline,
    baseline_rows,
    conditions,
    group_label,
    groups,
    load_study,
    num_images_text,
    short_value,
    trial_rows,
)
from analysis.results.load import ResultsError, load_pairs
from analysis.results.parameters import scale_of
from simreg_core.config.robustness import ATTACKS

MAX_POINTS_DRAWN = 4000
MAX_TICKS = 8  # of a searched grid; more would overlap
_SHORT = {
    "regularizer.batch_size": "pairs per step, k",
    "regularizer.num_images": "regularization images, N",
    "regularizer.threshold": "threshold, Th",
}
_ATTACK_TITLES = {
    "gaussian": "Gaussian noise",
    "uniform": "uniform noise",
    "salt_pepper": "salt-and-pepper noise",
    "transfer_fgsm": "transferred FGSM",
}
_METRIC_LABELS = {
    "clean_accuracy": "clean accuracy C",
    "robust_accuracy": "robust accuracy R",
    "accuracy_cost": "accuracy cost, $C_0 - C$",
    "robustness_gain": "robustness gain, $R - R_0$",
    "tradeoff_score": "tradeoff score, gain - cost",
}
_NEURAL_LABELS = {
    "neural_similarity": "similarity of predicted neural responses",
    "v1_gabor_similarity": "similarity of V1 Gabor responses",
}


def similarity_panel(path: Path, split: str) -> Panel:
    """Section 2: pixel similarities against similarities of neural responses, over image pairs.

    Args:
        path: ``pairs.parquet``.
        split: Not used; pairs belong to the regularization images.

    Raises:
        ResultsError: the file cannot be read or holds too few pairs.
    """
    pairs = load_pairs(path)
    columns = [name for name in _NEURAL_LABELS if pairs[name].notna().any()]
    plots = tuple(_scatter(pairs[["pixel_similarity", name]].dropna(), path) for name in columns)
    if not plots:
        raise ResultsError(f"{path}: no pair has a neural or V1 Gabor similarity")
    drawn = max(len(plot.points) for plot in plots)
    part = f", {drawn:,} of them drawn" if drawn < len(pairs) else ""
    return Panel(
        "2_similarity",
        "2. Similarities of pixels and of neural responses",
        f"n = {len(pairs):,} image pairs{part}; r is Pearson's correlation over all pairs",
        plots,
    )


def _scatter(pairs: pd.DataFrame, path: Path) -> ScatterPlot:
    response = pairs.columns[1]
    values = pairs.to_numpy(dtype=np.float64)
    if len(values) < 3 or not np.isfinite(values).all() or not values.std(axis=0).all():
        raise ResultsError(f"{path}: {response} needs 3 or more finite pairs that differ")
    correlation = float(np.corrcoef(values.T)[0, 1])
    stride = -(-len(values) // MAX_POINTS_DRAWN)
    return ScatterPlot(
        f"r = {correlation:.3f}", "similarity of pixels", _NEURAL_LABELS[response], values[::stride]
    )


def curves_panel(folder: Path, split: str) -> Panel:
    """Section 4.i: accuracy against epsilon, per attack, regularized and not.

    Raises:
        ResultsError: the folder's results cannot be used.
    """
    study = load_study(folder, split)
    return _curves(study, "4i_curves", "4.i Accuracy under black-box attacks")


def datasets_panel(folder: Path, split: str) -> Panel:
    """Section 4.i: the same, one line per regularization dataset.

    Raises:
        ResultsError: the folder's results cannot be used.
    """
    study = load_study(folder, split)
    return _curves(study, "4i_datasets", "4.i Datasets of regularization images")


def _curves(study: Study, name: str, title: str) -> Panel:
    curves = study.results.curves
    own, unregularized = trial_rows(study, curves), baseline_rows(study, curves)
    rows = pd.concat([own, unregularized])
    measured = set(own["attack"])
    attacks = [attack for attack in ATTACKS if attack in measured]
    others = measured.difference(ATTACKS)
    attacks += sorted(name for name in others if not name.startswith("corruption:"))  # plug-ins
    if not attacks:
        raise ResultsError(f"{study.results.folder}: its trials have no curves")
    plots = []
    for attack in attacks:
        of_attack = rows[rows["attack"] == attack]
        at_reference = of_attack.loc[of_attack["is_reference"].fillna(False), "epsilon"]
        plots.append(
            LinePlot(
                _ATTACK_TITLES.get(attack, attack),
                "distortion ε (pixels in [0, 1])",
                "accuracy",
                _network_lines(study, of_attack, "epsilon", "accuracy"),
                reference=float(at_reference.iloc[0]) if len(at_reference) else None,
            )
        )
    caption = conditions(study, num_images_text(rows["num_images"]))
    return Panel(name, title, f"{caption}; dotted: reference ε of R", tuple(plots))


def spectra_panel(folder: Path, split: str) -> Panel:
    """Section 4.ii: power spectrum of minimal perturbations, and accuracy under band noise.

    Raises:
        ResultsError: the folder's results cannot be used, or hold no spectra.
    """
    study = load_study(folder, split)
    spectra = study.spectra
    rows = pd.concat([trial_rows(study, spectra), baseline_rows(study, spectra)])
    if rows.empty:
        raise ResultsError(
            f"{folder}: no spectra of the {split} split (robustness.frequency was off)"
        )
    rows["frequency"] = (rows["frequency_low"] + rows["frequency_high"]) / 2
    power, noise = (
        rows[rows["kind"] == kind] for kind in ("perturbation_power", "band_noise_accuracy")
    )
    epsilon = ", ".join(f"{value:g}" for value in sorted(noise["epsilon"].dropna().unique()))
    label = "spatial frequency (cycles per pixel)"
    plots = [
        LinePlot(
            "Power of minimal perturbations",
            label,
            "share of the power in the band",
            _network_lines(study, power, "frequency", "value"),
        ),
        LinePlot(
            f"Noise in one band, SD {epsilon} per pixel",
            label,
            "accuracy",
            _network_lines(study, noise, "frequency", "value"),
        ),
    ]
    images = (
        f"power: {num_images_text(power['num_images'])}, "
        f"noise: {num_images_text(noise['num_images'])}"
    )
    return Panel(
        "4ii_spectra",
        "4.ii Sensitivity to spatial frequencies",
        f"{conditions(study, images)}; points at the middle of bands, the last band: "
        "corners of the spectrum",
        tuple(plot for plot in plots if plot.lines),
    )


def _network_lines(study: Study, rows: pd.DataFrame, x: str, value: str) -> tuple[Line, ...]:
    """The baseline, then a line per configuration, of rows with one value per network and x."""
    found = []
    unregularized = rows[rows["role"] == "baseline"]
    if len(unregularized):
        found.append(_line("unregularized", unregularized, x, value, study, is_baseline=True))
    for group in groups(study):
        own = rows[(rows["role"] == "trial") & rows["trial"].isin(group.trials)]
        if len(own):
            found.append(_line(group.label or "regularized", own, x, value, study))
    return tuple(found)


def _line(
    label: str, rows: pd.DataFrame, x: str, value: str, study: Study, *, is_baseline: bool = False
) -> Line:
    numbers = rows[[x, value]].astype(float)
    if not np.isfinite(numbers.to_numpy()).all():
        raise ResultsError(f"{study.results.folder}: {value} of {label!r} has null or NaN")
    by_x = numbers.groupby(x)[value]
    mean, std = by_x.mean(), by_x.std(ddof=1)
    return Line(
        label,
        mean.index.to_numpy(dtype=np.float64),
        mean.to_numpy(dtype=np.float64),
        np.asarray(std, dtype=np.float64),
        is_baseline,
    )


def cost_panel(folder: Path, split: str) -> Panel:
    """Section 4.iii: robust accuracy against pairs per step and number of images.

    Raises:
        ResultsError: the folder's results cannot be used, or none of the two was varied.
    """
    study = load_study(folder, split)
    keys = ("regularizer.batch_size", "regularizer.num_images")
    plots = [_metric_plot(study, x, "robust_accuracy") for x in keys if _varies(study, x)]
    if not plots:
        raise ResultsError(f"{folder}: all trials have the same {' and '.join(keys)}")
    return Panel(
        "4iii_cost",
        "4.iii Size of the regularization batch and dataset",
        conditions(study, num_images_text(study.complete[f"num_{split}"])),
        tuple(plots),
    )


def tradeoff_panel(folder: Path, split: str) -> Panel:
    """Section 5: accuracy cost, robustness gain and tradeoff score over Th, a line per alpha.

    Raises:
        ResultsError: the folder's results cannot be used, or Th was not varied.
    """
    study = load_study(folder, split)
    if not _varies(study, "regularizer.threshold"):
        raise ResultsError(f"{folder}: all trials have the same regularizer.threshold")
    metrics = ("accuracy_cost", "robustness_gain", "tradeoff_score")
    plots = [_metric_plot(study, "regularizer.threshold", metric) for metric in metrics]
    weights = ", ".join(
        f"{value:g}" for value in sorted(study.complete["robustness.tradeoff_weight"].unique())
    )
    images = num_images_text(study.complete[f"num_{split}"])
    return Panel(
        "5_tradeoff",
        "5. Accuracy-robustness tradeoff",
        f"{conditions(study, images)}; weight of the cost in the score: {weights}",
        tuple(plots),
    )


def _varies(study: Study, parameter: str) -> bool:
    return study.complete[parameter].nunique() > 1


def _metric_plot(study: Study, x: str, metric: str) -> LinePlot:
    column = f"{study.split}.{metric}"
    lines = [
        _line(
            group.label or "regularized",
            study.networks[study.networks["trial"].isin(group.trials)],
            x,
            column,
            study,
        )
        for group in groups(study, without=x)
    ]
    values = np.unique(study.complete[x].to_numpy(dtype=np.float64))
    return LinePlot(
        _METRIC_LABELS[metric].partition(",")[0],
        _SHORT[x],
        _METRIC_LABELS[metric],
        tuple(lines),
        scale="log" if scale_of(values) == "log" else "linear",
        ticks=tuple(values.tolist()) if len(values) <= MAX_TICKS else (),
        level=_level(study, metric),
    )


def _level(study: Study, metric: str) -> Level | None:
    group = baseline(study, metric)
    if group is None:
        return None
    std = group.std
    return Level(float(group.mean[0]), float("nan") if std is None else float(std[0]))


def components_panel(folder: Path, split: str) -> Panel:
    """Section 6: clean and robust accuracy of every variant of the regularizer.

    Raises:
        ResultsError: the folder's results cannot be used.
    """
    study = load_study(folder, split)
    variants = sorted(groups(study), key=lambda group: min(group.trials))  # as they were tried
    usual = _usual(study, variants[0].values)
    named = [(group_label(group.values, usual) or "reference", group) for group in variants]
    named.sort(key=lambda pair: pair[0] != "reference")  # stable
    lines = []
    for metric in ("clean_accuracy", "robust_accuracy"):
        levels = [_level(study, metric)]
        levels += [_trial_level(study, group.trials, metric) for _, group in named]
        present = [(place, level) for place, level in enumerate(levels) if level is not None]
        lines.append(
            Line(
                _METRIC_LABELS[metric],
                np.array([place for place, _ in present], dtype=np.float64),
                np.array([level.mean for _, level in present], dtype=np.float64),
                np.array([level.std for _, level in present], dtype=np.float64),
            )
        )
    reference = ", ".join(
        short_value(name, value) for name, value in usual.items() if pd.notna(value)
    )
    caption = conditions(study, num_images_text(study.complete[f"num_{split}"]))
    return Panel(
        "6_components",
        "6. Components of the regularizer",
        caption + (f"; reference: {reference}" if reference else ""),
        (
            DotPlot(
                "What differs from the reference",
                "accuracy",
                ("unregularized", *(label for label, _ in named)),
                tuple(lines),
            ),
        ),
    )


def _usual(study: Study, varying: Iterable[str]) -> dict[str, Any]:
    """The most frequent value of each varying parameter (null is a value)."""
    counts = {name: study.complete[name].value_counts(dropna=False) for name in varying}
    return {name: tally.index[0] for name, tally in counts.items()}


def _trial_level(study: Study, trials: Sequence[int], metric: str) -> Level:
    rows = study.networks[study.networks["trial"].isin(trials)]
    line = _line(metric, rows.assign(place=0.0), "place", f"{study.split}.{metric}", study)
    return Level(float(line.mean[0]), float(line.std[0]))
