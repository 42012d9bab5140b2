from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import TUNING, make_space
from tuner.space.samplers import SAMPLERS
from tuner.study.study import open_study

OBJECTIVES = ("[clean_accuracy, robust_accuracy]", "[tradeoff_score]")


def _tuning(sampler: str) -> tuple[str, str]:
    return (TUNING, f"tuning: {{num_trials: 4, sampler: {sampler}}}")


def test_any_sampler_of_optuna_needs_no_declaration(tmp_path: Path) -> None:
    options = "'optuna.samplers:QMCSampler', options: {qmc_type: halton}"
    space = make_space(tmp_path, _tuning(options), OBJECTIVES)
    study = open_study(tmp_path, space)
    assert isinstance(study.sampler, optuna.samplers.QMCSampler)


def test_a_sampler_of_ones_own_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_samplers.py").write_text(
        "import optuna\n"
        "from tuner.space.samplers import sampler\n"
        "class Lowest(optuna.samplers.RandomSampler):\n"
        "    def sample_independent(self, study, trial, name, distribution):\n"
        "        return distribution.low\n"
        "@sampler('lowest')\n"
        "def lowest(*, seed): return Lowest(seed=seed)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "my_samplers", None)
    monkeypatch.delitem(sys.modules, "my_samplers")
    space = make_space(tmp_path, _tuning("'my_samplers:lowest'"))
    trial = open_study(tmp_path, space).ask(space.distributions())
    assert trial.params["regularizer.threshold"] == 0.1


def test_options_reach_the_sampler() -> None:
    with pytest.raises(ConfigError, match=r"^tuning\.options\.n_startup: unknown option; tpe"):
        SAMPLERS.get("tpe").make(0, {"n_startup": 3})
    made = SAMPLERS.get("nsgaii").make(0, {"population_size": 7})
    assert isinstance(made, optuna.samplers.NSGAIISampler)


@pytest.mark.parametrize(
    ("sampler", "key"),
    [
        ("cmaes", "tuning.sampler"),
        (
            "random, options: {speed: 3}",
            r"tuning\.options\.speed: unknown option; random",
        ),
        ("nehvi, options: {num_draws: 1.5}", r"tuning\.options\.num_draws: "),
        ("tpe, options: {n_ei_candidates: x}", r"tuning\.options\.n_ei_candidates: "),
        ("tpe, options: {n_ei_candidates: 0}", "tuning.sampler"),  # fails after ten trials
        ("tpe, options: {seed: 3}", r"tuning\.options\.seed: set tuning\.seed"),
        ("'optuna.samplers:CmaEsSampler'", "tuning.sampler"),  # one objective only
        ("'optuna.samplers:NoSampler'", "NoSampler"),
        ("'pathlib:Path'", "tuning.sampler"),
    ],
)
def test_unusable_sampler_is_refused_by_key(sampler: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=key):
        make_space(tmp_path, _tuning(sampler))
