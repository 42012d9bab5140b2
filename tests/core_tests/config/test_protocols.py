from __future__ import annotations

from typing import Any

import pytest

from simreg_core.config.protocols import merge, protocol_of, protocols, with_protocol
from simreg_core.config.trial import TrialConfig


def _published(protocol: str) -> TrialConfig:
    return TrialConfig.from_dict({"task": {"dataset": "parquet:/x", "protocol": protocol}})


@pytest.mark.parametrize(
    ("protocol", "alpha", "threshold", "noise", "salt_pepper", "fgsm"),
    [
        ("cifar10", 10, 0.8, 0.1, 0.1, 0.02),
        ("cifar100", 10, 0.8, 0.1, 0.1, 0.005),
        ("mnist", 4, 0.2, 0.5, 0.3, 0.5),
        ("fashion_mnist", 10, 0.8, 0.5, 0.3, 0.5),
    ],
)
def test_published_values_of_each_task(
    protocol: str, alpha: float, threshold: float, noise: float, salt_pepper: float, fgsm: float
) -> None:
    config = _published(protocol)
    regularizer, training, schedule = config.regularizer, config.training, config.training.schedule
    assert (regularizer.alpha, regularizer.threshold) == (alpha, threshold)
    assert (regularizer.batch_size, regularizer.num_images) == (16, 5000)
    assert regularizer.transform == "arctanh"
    assert (config.model.scale, config.model.shift, config.model.base_channels) == (5, 0.5, 64)
    assert (training.learning_rate, training.momentum, training.weight_decay) == (0.1, 0.9, 0)
    assert (training.batch_size, training.epochs, training.keep) == (64, 40, "best")
    assert (schedule.unit, schedule.factor) == ("epochs", 0.3)
    assert (schedule.step, schedule.restart) == (4, 20)
    is_cifar = protocol.startswith("cifar")
    assert training.augmentation.crop_padding == (4 if is_cifar else 0)
    assert training.augmentation.horizontal_flip is is_cifar
    attacks = config.robustness.attacks
    assert {name: attack.max_epsilon for name, attack in attacks.items()} == {
        "gaussian": noise,
        "uniform": noise,
        "salt_pepper": salt_pepper,
        "transfer_fgsm": fgsm,
    }


@pytest.mark.parametrize("protocol", protocols())
def test_protocol_makes_a_valid_configuration_that_states_it(protocol: str) -> None:
    assert _published(protocol).task.protocol == protocol


@pytest.mark.parametrize(("dataset", "protocol"), [("digits", "digits"), ("parquet:/x", "cifar10")])
def test_dataset_has_its_own_protocol(dataset: str, protocol: str) -> None:
    assert protocol_of(dataset) == protocol
    assert TrialConfig.from_dict({"task": {"dataset": dataset}}).task.protocol == protocol


def test_what_the_user_writes_wins_over_the_protocol() -> None:
    trial = {"task": {"dataset": "digits", "num_train": 500}, "regularizer": {"alpha": 2.5}}
    config = TrialConfig.from_dict(trial)
    assert config.task.num_train == 500
    assert config.regularizer.alpha == 2.5


def test_null_turns_a_default_of_the_protocol_off() -> None:
    config = TrialConfig.from_dict({"task": {"dataset": "digits", "num_train": None}})
    assert config.task.num_train is None


@pytest.mark.parametrize("table", ["attacks", "reference"])
def test_attack_tables_are_replaced_whole(table: str) -> None:
    given: dict[str, Any] = {
        "attacks": {"gaussian": {"max_epsilon": 0.2}},
        "reference": {"gaussian": 0.1},
    }
    config = TrialConfig.from_dict({"task": {"dataset": "digits"}, "robustness": given})
    assert list(getattr(config.robustness, table)) == ["gaussian"]


def test_the_users_dictionary_is_left_as_it_was() -> None:
    trial: dict[str, Any] = {"task": {"dataset": "digits"}, "training": {"epochs": 3}}
    with_protocol(trial)
    assert trial == {"task": {"dataset": "digits"}, "training": {"epochs": 3}}


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param({}, id="no-task"),
        pytest.param({"task": "digits"}, id="task-is-text"),
        pytest.param({"task": {"dataset": 3}}, id="dataset-is-a-number"),
        pytest.param({"task": {"dataset": "digits", "protocol": "x"}}, id="unknown-protocol"),
        pytest.param({"task": {"dataset": "digits", "protocol": 3}}, id="protocol-is-a-number"),
    ],
)
def test_malformed_task_passes_through_for_validation(trial: dict[str, Any]) -> None:
    assert with_protocol(trial) == trial


def test_merge_lays_nested_mappings_over_each_other() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    over = {"a": {"c": {"f": 4}}, "e": {"g": 5}}
    assert merge(base, over) == {"a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": {"g": 5}}
