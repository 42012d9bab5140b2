from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.audit.__main__ import _epsilons, main, table
from simreg_core.audit.network_audit import LARGE_EPSILON, AuditPlan, AuditReport, audit
from simreg_core.config.trial import TrialConfig
from simreg_core.data.registry import load_dataset
from simreg_core.networks.checkpoint import save, save_weights
from simreg_core.networks.network import build_network, freeze
from simreg_core.seeding import generator, global_rng

CPU = torch.device("cpu")
PLAN = AuditPlan(
    epsilons=(0.05, 0.1, 0.2),
    steps=20,
    few_steps=5,
    restarts=2,
    num_minimal=8,
    num_auto=20,
    auto_steps=10,
    auto_queries=50,
    carlini_wagner_steps=40,
    hop_skip_jump_steps=5,
)


class _Saturated(nn.Module):
    """The softmax of huge logits is saturated: its gradient is exactly 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels)
        return 1e6 * logits


def _digits() -> tuple[Tensor, Tensor]:
    pool = load_dataset("digits", color=False, size=8, key="test")
    assert pool.labels is not None
    return pool.images.to(torch.float32) / 255, pool.labels


@cache
def _trained(seed: int) -> nn.Module:
    with global_rng(seed):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    images, labels = _digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(150):
        batch = torch.randint(1500, (128,), generator=generator(seed, "batch", step))
        optimizer.zero_grad()
        functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return freeze(model)


def _report(model: nn.Module) -> AuditReport:
    images, labels = _digits()
    return audit(model, _trained(1), images[1500:1600], labels[1500:1600], PLAN)


@pytest.fixture(scope="module")
def plain() -> AuditReport:
    return _report(_trained(0))


def test_plain_network_gives_no_warning_but_one_that_is_always_wrong(plain: AuditReport) -> None:
    assert plain.clean_accuracy > 0.85
    assert plain.warnings == []
    assert "no sign of masked gradients" in table(plain)
    assert "no sign of masked gradients" not in table(plain._replace(clean_accuracy=0.0))


def test_masked_gradients_are_noticed() -> None:
    report = _report(_Saturated(_trained(0)))
    text = "\n".join(report.warnings)
    assert "transfer_fgsm beats" in text
    assert "should be near 0" in text
    assert "auto_attack is stronger than pgd_linf at epsilon 0.1: accuracy 0." in text
    assert all(f"WARNING: {warning}" in table(report) for warning in report.warnings)


def test_curves_say_under_what_they_were_measured(plain: AuditReport) -> None:
    names = [(curve.attack, curve.conditions) for curve in plain.curves]
    assert names[:5] == [
        ("transfer_fgsm", "black box"),
        ("uniform", "black box"),
        ("pgd_linf", "5 steps, 1 restart"),
        ("pgd_linf", "20 steps, 1 restart"),
        ("pgd_linf", "20 steps, 2 restarts"),
    ]
    assert {curve.epsilons for curve in plain.curves} == {(*PLAN.epsilons, LARGE_EPSILON)}
    *others, auto = plain.curves
    assert (auto.attack, auto.conditions) == ("auto_attack", "10 steps, 50 queries")
    assert [curve.num_images for curve in plain.curves] == [100] * len(others) + [20]
    broken = [sum(counts) for counts in zip(*plain.broken.values(), strict=True)]
    wrong = round(20 * (1 - auto.accuracies[0])) - broken[0]
    assert auto.accuracies == tuple((20 - wrong - count) / 20 for count in broken)
    minimal = [row.attack for row in plain.minimal]
    assert minimal == ["deepfool_l2", "carlini_wagner_l2", "hop_skip_jump"]
    assert {row.num_images for row in plain.minimal} == {8}
    one, all_ = (curve.accuracies for curve in plain.curves[3:5])
    assert all(a >= b for a, b in zip(one, all_, strict=True))


# The command line


@pytest.fixture
def weights(
    tmp_path: Path, tiny_config: Callable[..., TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An untrained network, whose audit is quick."""
    config = tiny_config({"task.num_train": 64, "training.epochs": 1})
    model = build_network(config.model, channels=1, num_classes=10, seed=0)
    path = tmp_path / "weights.pt"
    save_weights(path, config, model)
    monkeypatch.setattr(
        "simreg_core.audit.network_audit.AuditPlan.__new__.__defaults__",
        (4, 2, 1, 4, 8, 3, 5, 5, 2, 0),
    )
    return path


def _arguments(weights: Path, *more: str) -> list[str]:
    cache = weights.parent / "baselines"
    few = ["--images", "12", "--auto-images", "6", "--auto-queries", "4"]
    return [str(weights), "--cache", str(cache), "--device", "cpu", *few, *more]


def test_weights_are_audited_against_the_cached_surrogate(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [weights.parent / name for name in ("one", "two")]
    for output in outputs:
        assert main(_arguments(weights, "--output", str(output), "--seed", "3")) == 0
        printed = capsys.readouterr().out
        assert "n = 12 test images" in printed
        assert "epsilons: those of transfer_fgsm in robustness.attacks\n" in printed
    found, again = (json.loads(output.read_text()) for output in outputs)
    assert found == again
    assert (found["num_images"], found["plan"]["seed"]) == (12, 3)
    assert found["curves"][0]["epsilons"] == [0.1, 0.15, 0.2, 0.5]
    assert found["curves"][-1]["conditions"] == "3 steps, 4 queries"
    assert found["curves"][-1]["num_images"] == 6
    assert list(found["broken"]) == ["apgd_ce", "apgd_dlr", "fab", "square"]
    assert {"minimal", "warnings", "provenance", "config_digest"} <= set(found)
    assert len(list((weights.parent / "baselines").glob("surrogate-*.pt"))) == 1


@pytest.mark.parametrize(
    ("attacks", "source", "largest"),
    [
        ("square transfer_pgd", "transfer_pgd in robustness.attacks", 0.25),
        ("transfer_pgd transfer_fgsm", "transfer_fgsm in robustness.attacks", 0.25),
        ("gaussian", "transfer_fgsm in the protocol of digits", 0.5),
    ],
)
def test_epsilons_are_those_of_a_linf_attack_or_of_the_protocol(
    attacks: str, source: str, largest: float, tiny_config: Callable[..., TrialConfig]
) -> None:
    table = {name: {"max_epsilon": 0.25} for name in attacks.split()}
    reference = {attacks.split()[0]: 0.1}
    changes = {"robustness.attacks": table, "robustness.reference": reference}
    epsilons, where = _epsilons(tiny_config(changes))
    assert where.startswith(source)
    assert epsilons[0] > 0
    assert epsilons[-1] == largest


def _error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()[-1:]
    assert line.startswith("simreg_core.audit: ")
    return line


def test_file_that_is_no_weights_is_refused(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload: dict[str, Any] = torch.load(weights, weights_only=True)
    payload["config"]["model"]["heads"] = 2
    save(payload, weights)
    assert "another version" in _error(_arguments(weights), capsys)
    save({"state": 1}, weights)
    assert f"{weights} is no weights file" in _error(_arguments(weights), capsys)
    weights.unlink()
    assert str(weights) in _error(_arguments(weights), capsys)


def _changed(payload: dict[str, Any], kind: str) -> dict[str, Any]:
    weights = payload["weights"]
    name = next(iter(weights))
    changes: dict[str, dict[str, Any]] = {
        "shape": {"weights": {n: tensor[..., None] for n, tensor in weights.items()}},
        "one shape": {"weights": {**weights, name: torch.zeros(2, 3)}},
        "no tensor": {"weights": {**weights, name: [1.0]}},
        "no mapping": {"weights": [1.0]},
        "none": {"weights": None},
        "meta": {"weights": {n: tensor.to("meta") for n, tensor in weights.items()}},
        "lacking": {"weights": {}},
        "channels": {"channels": 10**9},
        "no channels": {"channels": None},
        "classes": {"num_classes": 10**12},
        "other classes": {"num_classes": 3},
        "infinite": {"num_classes": float("inf")},
        "config": {"config": [1]},
        "config of none": {"config": None},
        "config in config": {"config": {"task": None}},
    }
    return payload | changes[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("shape", "one shape", "no tensor", "no mapping", "none", "meta", "lacking", "channels"),
        *("no channels", "classes", "other classes", "infinite", "config", "config of none"),
        "config in config",
    ],
)
def test_weights_of_wrong_shapes_and_types_are_refused(
    kind: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload: dict[str, Any] = torch.load(weights, weights_only=True)
    save(_changed(payload, kind), weights)
    line = _error(_arguments(weights), capsys)
    assert f"{weights} " in line
    assert len(line) < 500 + len(str(weights))


def test_network_of_other_images_is_refused(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload: dict[str, Any] = torch.load(weights, weights_only=True)
    config = TrialConfig.from_dict(payload["config"])
    model = build_network(config.model, channels=3, num_classes=10, seed=0)
    save_weights(weights, config, model)
    message = "a network of 3 channels and 10 classes, but its task has 1 and 10"
    assert message in _error(_arguments(weights), capsys)


def test_auto_attack_can_be_left_out(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_arguments(weights, "--auto-images", "0")) == 0
    assert "auto_attack" not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--images 0", "--images many", "--output {}/file/audit.json"])
def test_wrong_flag_is_refused(
    flag: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights.parent / "file").touch()
    name, value = flag.format(weights.parent).split()
    assert main([*_arguments(weights), name, value]) == 2
    assert f"{name}: " in capsys.readouterr().err
