from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, TrialState, create_trial

from tuner.study import nehvi
from tuner.study.nehvi import NEHVISampler

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0.0, 1.0),
    "rate": FloatDistribution(1e-3, 1.0, log=True),
    "size": IntDistribution(1, 32, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
}
Score = Callable[[dict[str, Any]], list[float]]


def _study(objectives: int = 2, seed: int = 0, **options: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = NEHVISampler(seed=seed, **options)
    return optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)


def _run(study: optuna.Study, number: int, score: Score) -> list[Trial]:
    trials = []
    for _ in range(number):
        trial = study.ask(SPACE)
        study.tell(trial, score(trial.params))
        trials.append(trial)
    return trials


def _score(objectives: int) -> Score:
    """Best at x = 0.7, kind b; the second objective prefers small x, the third small sizes."""

    def score(params: dict[str, Any]) -> list[float]:
        bonus = 0.2 * (params["kind"] == "b")
        values = [-((params["x"] - 0.7) ** 2) + bonus, -params["x"] + bonus]
        return [*values, -params["size"] / 32][:objectives]

    return score


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_proposals_are_allowed_and_repeat_with_the_seed(objectives: int) -> None:
    runs = [_run(_study(objectives, seed), 14, _score(objectives)) for seed in (3, 3, 4)]
    params = [[trial.params for trial in trials] for trials in runs]
    assert params[0] == params[1]
    assert params[0][0] != params[2][0]
    for found in params[0]:
        assert all(one._contains(one.to_internal_repr(found[name])) for name, one in SPACE.items())


def test_first_proposals_fill_the_space_evenly() -> None:
    study = _study(num_initial=16)
    params = [study.ask(SPACE).params for _ in range(16)]
    for places in ([p["x"] for p in params], [1 + np.log10(p["rate"]) / 3 for p in params]):
        assert np.histogram(places, bins=16, range=(0, 1))[0].tolist() == [1] * 16


def test_it_finds_what_is_best_under_noise() -> None:
    rng = np.random.default_rng(0)

    def noisy(params: dict[str, Any]) -> list[float]:
        return [_score(1)(params)[0] + 0.1 * rng.standard_normal()]

    late = [trial.params for trial in _run(_study(1), 40, noisy)[-15:]]
    assert np.mean([found["kind"] == "b" for found in late]) > 0.6
    assert np.median([abs(found["x"] - 0.7) for found in late]) < 0.2


def test_an_objective_can_be_minimised() -> None:
    study = optuna.create_study(direction="minimize", sampler=NEHVISampler(seed=1))
    trials = _run(study, 30, lambda params: [-_score(1)(params)[0]])
    assert np.median([abs(trial.params["x"] - 0.7) for trial in trials[-10:]]) < 0.2


def test_failed_and_pruned_trials_do_not_count() -> None:
    one, other = _study(2), _study(2)
    for study in (one, other):
        _run(study, 10, _score(2))
    for state in (TrialState.FAIL, TrialState.PRUNED):
        other.tell(other.ask(SPACE), state=state)
        one.ask(SPACE)  # the same numbers; still running
    assert len(other.ask(SPACE).params) == len(SPACE)


def test_workers_at_once_are_sent_to_different_places() -> None:
    study = _study(2)
    _run(study, 12, _score(2))
    asked = [study.ask(SPACE).params for _ in range(8)]
    assert len({found["x"] for found in asked}) == 8
    assert np.std([found["x"] for found in asked]) > 0.02


def test_constraints_steer_the_search() -> None:
    study = _study(1)
    for _ in range(40):
        trial = study.ask(SPACE)
        trial.set_constraint("x", trial.params["x"] - 0.4)
        study.tell(trial, _score(1)(trial.params))
    late = [trial.params["x"] for trial in study.trials[-15:]]
    assert np.median(late) < 0.45  # without the constraint 0.7 is best


def test_what_the_constraint_forbids_may_be_far_better() -> None:
    study = _study(1)
    for _ in range(20):
        trial = study.ask(SPACE)
        x = trial.params["x"]
        trial.set_constraint("x", 0.6 - x)
        study.tell(trial, -x - 0.3 * (trial.params["kind"] != "b"))
    assert study.best_value == pytest.approx(-0.6, abs=0.02)


def test_wrong_options_are_refused() -> None:
    names = ("num_initial", "num_draws", "num_uniform", "num_local")
    for name, value in [*((name, -1) for name in names), ("num_draws", 1.5), ("num_draws", "3")]:
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"^{name} must be a whole number"):
            NEHVISampler(seed=0, **wrong)


def test_values_without_noise_are_no_problem() -> None:
    space: dict[str, BaseDistribution] = {"kind": CategoricalDistribution(["a", "b", "c", "d"])}
    values = {"a": [0.1, 1.0], "b": [0.4, 0.9], "c": [0.6, 0.5], "d": [0.2, 0.8]}
    study = _study(2)
    for _ in range(20):
        trial = study.ask(space)
        study.tell(trial, values[trial.params["kind"]])
    assert {trial.params["kind"] for trial in study.best_trials} == {"a", "b", "c"}


def test_units_of_an_objective_do_not_matter() -> None:
    def proposals(unit: float) -> list[dict[str, Any]]:
        def score(params: dict[str, Any]) -> list[float]:
            first, second = _score(2)(params)
            return [first, unit * second]

        return [trial.params for trial in _run(_study(2), 14, score)]

    assert proposals(1.0) == proposals(2.0**-10)


def test_trials_without_what_the_models_need_are_left_out() -> None:
    study = _study(2)
    for number in range(12):
        trial = study.ask(SPACE)
        if number:
            trial.set_constraint("x", trial.params["x"] - 0.4)
        study.tell(trial, [np.inf, 1.0] if number == 1 else _score(2)(trial.params))
    assert study.ask(SPACE).params.keys() == SPACE.keys()


def test_no_value_or_only_noise_to_search() -> None:
    spaces: list[dict[str, BaseDistribution]] = [
        {"x": FloatDistribution(1.0, 1.0), "kind": CategoricalDistribution([None])},
        {"seed": IntDistribution(0, 9)},
    ]
    for space in spaces:
        study = _study(1)
        for number in range(12):
            trial = study.ask(space)
            study.tell(trial, float(number % 3))
        assert study.ask(space).params.keys() == space.keys()


def test_many_trials_leave_the_front_and_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nehvi, "_MAX_DRAWN", 12)
    rng = np.random.default_rng(0)
    study = _study(2)
    for x in rng.random(60):
        params = {"x": float(x), "rate": 0.1, "size": 4, "kind": "b"}
        study.add_trial(create_trial(params=params, distributions=SPACE, values=_score(2)(params)))
    asked = [study.ask(SPACE).params for _ in range(4)]
    assert np.median([found["x"] for found in asked]) < 0.75  # beyond 0.7 both objectives are worse
