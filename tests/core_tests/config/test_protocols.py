from __future__ import annotations

import copy
from typing import Any

import pytest

from simreg_core.config.protocols import merge, protocol_of, protocols, with_protocol
from simreg_core.config.trial import TrialConfig


def _published(protocol: str) -> TrialConfig:
    return TrialConfig.from_dict({"task": {"dataset": "parquet:/x", "protocol": protocol}})


@pytest.mark.parametrize(
    ("protocol", "alpha", "threshold", "epsilons"),
    [
        ("cifar10", 10, 0.8, (0.1, 0.1, 0.1, 0.02)),
        ("cifar100", 10, 0.8, (0.1, 0.1, 0.1, 0.005)),
        ("mnist", 4, 0.2, (0.5, 0.5, 0.3, 0.5)),
        ("fashion_mnist", 10, 0.8, (0.5, 0.5, 0.3, 0.5)),
    ],
)
def test_published_values_of_each_task(
    protocol: str, alpha: float, threshold: float, epsilons: tuple[float, ...]
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
    found = {name: attack.max_epsilon for name, attack in config.robustness.attacks.items()}
    names = ("gaussian", "uniform", "salt_pepper", "transfer_fgsm")
    assert found == dict(zip(names, epsilons, strict=True))


@pytest.mark.parametrize("protocol", protocols())
def test_protocol_makes_a_valid_configuration_that_states_it(protocol: str) -> None:
    assert _published(protocol).task.protocol == protocol


@pytest.mark.parametrize(("dataset", "protocol"), [("digits", "digits"), ("parquet:/x", "cifar10")])
def test_dataset_has_its_own_protocol(dataset: str, protocol: str) -> None:
    assert protocol_of(dataset) == protocol
    assert TrialConfig.from_dict({"task": {"dataset": dataset}}).task.protocol == protocol


@pytest.mark.parametrize("num_train", [500, None])
def test_what_the_user_writes_wins_over_the_protocol(num_train: int | None) -> None:
    trial: dict[str, Any] = {"task": {"dataset": "digits", "num_train": num_train}}
    before = copy.deepcopy(trial)
    assert TrialConfig.from_dict(trial).task.num_train == num_train
    assert trial == before


def test_attack_tables_are_replaced_whole() -> None:
    given = {"attacks": {"gaussian": {"max_epsilon": 0.2}}, "reference": {"gaussian": 0.1}}
    config = TrialConfig.from_dict({"task": {"dataset": "digits"}, "robustness": given})
    assert list(config.robustness.attacks) == list(config.robustness.reference) == ["gaussian"]


MALFORMED = ["digits", {"dataset": 3}, *({"dataset": "digits", "protocol": p} for p in ("x", 3))]


@pytest.mark.parametrize("trial", [{}, *({"task": task} for task in MALFORMED)], ids=str)
def test_malformed_task_passes_through_for_validation(trial: dict[str, Any]) -> None:
    assert with_protocol(trial) == trial


def test_merge_lays_nested_mappings_over_each_other() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    over = {"a": {"c": {"f": 4}}, "e": {"g": 5}}
    assert merge(base, over) == {"a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": {"g": 5}}
