from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import ModelConfig
from simreg_core.data.images import Split
from simreg_core.networks.network import Classifier, build_network, freeze
from simreg_core.registry import ATTACKS
from simreg_core.robustness.cifar10c import StoredCorruptions
from simreg_core.robustness.evaluate import (
    Surrogate,
    evaluate,
    measure,
    precompute,
)
from simreg_core.seeding import generator
from simreg_core.training.fit import mean_loss_and_accuracy
from tests import oracles
from tests.core_tests.measuring import corrupt
from tests.linear_models import Linear

NAMES = ("gaussian", "uniform", "salt_pepper", "transfer_fgsm")


def _config(**options: Any) -> RobustnessConfig:
    return RobustnessConfig.model_validate(
        {
            "attacks": {name: {"max_epsilon": 0.3} for name in NAMES},
            "reference": {"gaussian": 0.2, "transfer_fgsm": 0.3},
            "num_epsilons": 4,
            "batch_size": 16,
            "noise_draws": 1,
            **options,
        }
    )


def _only(name: str, epsilon: float = 0.3) -> dict[str, Any]:
    """One attack, which is the reference as well."""
    return {"attacks": {name: {"max_epsilon": epsilon}}, "reference": {name: epsilon}}


def _split(num_images: int = 40) -> Split:
    rng = generator(0, "split")
    images = torch.randint(256, (num_images, 1, 6, 6), generator=rng, dtype=torch.uint8)
    return Split(images, torch.randint(3, (num_images,), generator=rng))


def _model(seed: int = 0) -> Classifier:
    config = ModelConfig(base_channels=4, blocks=(1, 1))
    model = build_network(config, channels=1, num_classes=3, seed=seed)
    model(_split().images / 255)  # moves the running statistics
    return model.eval()


def _surrogates(*seeds: int) -> list[Surrogate]:
    return [Surrogate(freeze(_model(seed))) for seed in seeds or (99,)]


class _Recorder(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append(pixels.clone())
        logits: Tensor = self.model(pixels)
        return logits


def _seen(model: nn.Module, name: str = "test", **options: Any) -> list[Tensor]:
    recorder = _Recorder(model)
    evaluate(recorder, _split(), name, _config(**options), _surrogates())
    return recorder.seen


def test_fgsm_curve_of_a_linear_classifier_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    weights, bias = rng.normal(size=(2, 36)), np.zeros(2)
    stored = rng.integers(90, 166, (200, 36), dtype=np.uint8)  # 0.3 away from black and white
    logits = stored / 255 @ weights.T
    labels = logits.argmax(axis=1)
    labels[::10] = 1 - labels[::10]
    split = Split(torch.from_numpy(stored.reshape(200, 1, 6, 6)), torch.from_numpy(labels))
    model = Linear(weights, bias)
    config = _config(**_only("transfer_fgsm", 0.1))
    margins = oracles.margins(weights, bias, stored / 255, labels)
    reach = np.abs(weights[0] - weights[1]).sum()
    points = evaluate(model, split, "test", config, [Surrogate(freeze(model))])
    expected = [float((margins > point.epsilon * reach).mean()) for point in points]
    assert [point.accuracy for point in points] == expected
    assert len(set(expected)) > 2


def test_accuracy_at_epsilon_zero_is_the_clean_accuracy_exactly() -> None:
    model, split = _model(), _split()
    points = evaluate(model, split, "test", _config(), _surrogates())
    _, clean = mean_loss_and_accuracy(model, split)
    assert [p.accuracy for p in points if p.epsilon == 0] == [clean] * len(NAMES)


@pytest.mark.parametrize("batch_size", [7, 39, 500])
def test_accuracy_is_over_images_however_they_are_batched(batch_size: int) -> None:
    options = _only("transfer_fgsm")
    whole, parts = (
        evaluate(_model(), _split(), "test", _config(**options, batch_size=size), _surrogates())
        for size in (16, batch_size)
    )
    assert parts == whole


def test_two_networks_meet_exactly_the_same_images() -> None:
    one, other = _seen(_model(0)), _seen(_model(1))
    # Three batches; each clean, and under four attacks at three epsilons.
    assert len(one) == len(other) == 3 * (1 + 4 * 3)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("test", {"noise_seed": 1}, id="seed"),
        pytest.param("validation", {}, id="split"),
    ],
)
def test_noise_follows_the_seed_and_the_split(name: str, options: dict[str, Any]) -> None:
    noise = {**_only("uniform"), "num_epsilons": 2}
    one, other = _seen(_model(), **noise), _seen(_model(), name, **noise, **options)
    is_same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    assert is_same == [True, False] * 3  # the clean images of a batch, then the noisy ones


def test_noise_of_one_attack_does_not_depend_on_the_others() -> None:
    among = evaluate(_model(), _split(), "test", _config(), _surrogates())
    only = evaluate(_model(), _split(), "test", _config(**_only("uniform")), _surrogates())
    assert [p.accuracy for p in among if p.attack == "uniform"] == [p.accuracy for p in only]


def _global_rngs() -> tuple[object, ...]:
    return (random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist())


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
def test_evaluation_leaves_network_and_generators_as_they_were(is_training: bool) -> None:
    expected = evaluate(_model(), _split(), "test", _config(), _surrogates())
    model, (surrogate,) = _model().train(is_training), _surrogates()
    model(_split().images / 255).sum().backward()
    model.load_state_dict(_model().state_dict())
    states = [
        {k: v.clone() for k, v in net.state_dict().items()} for net in (model, surrogate.model)
    ]
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    before = _global_rngs()
    assert evaluate(model, _split(), "test", _config(), [surrogate]) == expected
    assert _global_rngs() == before
    assert all(module.training == is_training for module in model.modules())
    for net, state in zip((model, surrogate.model), states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(after) == len(gradients)
    assert all(torch.equal(a, b) for a, b in zip(after, gradients, strict=True))
    assert all(parameter.grad is None for parameter in surrogate.model.parameters())


def test_large_images_go_through_the_network_in_pieces_that_change_nothing() -> None:
    rng = generator(1, "large")
    images = torch.randint(256, (110, 1, 56, 56), generator=rng, dtype=torch.uint8)
    split = Split(images, torch.randint(3, (110,), generator=rng))
    model = _model()
    recorder = _Recorder(model)
    config = _config(**_only("gaussian", 0.2), batch_size=100)
    points = evaluate(recorder, split, "test", config, _surrogates())
    sizes = [len(seen) for seen in recorder.seen]
    assert max(sizes) < 100
    assert sum(sizes) == 110 * 4  # clean and three epsilons
    with torch.no_grad():
        correct = (model(images / 255).argmax(dim=1) == split.labels).sum()
    assert points[0].accuracy == int(correct) / 110


def test_known_directions_of_fgsm_change_no_figure() -> None:
    split, (surrogate,) = _split(), _surrogates()
    directions = precompute(ATTACKS.get("transfer_fgsm"), surrogate.model, split)
    assert directions.dtype == torch.int8
    assert directions.shape == split.images.shape
    images = (split.images / 255).requires_grad_()
    loss = nn.functional.cross_entropy(surrogate.model(images), split.labels)
    (gradient,) = torch.autograd.grad(loss, images)
    # At the borders of [0, 1], where a step would be clipped away, there is no direction.
    inside = (split.images > 0) & (split.images < 255)
    assert torch.equal(directions[inside].float(), gradient.sign()[inside])
    known = surrogate._replace(precomputed={("transfer_fgsm", "test", 0.0): directions})
    found = evaluate(_model(), split, "test", _config(), [known])
    assert found == evaluate(_model(), split, "test", _config(), [surrogate])


def test_given_directions_are_used() -> None:
    split, model = _split(), _model()
    recorder = _Recorder(model)
    config = _config(**_only("transfer_fgsm", 0.5), num_epsilons=2)
    ahead = torch.ones_like(split.images, dtype=torch.int8)
    known = _surrogates()[0]._replace(precomputed={("transfer_fgsm", "test", 0.0): ahead})
    evaluate(recorder, split, "test", config, [known])
    seen = torch.cat(recorder.seen[1::2])
    torch.testing.assert_close(seen, (split.images / 255 + 0.5).clamp(max=1))


# Several surrogates and draws


def _linear() -> nn.Module:
    """A classifier of three classes that every perturbation moves."""
    return Linear(np.random.default_rng(2).normal(size=(3, 36)), np.zeros(3))


def test_accuracy_under_a_transferred_attack_is_the_mean_over_surrogates() -> None:
    def found(*seeds: int) -> dict[tuple[str, float], float]:
        points = evaluate(_linear(), _split(), "test", _config(), _surrogates(*seeds))
        return {(point.attack, point.epsilon): point.accuracy for point in points}

    one, other, both = found(99), found(98), found(99, 98)
    assert one != other
    assert both == {
        key: pytest.approx((one[key] + other[key]) / 2 if key[0] == "transfer_fgsm" else one[key])
        for key in one
    }


def test_accuracy_under_noise_is_the_mean_over_draws_the_first_of_which_is_that_of_one() -> None:
    split, model = _split(), _linear()
    recorder = _Recorder(model)
    noise = {**_only("uniform"), "num_epsilons": 2}
    attacks = {"uniform": {"max_epsilon": 0.5}}
    config = _config(attacks=attacks, reference={"uniform": 0.3}, num_epsilons=2, noise_draws=3)
    points = evaluate(recorder, split, "test", config, _surrogates(99, 98))
    # Three batches, each clean, under three draws of the reference epsilon and one of the largest.
    assert len(recorder.seen) == 15
    batches = [[recorder.seen[n + m] for m in (0, 1, 3, 4)] for n in range(0, 15, 5)]
    assert len({batch[n].sum().item() for batch in batches for n in range(4)}) == 12
    single = _seen(model, **noise)
    for n, batch in enumerate(batches):
        assert all(
            torch.equal(a, b) for a, b in zip(batch, single[2 * n : 2 * n + 2], strict=False)
        )
    draws = [torch.cat([batch[n] for batch in batches]) for n in (1, 2, 3)]
    with torch.no_grad():
        correct = sum(int((model(d).argmax(1) == split.labels).sum()) for d in draws)
    assert [point.epsilon for point in points] == [0, 0.3, 0.5]
    assert points[1].accuracy == pytest.approx(correct / (3 * 40))


def test_what_an_attack_declares_decides_how_often_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "declaring.py").write_text(
        "from simreg_core.registry import attack\n"
        "runs = []\n"
        "def run(batch):\n"
        "    runs.append(batch.first)\n"
        "    return lambda epsilon: batch.images\n"
        "plain = attack('plain')(run)\n"
        "transferred = attack('transferred', transfers=True)(run)\n"
        "random = attack('random', is_random=True)(run)\n"
        "both = attack('both', transfers=True, is_random=True)(run)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, expected in (("plain", 1), ("transferred", 2), ("random", 3), ("both", 6)):
        config = _config(**_only(f"declaring:{name}"), noise_draws=3, batch_size=40)
        evaluate(_model(), _split(), "test", config, _surrogates(99, 98))
        runs = importlib.import_module("declaring").runs
        assert len(runs) == expected, name
        runs.clear()


# Corruptions and the boundary


CORRUPTIONS: dict[str, Any] = {
    "corruptions": {"kinds": ["impulse_noise", "contrast"], "severities": [1, 5]}
}


def test_points_are_every_strength_of_every_curve_in_order_and_references_are_marked() -> None:
    config = _config(**CORRUPTIONS)
    points = evaluate(_model(), _split(), "validation", config, _surrogates())
    attacked = [(name, epsilon) for name in NAMES for epsilon in config.epsilons(name)]
    kinds = ("corruption:impulse_noise", "corruption:contrast")
    corrupted = [(kind, severity) for kind in kinds for severity in (1.0, 5.0)]
    assert [(point.attack, point.epsilon) for point in points] == attacked + corrupted
    assert {(point.split, point.num_images) for point in points} == {("validation", 40)}
    marked = [(point.attack, point.epsilon) for point in points if point.is_reference]
    assert marked == [("gaussian", 0.2), ("transfer_fgsm", 0.3)]
    alone = evaluate(_model(), _split(), "validation", _config(), _surrogates())
    assert points[: len(attacked)] == alone


@pytest.mark.parametrize("batch_size", [7, 40])
def test_accuracy_under_a_corruption_is_over_the_corrupted_images(batch_size: int) -> None:
    model, split = _model(), _split()
    config = _config(corruptions={"kinds": ["contrast"]}, batch_size=batch_size)
    expected = []
    for severity in range(1, 6):
        images = corrupt(split.images, "contrast", severity, generator(0, "unused"))
        _, accuracy = mean_loss_and_accuracy(model, Split(images, split.labels))
        expected.append(accuracy)
    points = evaluate(model, split, "test", config, _surrogates())
    assert [p.accuracy for p in points if p.attack == "corruption:contrast"] == expected


def test_two_networks_meet_the_same_corruptions_and_splits_meet_others() -> None:
    def seen(seed: int, name: str) -> list[Tensor]:
        seen = _seen(_model(seed), name, **CORRUPTIONS, **_only("gaussian"), num_epsilons=2)
        # Three batches: clean, under noise, and then twice two severities.
        return [images for n, images in enumerate(seen) if n % 6 > 1]

    one, other, elsewhere = seen(0, "test"), seen(1, "test"), seen(0, "validation")
    assert len(one) == 3 * 4  # three batches, twice two severities
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    is_same = [torch.equal(a, b) for a, b in zip(one, elsewhere, strict=True)]
    assert is_same == [False, False, True, True] * 3  # contrast draws nothing


def test_corruption_among_the_attacks_is_that_of_the_section_and_counts_once() -> None:
    name = "corruption:impulse_noise"
    attacks = {"attacks": {name: {}, "gaussian": {}}, "reference": {name: 3, "gaussian": 0.1}}
    own = _config(**attacks, num_epsilons=6)
    (*found, _, _) = evaluate(_model(), _split(), "test", own, _surrogates())
    points = [point for point in found if point.attack == name]
    assert [point.epsilon for point in points] == [0, 1, 2, 3, 4, 5]
    assert [point.epsilon for point in points if point.is_reference] == [3]
    section = _config(corruptions={"kinds": ["impulse_noise"]})
    listed = evaluate(_model(), _split(), "test", section, _surrogates())[-5:]
    assert [p.accuracy for p in listed] == [p.accuracy for p in points[1:]]
    several = _config(**attacks, num_epsilons=3, corruptions={"kinds": ["impulse_noise"]})
    both = evaluate(_model(), _split(), "test", several, _surrogates())
    strengths = [p.epsilon for p in both if p.attack == name]
    assert sorted(strengths) == [0, 1, 2, 3, 4, 5]


def test_stored_images_take_the_place_of_a_kind_they_have() -> None:
    split = _split()
    files = {"contrast": np.zeros((50_000, 6, 6, 3), np.uint8)}
    stored = StoredCorruptions(files, np.arange(40), channels=1, size=6)
    model = _model()
    found = evaluate(model, split, "test", _config(**CORRUPTIONS), _surrogates(), stored)
    made = evaluate(model, split, "test", _config(**CORRUPTIONS), _surrogates())
    _, black = mean_loss_and_accuracy(model, split._replace(images=split.images * 0))
    contrast = [p.accuracy for p in found if p.attack == "corruption:contrast"]
    assert contrast == [black, black]
    assert [p.attack for p in found] == [p.attack for p in made]
    assert found[:-2] == made[:-2]


def test_boundary_attack_meets_the_first_images_of_the_split() -> None:
    split, config = _split(), _config(boundary={"steps": 3, "num_images": 10, "repeats": 1})
    whole, first = (
        measure(_model(), part, "test", config, _surrogates()).boundary_distance
        for part in (split, Split(split.images[:10], split.labels[:10]))
    )
    assert whole == first
    assert whole is not None
    unasked = measure(_model(), split, "test", _config(), _surrogates())
    assert unasked.boundary_distance is None


def test_options_reach_the_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def shift(batch, by=0.0):\n    return lambda epsilon: batch.images * 0 + by\n"
    (tmp_path / "shifting.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    table = {"shifting:shift": {"max_epsilon": 0.1, "options": {"by": 0.25}}}
    seen = _seen(_model(), attacks=table, reference={"shifting:shift": 0.1}, num_epsilons=2)
    assert all(torch.equal(images, torch.full_like(images, 0.25)) for images in seen[1::2])
