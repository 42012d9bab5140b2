"""How much hypervolume does the modelled front recover that seed noise costs the raw front?

``python -m benchmarks.noise_front --trials 12 24 48 96`` simulates searches over (Th, alpha)
without networks. The truth is a pair of smooth surfaces through the results of small ResNets on
digits after 20 epochs (clean accuracy, and the mean accuracy under Gaussian noise 0.4 and
transferred FGSM 0.15). The measurements of a trial are the truth plus normal noise with the
standard deviation over seeds. Trials are chosen by the front of the raw measurements, of the
modelled means, or of the truth. The result is the hypervolume of the *truth* of the chosen trials.

``trusted`` uses the model only if it explains both metrics (R2_LOO > 0), otherwise the raw
measurements. The recovered share is (model - raw) / (truth - raw), computed from means over the
repetitions, with its jackknife standard error. Because larger fronts dominate more, the choosers
are also compared at equal numbers: as many trials as on the raw front, chosen greedily by the
hypervolume that the chooser sees. ``best score`` is the true tradeoff score of the trial with the
best seen score.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray

from simreg_core.statistics.gaussian_process import Surface, fit
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import hypervolume, non_dominated

Values = NDArray[np.float64]

CLEAN, ROBUST = 0.988, 0.479  # accuracies of the unregularized network
NOISE = (0.005, 0.05)  # their standard deviations over seeds
SEARCH: dict[str, dict[str, Any]] = {
    "threshold": {"type": "float", "low": 0.1, "high": 0.9},
    "alpha": {"type": "float", "low": 0.003, "high": 1.0, "log": True},
}
NUISANCE: dict[str, dict[str, Any]] = {
    "batch_size": {"type": "categorical", "choices": [4, 8, 16, 32]},
    "dataset": {"type": "categorical", "choices": ["digits", "natural"]},
}
BOTH = [True, True]


def truth(threshold: float, alpha: float) -> tuple[float, float]:
    """Clean and robust accuracy of a configuration, averaged over seeds.

    Fitted to alpha / Th of .1/.2, .1/.4, .3/.6, .3/.2, 1/.4 and 10/.8. The clean loss grows as a
    power of alpha and of the share of +-1 targets. The gain saturates with the loss, is greatest
    near Th = 0.35, and collapses if the network no longer learns its task.
    """
    log_share = 0.1 - 3.175 * threshold - 3.375 * threshold**2  # share of +-1 pairs, digits
    power = -1.886 + 1.49 * np.log10(alpha / 0.1) + 0.398 * (log_share + 0.67)
    loss = 10**power / (1 + (10**power / 0.9) ** 3) ** (1 / 3)
    gain = 0.13 * (1 - np.exp(-loss / 0.006)) * np.exp(-(((threshold - 0.35) / 0.45) ** 2))
    collapse = 0.36 / (1 + (0.14 / max(loss, 1e-6)) ** 4)
    return float(CLEAN - loss), float(ROBUST + gain - collapse)


class Search(NamedTuple):
    """N trials."""

    rows: list[dict[str, Any]]
    truth: Values
    """(N, 2)."""
    raw: Values
    """(N, 2)."""


def run_search(number: int, sampler: str, search: Mapping[str, Any], seed: int) -> Search:
    """Simulate a search; the sampler sees the noisy measurements."""
    rng = np.random.default_rng([seed, number])
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    }
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=samplers[sampler]())
    found = Search([], np.empty((number, 2)), np.empty((number, 2)))
    for place in range(number):
        trial = study.ask()
        row = {
            key: trial.suggest_categorical(key, spec["choices"])
            if spec["type"] == "categorical"
            else trial.suggest_float(key, spec["low"], spec["high"], log=spec.get("log", False))
            for key, spec in search.items()
        }
        found.rows.append(row)
        found.truth[place] = truth(row["threshold"], row["alpha"])
        noisy = found.truth[place] + rng.normal(0, NOISE)
        found.raw[place] = np.clip(noisy, 0, 1)
        study.tell(trial, list(found.raw[place]))
    return found


def greedy(values: Values, number: int, reference: Sequence[float]) -> list[int]:
    """Indices of ``number`` points, chosen one by one by the hypervolume that they add.

    If no point adds any, the rest is treated as a new front.
    """
    chosen: list[int] = []
    layer: list[int] = []
    while len(chosen) < number:
        rest = [i for i in range(len(values)) if i not in chosen]
        before = hypervolume(values[layer], reference, BOTH) if layer else 0.0
        gains = [hypervolume(values[[*layer, i]], reference, BOTH) - before for i in rest]
        if max(gains) <= 1e-12 and layer:
            layer = []
            continue
        best = rest[int(np.argmax(gains))]
        chosen.append(best)
        layer.append(best)
    return chosen


class Outcome(NamedTuple):
    """Result of one repetition, by chooser: raw, model, trusted model, truth."""

    whole: Values
    """(4,), true hypervolume of the chosen front."""
    equal: Values
    """(4,), the same for as many trials as on the raw front."""
    score: Values
    """(4,), true tradeoff score of the trial with the best seen score."""
    sizes: Values
    """(4,), trials on the chosen front."""
    r2: Values
    """(2,), leave-one-out."""
    is_trusted: bool
    coverage: Values
    """(2,), coverage of the leave-one-out 95 % intervals."""
    truth_coverage: float
    """Share of true values within the 95 % intervals of the model."""


def repeat(
    number: int, sampler: str, search: Mapping[str, Any], reference: Sequence[float], seed: int
) -> Outcome:
    """Run one search and choose trials in each way."""
    found = run_search(number, sampler, search, seed)
    points = parameter_points(search, found.rows).points
    seen_score = found.raw.sum(axis=1)  # but for a constant
    surfaces: list[Surface] = [fit(points, values) for values in (*found.raw.T, seen_score)]
    is_trusted = all(surface.explains for surface in surfaces)
    modelled_score = surfaces.pop().mean
    means = np.column_stack([surface.mean for surface in surfaces])
    spread = np.column_stack([surface.std for surface in surfaces])
    choosers = (found.raw, means, means if is_trusted else found.raw, found.truth)
    fronts = [np.flatnonzero(non_dominated(values, BOTH)) for values in choosers]
    size = len(fronts[0])

    def volume(chosen: Sequence[int] | NDArray[np.int64]) -> float:
        return hypervolume(found.truth[list(chosen)], reference, BOTH)

    score = found.truth.sum(axis=1) - CLEAN - ROBUST
    trusted_score = modelled_score if is_trusted else seen_score
    seen = (seen_score, modelled_score, trusted_score, score)
    return Outcome(
        np.array([volume(front) for front in fronts]),
        np.array([volume(greedy(values, size, reference)) for values in choosers]),
        np.array([score[int(np.argmax(values))] for values in seen]),
        np.array([len(front) for front in fronts], dtype=np.float64),
        np.array([surface.leave_one_out.r2 for surface in surfaces]),
        is_trusted,
        np.array([surface.leave_one_out.coverage for surface in surfaces]),
        float((np.abs(means - found.truth) <= 1.96 * spread).mean()),
    )


def recovered(values: Values) -> tuple[float, float]:
    """The recovered share and its jackknife standard error, for (repetitions, 3) values.

    The columns are raw, a model, and truth.
    """
    gained, lost = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
    share = float(gained.sum() / lost.sum())
    number = len(values)
    without = (gained.sum() - gained) / (lost.sum() - lost)
    error = np.sqrt((number - 1) / number * ((without - without.mean()) ** 2).sum())
    return share, float(error)


def report(title: str, outcomes: Sequence[Outcome]) -> None:
    """Print one block of means over the repetitions."""
    print(f"{title}, {len(outcomes)} repetitions")
    for name in ("whole", "equal", "score"):
        values = np.array([getattr(outcome, name) for outcome in outcomes])
        raw, model, trusted, best = values.mean(axis=0) * 1e3
        always, error = recovered(values[:, [0, 1, 3]])
        where, other = recovered(values[:, [0, 2, 3]])
        what = {
            "whole": "hypervolume, whole fronts  ",
            "equal": "hypervolume, equal numbers ",
            "score": "best score                 ",
        }[name]
        print(
            f"  {what} x 1000: raw {raw:7.2f}  model {model:7.2f}  trusted {trusted:7.2f}  "
            f"truth {best:7.2f}   recovered by the model {always:5.0%} (SE {error:.0%}), "
            f"trusted {where:5.0%} (SE {other:.0%})"
        )
    sizes = np.mean([outcome.sizes for outcome in outcomes], axis=0)
    r2 = np.mean([outcome.r2 for outcome in outcomes], axis=0)
    blind = np.mean([not outcome.is_trusted for outcome in outcomes])
    coverage = np.mean([outcome.coverage for outcome in outcomes], axis=0)
    inside = np.mean([outcome.truth_coverage for outcome in outcomes])
    print(
        f"  on the front: raw {sizes[0]:.1f}, model {sizes[1]:.1f}, truth {sizes[3]:.1f}; "
        f"R2_LOO clean {r2[0]:.2f}, robust {r2[1]:.2f}; no trust in {blind:.0%}; 95 % intervals "
        f"cover: measurements {coverage[0]:.0%}, {coverage[1]:.0%}, truths {inside:.0%}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a block for every sampler and number of trials."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[48])
    parser.add_argument("--samplers", nargs="+", choices=("random", "tpe"), default=["random"])
    parser.add_argument("--repetitions", type=int, default=60)
    parser.add_argument("--reference", type=float, nargs=2, default=[0.0, 0.0])
    parser.add_argument(
        "--nuisance", action="store_true", help="also search two parameters without influence"
    )
    parser.add_argument(
        "--highest-alpha", type=float, default=1.0, help="0.2 excludes the collapse"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    search = SEARCH | {"alpha": {**SEARCH["alpha"], "high": args.highest_alpha}}
    search |= NUISANCE if args.nuisance else {}
    print(
        f"searched: {', '.join(search)}, alpha up to {args.highest_alpha:g}; "
        f"reference point {args.reference}"
    )
    for sampler in args.samplers:
        for number in args.trials:
            outcomes = [
                repeat(number, sampler, search, args.reference, args.seed + repetition)
                for repetition in range(args.repetitions)
            ]
            report(f"{number} trials, {sampler}", outcomes)


if __name__ == "__main__":
    main()
