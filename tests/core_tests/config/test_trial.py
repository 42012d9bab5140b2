from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig, field_paths
from simreg_core.registry import ATTACKS
from tests.core_tests.trained_networks import MakeConfig

ROOT = Path(__file__).resolve().parents[3]


@st.composite
def trials(draw: st.DrawFn) -> dict[str, Any]:
    """Valid trials as users write them: some keys given, others left to the protocol."""
    attacks = draw(
        st.lists(st.sampled_from(tuple(ATTACKS.own)), min_size=1, max_size=4, unique=True)
    )
    reference = draw(st.lists(st.sampled_from(attacks), min_size=1, unique=True))
    options: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "task": {
            "image_size": st.none() | st.integers(5, 64),
            "color": st.booleans(),
            "protocol": st.none() | st.sampled_from(["cifar10", "cifar100", "mnist", "digits"]),
            "num_train": st.none() | st.integers(2, 1000),
            "split_seed": st.integers(0, 2**32 - 1),
        },
        "model": {
            "architecture": st.sampled_from(["resnet18", "resnet34", "resnet50"]),
            "blocks": st.none() | st.lists(st.integers(1, 4), min_size=1, max_size=5),
            "scale": st.floats(1e-3, 1e3),
            "shift": st.floats(0.1, 2.0),
        },
        "training": {
            "epochs": st.integers(1, 100),
            "learning_rate": st.floats(1e-8, 10) | st.integers(1, 3),
            "keep": st.sampled_from(["best", "last"]),
            "augmentation": st.just({"crop_padding": 0}),
        },
        "regularizer": {
            "alpha": st.floats(0.001, 1e6) | st.integers(0, 20),
            "threshold": st.floats(0, 1, exclude_min=True, exclude_max=True),
            "dataset": st.sampled_from(["task", "digits", "natural", "parquet:/data/imagenet"]),
            "shuffle_targets": st.booleans(),
        },
        "robustness": {
            "attacks": st.just({name: {"max_epsilon": 0.25} for name in attacks}),
            "reference": st.just(dict.fromkeys(reference, 0.125)),
            "baseline_seeds": st.lists(st.integers(0, 2**32 - 1), min_size=1, unique=True),
        },
    }
    trial: dict[str, Any] = {
        section: draw(st.fixed_dictionaries({}, optional=keys)) for section, keys in options.items()
    }
    # Both or neither: a reference must name attacks that are measured.
    if len({"attacks", "reference"} & set(trial["robustness"])) == 1:
        trial["robustness"] = {}
    trial["training"].setdefault("augmentation", {"crop_padding": 0})
    trial["task"]["dataset"] = draw(st.sampled_from(["digits", "parquet:/data/cifar10"]))
    trial["seed"] = draw(st.integers(0, 2**32 - 1))
    return trial


@given(trials())
def test_dict_and_json_round_trips_give_an_equal_configuration(trial: dict[str, Any]) -> None:
    config = TrialConfig.from_dict(trial)
    assert TrialConfig.from_dict(config.to_dict()) == config
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(trials(), trials())
def test_digests_are_equal_exactly_where_configurations_are(
    trial: dict[str, Any], other: dict[str, Any]
) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return value

    config, another = TrialConfig.from_dict(trial), TrialConfig.from_dict(other)
    assert (config.digest() == another.digest()) == (config == another)
    assert TrialConfig.from_dict(backwards(trial)).digest() == config.digest()


def test_digest_is_the_same_in_another_process_and_for_integers_and_floats(
    tiny_trial: Callable[..., dict[str, Any]],
) -> None:
    code = (
        "import json, sys; from simreg_core.config.trial import TrialConfig; "
        "print(TrialConfig.from_dict(json.loads(sys.argv[1])).digest())"
    )
    command = [sys.executable, "-c", code, json.dumps(tiny_trial({"regularizer.alpha": 10}))]
    env = {**os.environ, "PYTHONHASHSEED": "4242"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    config = TrialConfig.from_dict(tiny_trial({"regularizer.alpha": 10.0}))
    assert printed.stdout.strip() == config.digest()


# Values of another type or out of range; a key may be refused for several.
WRONG_VALUES: dict[str, list[Any]] = {
    "task.dataset": [3, "natural", "cifra10", "parquet:"],
    "task.protocol": ["imagenet"],
    "task.color": [1, "no"],
    "task.image_size": [3],
    "task.num_train": [1, 10.0],
    "model.architecture": ["vgg"],
    "model.base_channels": [0],
    "model.blocks": [[1.0, 2], [True], [], [1] * 6, [1, 0]],
    "model.scale": [0],
    "model.shift": [math.inf],
    "training.epochs": [0, True, "5"],
    "training.batch_size": [1],
    "training.learning_rate": ["0.1", True, 0, math.nan],
    "training.momentum": [1],
    "training.weight_decay": [-0.1],
    "training.keep": ["first"],
    "training.schedule": [{"step": 5, "restart": 4}],
    "training.schedule.unit": ["steps"],
    "training.schedule.factor": [1.5],
    "training.schedule.step": [0],
    "training.augmentation.crop_padding": [-1],
    "regularizer.alpha": [-1, math.nan, math.inf],
    "regularizer.threshold": [0, 1],
    "regularizer.batch_size": [0],
    "regularizer.num_images": [1],
    "regularizer.transform": ["tanh"],
    "regularizer.mean_decay": [1],
    "regularizer.shuffle_targets": [0],
    "regularizer.dataset": ["cifar"],
    "robustness.num_epsilons": [1],
    "robustness.batch_size": [0],
    "robustness.noise_seed": [-1],
    "robustness.surrogate_seed": [2**32],
    "robustness.surrogates": [0, "auto", True],
    "robustness.noise_draws": [0, "all", 1.5],
    "robustness.tradeoff_weight": [-1],
    "robustness.attacks": [
        *({"gaussian": value} for value in (0.1, {"max_epsilon": 0}, {"max_epsilon": 1.5})),
        *({}, {"pgd": {"max_epsilon": 0.1}}, {"corruption:fog": {}}),
        *({"corruption:contrast": {"max_epsilon": value}} for value in (0, 2.5, 6)),
    ],
    "robustness.reference": [
        *({"gaussian": 0}, {"gaussian": 2}, {"blur": 0.1}, {}, {"corruption:contrast": 0.5}),
    ],
    "robustness.baseline_seeds": [["1"], [], [3, 3], [-1], [2**32]],
    "robustness.corruptions": [{"kinds": ["fog"]}, {"severities": [0]}],
    "seed": [-1, 2**32, 1.0],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_VALUES.items() for value in values]
)
def test_wrong_value_is_refused_by_its_key(key: str, value: Any, tiny_config: MakeConfig) -> None:
    with pytest.raises(ValidationError) as caught:
        tiny_config({key: value})
    places = {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}
    assert all(place.startswith(key) for place in places)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("regularizer.target", "neural", "needs neural_model"),
        ("regularizer.neural_model", "m.pt", "neural_model has no effect"),
        ("regularizer.pairs", "double", "needs threshold_low"),
        ("regularizer.threshold_low", 0.1, "threshold_low has no effect"),
        ("regularizer.gamma", "section9", "'section9'; allowed: .*stem"),
        ("regularizer.layers", ["section9"], "'section9'; allowed: stem"),
        ("robustness.frequency", True, "needs boundary"),
        ("robustness.surrogates", 3, r"surrogates \(3\) .*at most 2"),
        ("robustness.reference", {"uniform": 0.1}, "not measured: uniform"),
        ("training.augmentation.crop_padding", 8, r"crop_padding \(8\).*image_size \(8\)"),
    ],
)
def test_values_that_do_not_go_together_are_refused(
    key: str, value: Any, message: str, tiny_config: MakeConfig
) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny_config({key: value})


@pytest.mark.parametrize(
    ("attack", "reference", "expected"),
    [
        ("gaussian", 0.4, (0, 0.25, 0.4, 0.5)),
        ("gaussian", 0.25, (0, 0.25, 0.5)),
        ("gaussian", 0.7, (0, 0.25, 0.5, 0.7)),
        ("uniform", 0.4, (0, 0.25, 0.5)),
    ],
    ids=["joins-the-grid", "on-the-grid-already", "beyond-the-grid", "of-another-attack"],
)
def test_reference_epsilon_is_measured_once(
    attack: str, reference: float, expected: tuple[float, ...]
) -> None:
    attacks = {"gaussian": {"max_epsilon": 0.5}, "uniform": {"max_epsilon": 0.5}}
    given = {"attacks": attacks, "reference": {attack: reference}, "num_epsilons": 3}
    assert RobustnessConfig.model_validate(given).epsilons("gaussian") == expected
    default = RobustnessConfig().epsilons("gaussian")
    np.testing.assert_allclose(default, np.linspace(0, 0.1, 10), atol=1e-12)


@pytest.mark.parametrize(
    ("noise_draws", "num_images", "expected"),
    [
        *((("auto", 10_000, 1)), ("auto", 2500, 1), ("auto", 2499, 2), ("auto", 400, 7)),
        *(("auto", 10, 25), (4, 10_000, 4)),
    ],
)
def test_draws_of_noise_suffice_for_the_split(
    noise_draws: int | str, num_images: int, expected: int
) -> None:
    config = RobustnessConfig.model_validate({"noise_draws": noise_draws})
    assert config.num_draws(num_images) == expected


def test_unregularized_changes_regularizer_and_seed_only(tiny_config: MakeConfig) -> None:
    config = tiny_config({"seed": 3, "regularizer.threshold": 0.3})
    plain = config.unregularized(9)
    assert (plain.regularizer.alpha, plain.seed) == (0, 9)
    for section in ("task", "model", "training", "robustness"):
        assert getattr(plain, section) == getattr(config, section)
    other = tiny_config({"regularizer.alpha": 7.0, "regularizer.dataset": "natural", "seed": 2})
    assert other.unregularized(9).digest() == plain.digest()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 7  # type: ignore[misc]


CHANGED = "robustness.noise_seed training.epochs regularizer.num_images task.split_seed model.scale"


@pytest.mark.parametrize("key", ["seed", *CHANGED.split()])
def test_network_digest_depends_on_all_but_the_attacks(key: str, tiny_config: MakeConfig) -> None:
    same = tiny_config({key: 5}).network_digest() == tiny_config().network_digest()
    assert same == key.startswith("robustness")


def test_flat_has_every_field_in_order_as_scalars_or_json_text(
    tiny_config: MakeConfig,
) -> None:
    flat = tiny_config({"model.blocks": [1, 2]}).flat()
    assert list(flat) == [path for path, _ in field_paths()]
    assert flat["training.epochs"] == 2
    assert flat["task.protocol"] == "digits"
    assert (flat["robustness.surrogates"], flat["robustness.noise_draws"]) == ("all", "1")
    assert json.loads(flat["model.blocks"]) == [1, 2]
    assert json.loads(flat["robustness.reference"]) == {"gaussian": 0.4, "transfer_fgsm": 0.15}
    assert all(isinstance(v, str | int | float | bool | None) for v in flat.values())
