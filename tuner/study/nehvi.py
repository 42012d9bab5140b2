"""A sampler that knows that a training is one noisy measurement.

Noisy expected hypervolume improvement (Daulton et al., arXiv:2105.08195). A Gaussian process per
objective tells what the mean over seeds may be, at known and at new configurations. The proposal is
the candidate that adds most hypervolume to the known configurations, on average over joint draws.
Lucky trials therefore do not define the front that has to be beaten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from simreg_core.registry import METRICS
from simreg_core.statistics.improvement import expected_gains
from simreg_core.statistics.noisy_model import NoisyModel
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import front_among
from tuner.study.unit_values import spec_of, unit_of, value_at

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MIN_FINISHED = 5  # with fewer finished trials, proposals come from the Sobol sequence
_MAX_DRAWN = 300  # known trials in the joint draws, whose cost is cubic
_MAX_DIMENSIONS = 64  # of the Sobol sequence
_MAX_NUMBER = 2000  # of candidates and draws, whose joint covariance has to fit in memory
_SPREADS = (0.12, 0.04)  # of candidates around a parent, in units of the range
_REDRAWN = 0.3  # probability that such a candidate gets another category


class NEHVISampler(BaseSampler):
    """Noisy expected hypervolume improvement.

    The first proposals are points of a scrambled Sobol sequence. Running trials count with the
    value that the model predicts for them. Failed and pruned trials are left out, and so are those
    with an infinite value or without a constraint that others have. Constraints that are set with
    ``trial.set_constraint`` are modelled too.

    Args:
        seed: Seed of all draws; proposals depend on it and on the number of the trial.
        num_initial: Trials from the Sobol sequence; warm starts count.
        num_draws: Joint draws from the models.
        num_uniform: Candidates that are uniform in the search space.
        num_local: Candidates near configurations on the modelled front.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        num_initial: int = 10,
        num_draws: int = 32,
        num_uniform: int = 160,
        num_local: int = 120,
    ) -> None:
        numbers = {
            "num_initial": num_initial,
            "num_draws": num_draws,
            "num_uniform": num_uniform,
            "num_local": num_local,
        }
        for name, value in numbers.items():
            low = 0 if name == "num_local" else 1
            if type(value) is not int or not low <= value <= _MAX_NUMBER:
                raise ValueError(
                    f"{name} must be a whole number from {low} to {_MAX_NUMBER}, found {value!r}"
                )
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._num_initial = num_initial
        self._num_draws = num_draws
        self._num_uniform = num_uniform
        self._num_local = num_local

    def reseed_rng(self) -> None:
        """Draw another seed, as Optuna asks for in each of several processes."""
        self._seed = int(np.random.SeedSequence().generate_state(1)[0])

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that all finished trials share; none for the first trials."""
        if trial.number < self._num_initial:
            return {}
        shared = IntersectionSearchSpace().calculate(study)
        return {name: found for name, found in shared.items() if not found.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The candidate with the greatest expected improvement."""
        rng = np.random.default_rng([self._seed, trial.number])
        finished = _usable(_trials(study, TrialState.COMPLETE, search_space))
        if not search_space or len(finished) < _MIN_FINISHED:
            return {}
        running = _trials(study, TrialState.RUNNING, search_space)
        running = [other for other in running if other.number != trial.number]
        with threadpool_limits(1):  # the matrices are small, and the trials need the cores
            return self._propose(study, finished, running, search_space, rng)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The trial's point of the Sobol sequence; its parameters are the dimensions in turn."""
        from scipy.stats import qmc  # slow to import

        dimension = len(trial.params) % _MAX_DIMENSIONS
        engine = qmc.Sobol(_MAX_DIMENSIONS, rng=self._seed)
        if trial.number:
            engine.fast_forward(trial.number)
        return value_at(param_distribution, float(engine.random(1)[0, dimension]))

    def _propose(
        self,
        study: Study,
        finished: Sequence[FrozenTrial],
        running: Sequence[FrozenTrial],
        search_space: Mapping[str, BaseDistribution],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        encode = _Encoder(search_space)
        known, pending = encode.trials(finished), encode.trials(running)
        signs = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions])
        values = np.array([trial.values for trial in finished])
        are_accuracies = _are_accuracies(study)
        models = [
            NoisyModel.fitted(known, column, is_accuracy=is_accuracy)
            for column, is_accuracy in zip(values.T, are_accuracies, strict=True)
        ]
        means = signs * np.column_stack([model.means for model in models])
        limits = [
            NoisyModel.fitted(known, violations, is_accuracy=False)
            for violations in _constraint_values(finished)
        ]
        # Beside a front that the constraints forbid, nothing that they allow would be a gain.
        feasible = np.ones(len(finished), dtype=np.bool_)
        for model in limits:
            feasible &= model.means <= 0
        allowed = feasible if feasible.any() else ~feasible
        on_front = front_among(means, allowed, [True] * len(signs))
        parents = [trial.params for trial, best in zip(finished, on_front, strict=True) if best]
        candidates = self._candidates(parents, search_space, rng)
        kept = _kept(known, on_front, rng)
        known = known[kept]
        models, limits = ([one.given(kept) for one in group] for group in (models, limits))
        at = np.concatenate([known, pending, encode(candidates)])

        drawn = [model.draws(at, pending, self._num_draws, rng) for model in models]
        gains = signs * np.stack(drawn, axis=-1) - _reference(means, on_front, are_accuracies)
        meets = np.ones(gains.shape[:2], dtype=np.bool_)
        for model in limits:
            meets &= model.draws(at, pending, self._num_draws, rng) <= 0
        number = len(known) + len(pending)
        expected = expected_gains(
            gains[:, :number], gains[:, number:], meets[:, :number], meets[:, number:]
        )
        return candidates[int(np.argmax(expected))]

    def _candidates(
        self,
        parents: Sequence[Mapping[str, Any]],
        search_space: Mapping[str, BaseDistribution],
        rng: np.random.Generator,
    ) -> list[dict[str, Any]]:
        """Uniform configurations, and some near those on the modelled front."""
        found = [
            {name: value_at(one, rng.random()) for name, one in search_space.items()}
            for _ in range(self._num_uniform)
        ]
        for _ in range(self._num_local):
            parent = parents[int(rng.integers(len(parents)))]
            spread = rng.choice(_SPREADS)
            near: dict[str, Any] = {}
            for name, one in search_space.items():
                if isinstance(one, CategoricalDistribution):
                    is_new = rng.random() < _REDRAWN
                    near[name] = value_at(one, rng.random()) if is_new else parent[name]
                else:
                    moved = abs(unit_of(one, parent[name]) + spread * rng.standard_normal())
                    near[name] = value_at(one, 1 - abs(1 - moved))  # reflected at 0 and 1
            found.append(near)
        return found


class _Encoder:
    """Points of configurations in the inputs of the models."""

    def __init__(self, search_space: Mapping[str, BaseDistribution]) -> None:
        self._specs = {name: spec_of(one) for name, one in search_space.items()}
        # Rows that hold every choice and both ends: the inputs do not depend on the other rows.
        extremes = {
            name: spec.get("choices") or [spec["low"], spec["high"]]
            for name, spec in self._specs.items()
        }
        self._anchors = [
            {name: values[row % len(values)] for name, values in extremes.items()}
            for row in range(max(map(len, extremes.values())))
        ]

    def __call__(self, configurations: Sequence[Mapping[str, Any]]) -> Array:
        rows = [*self._anchors, *configurations]
        return parameter_points(self._specs, rows).points[len(self._anchors) :]

    def trials(self, trials: Sequence[FrozenTrial]) -> Array:
        return self([{name: trial.params[name] for name in self._specs} for trial in trials])


def _trials(
    study: Study, state: TrialState, search_space: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """Trials in a state that have all parameters."""
    trials = study.get_trials(deepcopy=False, states=(state,))
    return [trial for trial in trials if search_space.keys() <= trial.params.keys()]


def _are_accuracies(study: Study) -> list[bool]:
    """Which objectives are accuracies of this project, by their names in the study."""
    names = study.metric_names or [""] * len(study.directions)
    known = METRICS.known
    return [name in known and known[name].is_accuracy for name in names]


def _usable(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Finished trials with finite values of all objectives and of all constraints."""
    names = {name for trial in trials for name in trial.constraints}
    return [
        trial
        for trial in trials
        if names <= trial.constraints.keys()
        and np.isfinite([*trial.values, *trial.constraints.values()]).all()
    ]


def _constraint_values(trials: Sequence[FrozenTrial]) -> list[Array]:
    """Violations of every constraint, each (n,); 0 or less if it is met."""
    names = sorted(trials[0].constraints)
    return [np.array([trial.constraints[name] for trial in trials]) for name in names]


def _kept(known: Array, on_front: Mask, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of many known points (n, d): one half is nearest to the front, the other random."""
    if len(known) <= _MAX_DRAWN:
        return np.arange(len(known))
    order = rng.permutation(len(known))
    distance, _ = cKDTree(known[on_front]).query(known[order])
    order = order[np.argsort(distance, kind="stable")]
    near, far = np.split(order, [_MAX_DRAWN // 2])
    return np.concatenate([near, rng.choice(far, _MAX_DRAWN - len(near), replace=False)])


def _reference(means: Array, on_front: Mask, are_accuracies: Sequence[bool]) -> Array:
    """A point worse than the front of means (n, M), which are larger-is-better.

    It has to leave room for tradeoffs beyond the ends of a front that is still short.
    """
    spread = np.ptp(means, axis=0)
    room = np.where(are_accuracies, 0.1, np.where(spread > 0, 0.2 * spread, 1.0))
    point: Array = means[on_front].min(axis=0) - room
    return point
