from __future__ import annotations

import itertools
import shutil
from typing import Any

import pytest
import torch

import simreg_core
from simreg_core.config.loading import load_trial_config
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import load_weights
from simreg_core.registry import METRICS
from simreg_core.seeding import generator
from tests.tuner_tests.export.cases import FILES, PARAMS, Case, case, python, trained
from tests.tuner_tests.spaces import write_space
from tuner.confirmation.summary import estimate, summarize, write_summary
from tuner.export.__main__ import _choose, export_trial, exported_metrics
from tuner.export.model_card import model_card

__all__ = ["case", "trained"]

SEEDS = (1000, 1001, 1002)


def test_four_files_without_pickles_load_as_the_same_network(case: Case) -> None:
    run = case.export()
    assert run.code == 0
    line = run.printed.splitlines()[-1]
    names = {"simreg_core": simreg_core}
    exec(line.removeprefix("load it: "), names)  # the command prints how
    pixels = torch.rand(9, 1, 8, 8, generator=generator(0, "pixels"))
    with torch.no_grad():
        found = simreg_core.load_exported(case.to)(pixels)
        assert torch.equal(found, names["model"](pixels))  # type: ignore[operator]
        assert torch.equal(found, load_weights(case.weights)(pixels))
        assert torch.equal(found, case.result.model(pixels))
    assert sorted(path.name for path in case.to.iterdir()) == FILES
    assert list(case.to.parent.iterdir()) == [case.to]
    starts = {path.name: path.read_bytes()[:2] for path in case.to.iterdir()}
    assert not {name for name, start in starts.items() if start in (b"PK", b"\x80\x02")}
    assert (case.to / "model.safetensors").read_bytes()[8:9] == b"{"  # its header is JSON
    assert load_trial_config(case.to / "config.yaml") == case.config


def test_figures_are_those_of_the_row_with_their_conditions(case: Case) -> None:
    case.export()
    row, found = case.row(), case.metrics
    for split in ("validation", "test"):
        assert found[split]["num_images"] == 64
        assert found[split]["is_selected_on"] == (split == "validation")
        names = [*METRICS.own, "robust_accuracy.gaussian", "robust_accuracy.transfer_fgsm"]
        assert found[split]["values"] == {name: row[f"{split}.{name}"] for name in names}
        assert {f"{split}.baseline_{k}": v for k, v in found[split]["baseline"].items()} == {
            name: value for name, value in row.items() if name.startswith(f"{split}.baseline_")
        }
    assert (found["study"], found["trial"], found["status"]) == ("tiny", 2, "complete")
    assert found["baseline_seeds"] == [1, 2]
    assert found["reference_epsilons"] == {"gaussian": 0.4, "transfer_fgsm": 0.15}
    assert found["config_digest"] == case.config.digest()
    assert found["provenance"]["torch_version"] == torch.__version__
    assert "host" not in found["provenance"]


def test_card_has_the_boundary_distance_and_names_an_unregularized_network(case: Case) -> None:
    boundary = BoundaryConfig(num_images=10)
    robustness = case.config.robustness.model_copy(update={"boundary": boundary})
    config = case.config.unregularized(0).model_copy(update={"robustness": robustness})
    row = case.row() | {"test.boundary_distance": 0.00123}
    metrics = exported_metrics(row, config, None)
    assert metrics["test"]["boundary_num_images"] == 10
    card = model_card(config, case.result.model, metrics)
    assert "| - | 0.00123 |" in card
    assert "without regularizer" in card


def test_best_is_that_of_the_objective_and_the_constraints(case: Case) -> None:
    row = case.row(3)
    robust, clean = row["validation.robust_accuracy"], row["validation.clean_accuracy"]
    other = {"validation.robust_accuracy": robust + 0.1, "validation.clean_accuracy": clean - 0.2}
    case.store.write_trial("trials", 3, [{**row, **other}])
    case = case._replace(to=case.to / "with" / "parents")
    assert case.export("best").code == 0
    assert case.metrics["trial"] == 2  # by the tradeoff score
    for constraints, number in (("[]", 3), (f"[robust_accuracy <= {robust}]", 2)):
        objective = f"[robust_accuracy]\nconstraints: {constraints}"
        write_space(case.folder, ("[clean_accuracy, robust_accuracy]", objective))
        assert _choose(case.store, None)["trial"] == number


def test_network_of_a_seed_has_its_own_figures(case: Case) -> None:
    row = case.row()
    own = [{**row, "seed": seed, "test.clean_accuracy": 0.5} for seed in (0, 1)]
    case.store.write_trial("seeds", 2, own)
    case.store.write_trial("trials", 2, [{**row, "num_seeds": 2}])
    case.weights.with_name("seed-0").mkdir()
    case.weights.rename(case.weights.parent / "seed-0" / "weights.pt")
    assert export_trial(case.folder, 2, case.to, 0) == (2, 0)
    assert case.metrics["test"]["values"]["clean_accuracy"] == 0.5
    with pytest.raises(ConfigError, match="trial 2 has no network of seed 7; it has: 0, 1"):
        export_trial(case.folder, 2, case.to.with_name("other"), 7)


def test_neither_ray_nor_optuna_is_loaded_and_threads_stay_as_they_are(case: Case) -> None:
    done = python(
        "import sys, torch",
        "torch.set_num_threads(2)",
        "from tuner.export.__main__ import main",
        f"code = main([{str(case.folder)!r}, '--trial', '2', '--to', {str(case.to)!r}])",
        "print(code, torch.get_num_threads(), *{'ray', 'optuna'} & set(sys.modules))",
    )
    assert done.stdout.splitlines()[-1] == "0 2"


# The model card


def test_card_names_input_conditions_figures_and_limits(case: Case) -> None:
    case.export()
    figures = case.result.columns
    clean, score = (
        [figures[f"{split}.{name}"] for split in ("validation", "test")]
        for name in ("clean_accuracy", "tradeoff_score")
    )
    for fragment in (
        "# tiny, trial 2",
        "(batch, 1, height, width)",
        "| `regularizer.alpha` | `0.1` |",
        "n = 64",
        "gaussian 0.4, transfer_fgsm 0.15",
        "not confirmed",
        "white-box",
        "simreg_core.load_exported(",
        f"| clean accuracy | {clean[0]:.4f} | {clean[1]:.4f} |",
        f"| tradeoff score | {score[0]:+.4f} | {score[1]:+.4f} |",
    ):
        assert fragment in case.card


# Confirmation


@pytest.mark.parametrize("robust", [(0.5, 0.75, 1.0), (0.5, 0.75), ()])
def test_confirmed_metrics_have_n_and_interval(robust: tuple[float, ...], case: Case) -> None:
    """A seed without a value has failed."""
    done: dict[str, dict[str, Any]] = {}
    for seed, baseline, own in itertools.zip_longest(SEEDS, (0.25, 0.375, 0.5), robust):
        regularized = case.config.model_copy(update={"seed": seed})
        plain = regularized.unregularized(seed)
        for role, config, value in (("trial", regularized, own), ("baseline", plain, baseline)):
            row: dict[str, Any] = dict.fromkeys((f"test.{name}" for name in METRICS.own), 0.0)
            row |= {"role": role, "status": "complete", "config_digest": config.digest()}
            if value is not None:
                done[config.digest()] = row | {"test.robust_accuracy": value}
    case.store.write("confirmation", "all", list(done.values()))
    candidate = summarize(2, PARAMS, 0.1, case.config, SEEDS, done)
    write_summary(case.store, [candidate], SEEDS, [case.config], done)
    case.export()
    found, num_failed = case.metrics["confirmation"], 3 - len(robust)
    assert (found["split"], found["seeds"]) == ("test", list(SEEDS))
    assert found["num_failed"] == num_failed
    assert found["baseline"]["robust_accuracy"] == estimate([0.25, 0.375, 0.5])._asdict()
    assert (f"{num_failed} of 3 seeds failed." in case.card) == (num_failed > 0)
    if robust:
        assert found["estimates"]["robust_accuracy"] == estimate(robust)._asdict()
        assert f"| robust accuracy | {len(robust)} | " in case.card
    else:
        assert found["estimates"] == {}
    if not num_failed:
        assert "| 3 | 0.7500 ± 0.6210 | 0.3750 ± 0.3105 | 3 |" in case.card
    shutil.copytree(case.weights.parent, case.folder / "checkpoints/00003")
    other = case._replace(to=case.to.with_name("other"))
    other.export("3")
    assert other.metrics["confirmation"] is None
