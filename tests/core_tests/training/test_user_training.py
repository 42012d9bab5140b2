"""A user's own datasets, targets and networks, each in one small experiment."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import load_weights, save_weights
from simreg_core.regularizer.targets import check_target
from simreg_core.results.schema import SPLITS
from tests.core_tests.conftest import MakeModule
from tests.core_tests.measuring import assert_refused, run
from tests.core_tests.trained_networks import MakeConfig

# Datasets

DATASET = """
    import torch
    from simreg_core.data.bundled import digits
    from simreg_core.data.images import Split
    from simreg_core.registry import dataset

    PROTOCOL = {"task": {"num_test": 50, "num_validation": 30}, "seed": 4}

    @dataset("inverted", protocol=PROTOCOL)
    def inverted(request):
        pool = digits(request)
        return pool._replace(images=255 - pool.images)

    def changed(change):
        return lambda request: digits(request)._replace(**change(digits(request)))

    with_test_set = changed(lambda pool: {"test": Split(pool.images[:9], pool.labels[:9])})
    floats = changed(lambda pool: {"images": pool.images / 255})
    fewer_classes = changed(lambda pool: {"num_classes": 9})
    wrong_test_labels = changed(
        lambda pool: {"test": Split(pool.images[:9], pool.labels[:9].float())}
    )
    one_class = changed(lambda pool: {"labels": pool.labels * 0})

    def raises(request):
        raise OSError("no disk")

    def images_alone(request):
        return digits(request).images

    def other_size(request):
        return digits(request._replace(size=9))
"""


def test_dataset_has_its_own_protocol(
    make_module: MakeModule, tiny_trial: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    make_module(DATASET)
    trial = tiny_trial()
    trial["task"] = {"dataset": "mine:inverted", "image_size": 8, "num_train": 64}
    config = TrialConfig.from_dict(trial)
    assert config.task.protocol == "mine:inverted"
    assert (config.task.num_test, config.seed) == (50, 4)
    result = run(config, tmp_path / "cache")
    assert [result.columns[f"num_{name}"] for name in ("train", *SPLITS)] == [64, 30, 50]
    assert result.columns["task.protocol"] == "mine:inverted"


def test_dataset_brings_its_test_set_and_regularizes(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(DATASET)
    changes = {"task.dataset": "mine:with_test_set", "task.num_test": None}
    config = tiny_config({**changes, "regularizer.dataset": "mine:inverted"})
    assert config.task.protocol == "cifar10"
    assert run(config, tmp_path / "cache").columns["num_test"] == 9


# Targets

TARGET = """
    import torch
    from simreg_core.registry import target

    @target("halves", needs_labels=True)
    def halves(source):
        return lambda first, second: source.pixels(first, second) / 2

    def raises(source):
        raise KeyError("v4")

    def no_similarities(source):
        return lambda first, second: source.pixels(first, second) * 0 + 2

    def numbers(source):
        return lambda first, second: 0.5

    def matrix(source):
        return torch.eye(len(source.images))

    def doubles(source):
        return lambda first, second: torch.zeros(len(first), 3, dtype=torch.float64)

    def elsewhere(source):
        return lambda first, second: torch.zeros(len(first), device="meta")

    def learned(source):
        similarity = torch.nn.CosineSimilarity()
        pixels = torch.nn.Linear(64, 8)(source.images.flatten(1) / 255)
        return lambda first, second: similarity(pixels[first], pixels[second]).clamp(-1, 1)
"""


def test_target_is_followed(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(TARGET)
    config = tiny_config({"regularizer.target": "mine:halves"})
    result = run(config, tmp_path / "cache")
    assert result.columns["similarity_correlation"] is not None
    assert result.columns["positive_share"] == result.columns["negative_share"] == 0
    run(tiny_config({"regularizer.target": "mine:learned"}), tmp_path / "cache")  # no gradients
    unlabelled = tiny_config(
        {"regularizer.target": "mine:halves", "regularizer.dataset": "natural"}
    )
    assert_refused(
        unlabelled, tmp_path / "cache", r"^regularizer\.target: mine:halves needs labels"
    )
    with pytest.raises(ConfigError, match=r"^regularizer\.target: mine:absent: "):
        check_target(config.regularizer.model_copy(update={"target": "mine:absent"}), None)


# Networks

NETWORK = """
    from torch import nn
    from simreg_core.registry import network

    class Small(nn.Module):
        gain = 1.0

        def __init__(self, width, channels, num_classes):
            super().__init__()
            self.conv = nn.Conv2d(channels, width, 3, padding=1)
            self.act = nn.ReLU(inplace=True)
            self.head = nn.Linear(width, num_classes)

        def forward(self, x):
            return self.head(self.act(self.conv(self.gain * x)).mean(dim=(2, 3)))

    def small(*, channels, num_classes, width=4):
        return Small(width, channels, num_classes)

    @network("declared", layers=lambda config: ("act",))
    def declared(*, channels, num_classes):
        return Small(4, channels, num_classes)

    class Fails(Small):
        def forward(self, x):
            raise NotImplementedError("later")

    class Auxiliary(Small):
        def forward(self, x):
            return (super().forward(x), x) if self.training else super().forward(x)

    def fails(channels, num_classes):
        return Fails(4, channels, num_classes)

    def auxiliary(channels, num_classes):
        return Auxiliary(4, channels, num_classes)

    class Squeezes(Small):
        def forward(self, x):
            return super().forward(x).squeeze()

    def squeezes(channels, num_classes):
        return Squeezes(4, channels, num_classes)

    class Double(Small):
        def forward(self, x):
            return super().forward(x).double()

    def double(channels, num_classes):
        return Double(4, channels, num_classes)

    class NaNs(Small):
        def forward(self, x):
            return super().forward(x) * float("nan")

    def nans(channels, num_classes):
        return NaNs(4, channels, num_classes)

    def expanded(channels, num_classes):
        model = Small(4, channels, num_classes)
        model.register_buffer("shift", model.head.bias.detach()[:1].expand(3))
        return model

    def frozen(channels, num_classes):
        return Small(4, channels, num_classes).requires_grad_(False)

    def lazy(channels, num_classes):
        model = Small(4, channels, num_classes)
        model.head = nn.LazyLinear(num_classes)
        return model

    def function(channels, num_classes):
        return len

    def other_logits(channels, num_classes):
        return Small(4, channels, 7)

    def no_keywords(config):
        return None
"""


def test_network_is_trained_saved_and_trained_again_once_it_is_edited(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path, trained: list[int]
) -> None:
    make_module(NETWORK)
    config = tiny_config({"model.architecture": "mine:declared"})
    result = run(config, tmp_path / "cache")
    assert result.epochs[-1].gamma == [1.0]
    save_weights(tmp_path / "weights.pt", config, result.model)
    loaded, weights = load_weights(tmp_path / "weights.pt"), result.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())

    run(config, tmp_path / "cache")
    assert len(trained) == 2  # one baseline and the surrogate
    make_module(NETWORK.replace("gain = 1.0", "gain = 3.0"))
    again = run(config, tmp_path / "cache")
    assert len(trained) == 4
    assert again.baselines.digest != result.baselines.digest


def test_options_reach_the_network(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(NETWORK)
    own = {"model.architecture": "mine:small", "regularizer.layers": ["act"]}
    config = tiny_config({**own, "model.options": {"width": 6}})
    assert run(config, tmp_path / "cache").model.state_dict()["network.head.weight"].shape[1] == 6
    for options, message in (
        ({"depth": 2}, r"^model\.options\.depth: unknown option; mine:small takes width$"),
        ({"width": "6"}, r"^model\.options\.width: expected .*, found the text '6'$"),
        ({"channels": 3}, r"^model\.options\.channels: unknown option"),
    ):
        assert_refused(tiny_config({**own, "model.options": options}), tmp_path / "x", message)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "name one or more layers"),
        ({"regularizer.layers": ["stem"]}, "the network has no layer 'stem'"),
        ({"regularizer.gamma": "stem"}, "the network has no layer 'stem'"),
        (
            {"regularizer.layers": ["conv"]},
            "the output of layer 'conv' is changed in place by a later layer",
        ),
    ],
)
def test_layer_that_cannot_be_compared_is_refused(
    changes: dict[str, Any],
    problem: str,
    make_module: MakeModule,
    tiny_config: MakeConfig,
    tmp_path: Path,
) -> None:
    make_module(NETWORK)
    config = tiny_config({"model.architecture": "mine:small", **changes})
    message = f"regularizer.layers: {problem}; layers that can be compared: act, head"
    assert_refused(config, tmp_path / "cache", f"^{re.escape(message)}$")


WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "task.dataset": (
        DATASET,
        {
            "raises": "no disk$",
            "images_alone": "expected an ImagePool, found Tensor$",
            "floats": r"found torch\.float32 \(1797, 1, 8, 8\)",
            "other_size": r"expected .*, 8, 8\), found .*, 9, 9\)",
            "fewer_classes": "expected labels 0 to 8, found 0 to 9$",
            "wrong_test_labels": r"expected int64 labels \(9,\), found torch\.float32",
            "one_class": "all training images have label 0$",
        },
    ),
    "regularizer.target": (
        TARGET,
        {
            "raises": "key error 'v4'$",
            "no_similarities": "expected float32 similarities",
            "numbers": "found float$",
            "matrix": "expected a function of two index tensors, found Tensor$",
            "doubles": r"found torch\.float64 \(2, 3\) on cpu$",
            "elsewhere": r"on cpu, found torch\.float32 \(2,\) on meta",
        },
    ),
    "model.architecture": (
        NETWORK,
        {
            "function": "returned builtin_function_or_method, expected a torch.nn.Module$",
            "other_logits": r"float32 logits \(2, 10\) in training, found float32 \(2, 7\)$",
            "auxiliary": r"in training, found tuple; turn auxiliary outputs off by an option$",
            "squeezes": r"expected float32 logits \(1, 10\) in evaluation, found float32 \(10,\)$",
            "double": r"expected float32 logits .*, found float64 \(2, 10\)$",
            "nans": "its logits in training are not finite$",
            "frozen": "has no weights to train$",
            "expanded": r"its own state_dict cannot be loaded: .*",
            "lazy": r"head\.weight has no size yet; lazy modules are not supported$",
            "fails": "later$",
            "no_keywords": "must take the keyword arguments channels, num_classes; it lacks",
        },
    ),
}


@pytest.mark.parametrize(
    ("key", "function"), [(key, name) for key, (_, names) in WRONG.items() for name in names]
)
def test_wrong_function_is_refused_by_its_key(
    key: str, function: str, make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    source, messages = WRONG[key]
    make_module(source)
    message = rf"^{re.escape(key)}: mine:{function}:? .*{messages[function]}"
    assert_refused(tiny_config({key: f"mine:{function}"}), tmp_path / "cache", message)
