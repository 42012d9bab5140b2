"""The poster's panels of similarities, accuracy curves and spectra as charts.

Each is computed from one folder of results; its function raises :class:`ConfigError` if they cannot
be used. Sections are those of the source poster (Attias, Pehlevan, Obeid). Bands are sample
standard deviations over seeds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.charts.chart import AxisSpec, Chart, Panel, Series, mean_line, scatter
from analysis.charts.style import BASELINE_LOOK, MUTED, look, point_size
from analysis.charts.wording import images_text
from analysis.poster.variants import (
    Study,
    conditions,
    groups,
    load_study,
    mean_over_seeds,
    network_rows,
    target_name,
)
from analysis.results.load import ResultsError, load_pairs, load_table
from simreg_core.registry import is_corruption
from simreg_core.storage.location import to_path

MAX_POINTS_DRAWN = 4000
_COMPARED = {
    "pixel": "pixels, thresholded",
    "pixel_raw": "pixels",
    "label": "labels",
    "neural": "neural responses",
    "recorded": "recorded responses",
    "v1_gabor": "V1 Gabor responses",
}


def similarity_panel(path: str | Path, split: str) -> Chart:
    """Section 2: the similarities of the first target against those of the others, over pairs.

    The split is not used: pairs belong to the regularization images.
    """
    path = to_path(path)
    pairs = load_pairs(path)
    first, *others = pairs
    panels = tuple(_scatter(pairs[[first, name]].dropna(), path) for name in others)
    drawn = max(len(panel.series[0].x) for panel in panels)
    part = f", {drawn:,} of them drawn" if drawn < len(pairs) else ""
    title = "2. Similarities of the same images by different targets"
    note = f"n = {len(pairs):,} image pairs{part}; r is Pearson's correlation over all pairs"
    return Chart("2_similarity", title, panels, "", note)


def _scatter(pairs: pd.DataFrame, path: Path) -> Panel:
    names = [str(name) for name in pairs]
    values = pairs.to_numpy(dtype=np.float64)
    if len(values) < 3 or not np.isfinite(values).all() or not values.std(axis=0).all():
        raise ResultsError(f"{path}: {' and '.join(names)} need 3 or more finite pairs that differ")
    correlation = float(np.corrcoef(values.T)[0, 1])
    drawn = values[:: -(-len(values) // MAX_POINTS_DRAWN)]
    size = 0.6 * point_size(len(drawn))
    points = scatter("pairs", drawn, size=size, opacity=0.4, in_legend=False)
    x, y = (AxisSpec(f"similarity of {_COMPARED.get(n, target_name(n))}") for n in names)
    return Panel(f"r = {correlation:.3f}", x, y, (points,))


def curves_panel(
    folder: Path,
    split: str,
    name: str = "4i_curves",
    title: str = "4.i Accuracy under black-box attacks",
) -> Chart:
    """Section 4.i: accuracy against epsilon, per attack, regularized and not."""
    study = load_study(folder, split)
    rows = network_rows(study, study.results.curves)
    names = rows.loc[rows["role"] == "trial", "attack"].unique()
    attacks = [a for a in names if not is_corruption(a)]
    if not attacks:
        raise ResultsError(f"{study.results.folder}: its trials have no curves")
    panels = tuple(_attack_panel(study, a, rows[rows["attack"] == a]) for a in attacks)
    note = conditions(study, images_text(rows["num_images"]))
    return Chart(name, title, panels, "", f"{note}; dotted: reference ε of R")


datasets_panel = partial(
    curves_panel, name="4i_datasets", title="4.i Datasets of regularization images"
)
"""Section 4.i: the same, one line per regularization dataset."""


def _attack_panel(study: Study, attack: str, rows: pd.DataFrame) -> Panel:
    series = _network_lines(study, rows, "epsilon", "accuracy")
    at_reference = rows.loc[rows["is_reference"].fillna(False), "epsilon"]
    if len(at_reference):
        x, y = np.repeat(at_reference.iloc[0], 2), np.array([0.0, 1.0])
        line = Series("reference ε", x, y, "line", MUTED, "none", "dot", in_legend=False)
        series.insert(0, line._replace(reacts=False))
    axes = AxisSpec("distortion ε (pixels in [0, 1])"), AxisSpec("accuracy", limits=(-0.02, 1.02))
    return Panel(str(rows["label"].fillna(attack).iloc[0]), *axes, tuple(series))


def spectra_panel(folder: str | Path, split: str) -> Chart:
    """Section 4.ii: power spectrum of minimal perturbations, and accuracy under band noise."""
    folder = to_path(folder)
    study = load_study(folder, split)
    rows = network_rows(study, load_table(folder, "spectra"))
    if rows.empty:
        raise ResultsError(
            f"{folder}: no spectra of the {split} split (robustness.frequency was off)"
        )
    rows["frequency"] = (rows["frequency_low"] + rows["frequency_high"]) / 2
    power, noise = (
        rows[rows["kind"] == kind] for kind in ("perturbation_power", "band_noise_accuracy")
    )
    epsilon = ", ".join(f"{value:g}" for value in sorted(noise["epsilon"].dropna().unique()))
    x_axis = AxisSpec("spatial frequency (cycles per pixel)")
    panels = [
        Panel(title, x_axis, AxisSpec(label), tuple(_network_lines(study, of_kind, "frequency")))
        for title, label, of_kind in (
            ("Power of minimal perturbations", "share of the power in the band", power),
            (f"Noise in one band, SD {epsilon} per pixel", "accuracy", noise),
        )
    ]
    panels = [panel for panel in panels if panel.series]
    images = f"power: {images_text(power['num_images'])}, noise: {images_text(noise['num_images'])}"
    note = (
        f"{conditions(study, images)}; points at the middle of bands, the last band: corners of "
        "the spectrum"
    )
    return Chart("4ii_spectra", "4.ii Sensitivity to spatial frequencies", tuple(panels), "", note)


def _network_lines(study: Study, rows: pd.DataFrame, x: str, value: str = "value") -> list[Series]:
    """The baseline, then a line per configuration, of rows with one value per network and x."""
    mean = mean_over_seeds(study, rows[rows["role"] == "baseline"], x, value)
    series = mean_line("unregularized", *mean, BASELINE_LOOK)
    for number, group in enumerate(groups(study)):
        own = rows[(rows["role"] == "trial") & rows["trial"].isin(group.trials)]
        mean = mean_over_seeds(study, own, x, value)
        series += mean_line(group.label or "regularized", *mean, look(number))
    return series
