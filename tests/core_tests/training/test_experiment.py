from __future__ import annotations

import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.data.task import load_task
from simreg_core.networks.checkpoint import CheckpointError, save
from simreg_core.results.schema import SPLITS
from simreg_core.results.tradeoff import tradeoff
from simreg_core.robustness.evaluate import evaluate
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import Progress, TrialResult
from simreg_core.training.fit import mean_loss_and_accuracy
from simreg_core.training.start import start
from tests.core_tests.measuring import accuracies, run
from tests.core_tests.trained_networks import CPU, MakeConfig, numbers_of

WEIGHTED = {"robustness.tradeoff_weight": 3.0}
_CLOCK = {"train_seconds", "evaluate_seconds", "started_at", "finished_at"}


def _figures(result: TrialResult) -> dict[str, Any]:
    return {name: value for name, value in result.columns.items() if name not in _CLOCK}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baseline networks, trained once for all tests of this file."""
    return tmp_path_factory.mktemp("baselines")


@pytest.fixture(scope="module")
def result(tiny_config: MakeConfig, cache: Path) -> TrialResult:
    return run(tiny_config(WEIGHTED), cache)


@pytest.mark.parametrize("split", SPLITS)
def test_metrics_are_those_of_the_kept_network_against_the_baselines(
    split: str, result: TrialResult, cache: Path
) -> None:
    config = result.config
    data = load_task(config.task)
    baselines = BaselineCache(cache, data, CPU).load(config)
    points = evaluate(
        result.model, data.split(split), split, config.robustness, baselines.surrogates
    )
    own = accuracies(points)
    expected = own | tradeoff(
        own["clean_accuracy"], own["robust_accuracy"], baselines.accuracy(split), 3.0
    )
    assert expected["accuracy_cost"] != 0, "this run cannot tell one weight from another"
    found = {name: result.columns[f"{split}.{name}"] for name in expected}
    assert found == expected
    assert [point for point in result.curves if point.split == split] == points


def test_network_with_the_kept_weights_is_evaluated(tiny_config: MakeConfig, cache: Path) -> None:
    changes = {"training.epochs": 6, "training.learning_rate": 0.5, "regularizer.alpha": 0}
    config = tiny_config({**changes, "training.schedule": {"factor": 1.0}, "seed": 2})
    result = run(config, cache)
    assert result.columns["kept_epoch"] < 5, "this run cannot tell the best epoch from the last"
    kept = result.epochs[result.columns["kept_epoch"]]
    assert result.metric("clean_accuracy", "validation") == kept.validation_accuracy
    loss, _ = mean_loss_and_accuracy(result.model, load_task(config.task).validation)
    assert loss == kept.validation_loss


def test_unregularized_trial_of_the_baselines_seed_scores_exactly_zero(
    tiny_config: MakeConfig, cache: Path
) -> None:
    config = tiny_config({"regularizer.alpha": 0, "seed": 1})
    result = run(config, cache)
    for split in SPLITS:
        for name in ("accuracy_cost", "robustness_gain", "tradeoff_score"):
            assert result.metric(name, split) == 0
        assert result.metric("tradeoff_ratio", split) is None


def test_columns_say_what_was_run_and_how_it_ended(result: TrialResult) -> None:
    columns, config = result.columns, result.config
    assert columns["config_digest"] == config.digest()
    assert columns["baseline_digest"] == result.baselines.digest
    assert {name: columns[name] for name in config.flat()} == config.flat()
    assert [columns[f"num_{name}"] for name in ("train", "validation", "test")] == [128, 64, 64]
    losses = [record.validation_loss for record in result.epochs]
    assert columns["validation_loss"] == min(losses)
    assert columns["kept_epoch"] == losses.index(min(losses))
    for name in ("similarity_correlation", "positive_share", "negative_share"):
        assert columns[name] == getattr(result.epochs[-1], name)
    begun, ended = (datetime.fromisoformat(columns[f"{n}_at"]) for n in ("started", "finished"))
    assert begun <= ended
    assert columns["train_seconds"] > 0
    assert columns["evaluate_seconds"] > 0


def test_run_that_is_killed_after_an_epoch_continues_to_the_same_result(
    tiny_config: MakeConfig, cache: Path, tmp_path: Path
) -> None:
    config, path = tiny_config({"training.epochs": 4}), tmp_path / "state.pt"

    def killed(progress: Progress) -> None:
        if len(progress.records) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, cache, checkpoint=path, on_epoch=killed)
    seen: list[int] = []
    resumed = run(
        config,
        cache,
        checkpoint=path,
        on_epoch=lambda progress: seen.append(progress.records[-1].epoch),
    )
    whole = run(config, cache)
    assert seen == [2, 3]
    assert _figures(resumed) == _figures(whole)
    assert numbers_of(resumed.epochs) == numbers_of(whole.epochs)
    assert resumed.curves == whole.curves


@pytest.mark.parametrize("kind", ["weights", "other trial"])
def test_wrong_checkpoint_stops_the_run_instead_of_starting_over(
    kind: str, tiny_config: MakeConfig, cache: Path, tmp_path: Path
) -> None:
    path, other = tmp_path / "state.pt", tiny_config({"training.learning_rate": 0.2})
    if kind == "weights":
        save({"weights": torch.zeros(3)}, path)
    else:
        start(other, load_task(other.task), CPU).save(path, other.digest())
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"state\.pt belongs to another configuration"):
        run(tiny_config(), cache, checkpoint=path)
    assert path.read_bytes() == content


def test_boundary_and_corruptions_are_columns_where_configured(
    tiny_config: MakeConfig, cache: Path
) -> None:
    config = tiny_config(
        {
            "robustness.boundary": {"steps": 5, "num_images": 20, "repeats": 1},
            "robustness.corruptions": {"kinds": ["contrast"], "severities": [1, 5]},
        }
    )
    result = run(config, cache)
    plain = run(tiny_config(), cache)
    for split in SPLITS:
        points = [p for p in result.curves if p.split == split and p.attack[0] == "c"]
        assert [point.epsilon for point in points] == [1.0, 5.0]
        mean = statistics.fmean(point.accuracy for point in points)
        assert result.metric("corruption_accuracy", split) == mean
        distance = result.metric("boundary_distance", split)
        assert distance is not None
        assert 0 <= distance < 1
        for name in ("clean_accuracy", "robust_accuracy", "tradeoff_score"):
            assert result.metric(name, split) == plain.metric(name, split)


# figures of single epochs, for a rule that stops trials early


def test_metrics_of_an_epoch_are_those_that_its_network_is_measured_to_have(
    tiny_config: MakeConfig, cache: Path
) -> None:
    """With the network of the last epoch kept, the last epoch's are the final ones, exactly, if
    these come from one surrogate and one draw."""
    attacks = {name: {"max_epsilon": 0.4} for name in ("gaussian", "uniform", "salt_pepper")}
    changes = {
        "training.keep": "last",
        "training.epochs": 3,
        "robustness.attacks": {**attacks, "transfer_fgsm": {"max_epsilon": 0.2}},
        "robustness.reference": {"transfer_fgsm": 0.15, "uniform": 0.3, "salt_pepper": 0.4},
        "robustness.corruptions": {"kinds": ["brightness"], "severities": [1]},
        "robustness.tradeoff_weight": 2.0,
        "robustness.surrogates": 1,
    }
    found: list[dict[str, float]] = []
    result = run(
        tiny_config(changes),
        cache,
        on_epoch=lambda progress: found.append(progress.metrics()),
    )
    assert found[-1] == {name: result.metric(name, "validation") for name in found[-1]}
    assert found[-1].keys() == {"clean_accuracy", "robust_accuracy", "tradeoff_score"}
    clean = [metrics["clean_accuracy"] for metrics in found]
    assert clean == [record.validation_accuracy for record in result.epochs]
    unmeasured = run(tiny_config(changes), cache)
    assert _figures(result) == _figures(unmeasured)
    assert numbers_of(result.epochs) == numbers_of(unmeasured.epochs)
