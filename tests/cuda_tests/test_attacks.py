"""Attacks, corruptions, the boundary attack and audits: a GPU against the CPU.

Generators of a GPU draw other numbers than those of the CPU. What is random is therefore compared
with a closed form or by statistics, everything else number by number.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from simreg_core.audit.network_audit import AuditPlan, audit
from simreg_core.audit.whitebox import carlini_wagner_l2, deepfool_l2, hop_skip_jump, pgd
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import Classifier, freeze
from simreg_core.registry import ATTACKS, CORRUPTIONS
from simreg_core.robustness.attack import AttackInput, Perturbation, prepare
from simreg_core.robustness.boundary import Perturbations, minimal_perturbations
from simreg_core.robustness.corruptions import corruption_attack
from simreg_core.robustness.evaluate import Surrogate, evaluate, logits_of
from simreg_core.robustness.frequency import band_noise, radial_power
from simreg_core.seeding import generator
from tests.cuda_tests.comparing import CPU, MakeConfig, assert_near, trained
from tests.linear_models import problem

pytestmark = pytest.mark.cuda

DRAWING = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "elastic_transform"}


@pytest.fixture(scope="module")
def network(make_config: MakeConfig, data: TaskData) -> Classifier:
    """A network that was trained on the CPU."""
    config = make_config(
        {
            "regularizer.alpha": 0,
            "training.epochs": 8,
            "training.batch_size": 16,
            "training.learning_rate": 0.05,
            "training.augmentation": {"crop_padding": 0, "horizontal_flip": False},
        }
    )
    state = trained(config, data, CPU)
    assert state.records[-1].validation_accuracy > 0.7
    return freeze(state.model)


def started(
    name: str, images: Tensor, network: Classifier, place: torch.device, seed: int = 0
) -> Perturbation:
    """An attack on images, on a device."""
    labels = (torch.arange(len(images)) % 10).to(place)
    rng = generator(seed, name, device=place)
    network.to(place)
    scores = partial(logits_of, network)
    batch = AttackInput(images.to(place), labels, rng, network, scores=scores)
    known = name in ATTACKS.known
    return prepare(ATTACKS.get(name) if known else corruption_attack(name), batch)


def test_every_attack_is_tested() -> None:
    noise, transferred = {"gaussian", "uniform", "salt_pepper"}, {"fgsm", "pgd", "mifgsm"}
    assert set(ATTACKS.known) == {"square", *noise, *(f"transfer_{n}" for n in transferred)}
    assert set(CORRUPTIONS.known) > DRAWING


def test_noise_has_its_distribution(network: Classifier, device: torch.device) -> None:
    images = torch.full((50, 1, 32, 32), 0.5)
    deviation = 4 / math.sqrt(images.numel())  # four standard errors
    found = {
        name: [started(name, images, network, device)(eps).cpu() - 0.5 for eps in (0.05, 0.1)]
        for name in ("gaussian", "uniform", "salt_pepper")
    }
    for name in ("gaussian", "uniform"):
        assert_near(2 * found[name][0], found[name][1], 1e-6, name)
    normal, flat = found["gaussian"][1] / 0.1, found["uniform"][1] / 0.1
    assert float(normal.mean()) == pytest.approx(0, abs=deviation)
    assert float(normal.std()) == pytest.approx(1, abs=deviation)
    assert float((normal.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=deviation)
    assert float(flat.abs().max()) == pytest.approx(1, abs=1e-3)
    assert float(flat.std()) == pytest.approx(3**-0.5, abs=deviation)
    pepper = found["salt_pepper"][1]
    assert set(pepper.unique().tolist()) == {-0.5, 0.0, 0.5}
    assert float((pepper != 0).double().mean()) == pytest.approx(0.1, abs=deviation)
    assert float(pepper.mean()) == pytest.approx(0, abs=deviation)
    few = found["salt_pepper"][0] != 0
    assert bool((pepper != 0)[few].all())


@pytest.mark.parametrize("name", sorted({*ATTACKS.known, *DRAWING}))
def test_same_generator_gives_the_same_images(
    name: str, network: Classifier, data: TaskData, device: torch.device
) -> None:
    images = data.test.images[:30].to(torch.float32) / 255
    strength = 3 if name in DRAWING else 0.1
    one, same = (started(name, images, network, device)(strength) for _ in range(2))
    assert one.device.type == device.type
    assert torch.equal(one, same)
    assert not torch.equal(one.cpu(), images)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    if not name.startswith("transfer_"):
        assert not torch.equal(one, started(name, images, network, device, seed=1)(strength))


def test_transferred_fgsm_is_that_of_the_cpu(
    network: Classifier, data: TaskData, device: torch.device
) -> None:
    images = data.test.images.to(torch.float32) / 255
    found, expected = (
        started("transfer_fgsm", images, network, place)(0.1).cpu() for place in (device, CPU)
    )
    # Signs may differ only where the gradient is 0 up to rounding.
    assert float(((found - expected).abs() > 1e-6).double().mean()) < 1e-3
    assert float((found - images).abs().max()) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", sorted(CORRUPTIONS.known))
def test_corruption_is_that_of_the_cpu(
    kind: str, channels: int, network: Classifier, device: torch.device
) -> None:
    images = torch.rand((40, channels, 8, 8), generator=generator(0, "images"))
    images = torch.nn.functional.interpolate(images, size=32, mode="bilinear")
    for severity in (1, 5):
        found, expected = (
            started(kind, images, network, place)(severity).cpu() for place in (device, CPU)
        )
        assert found.shape == images.shape
        off = (found - expected).abs()
        if kind in DRAWING:
            changes = [float((result - images).square().mean()) for result in (found, expected)]
            assert changes[0] == pytest.approx(changes[1], rel=0.15)
        elif kind == "jpeg_compression":  # rounding of a pixel before it changes its block
            assert float(off.mean()) < 1e-3
        else:
            assert float(off.max()) < 1.01 / 255
            assert float((off > 0.5 / 255).double().mean()) < 0.01


def test_curves(
    network: Classifier, data: TaskData, make_config: MakeConfig, device: torch.device
) -> None:
    kinds = ["brightness", "contrast", "gaussian_noise"]
    robustness = {
        "robustness.corruptions": {"kinds": kinds, "severities": [1, 3]},
        "robustness.num_epsilons": 3,
        "robustness.batch_size": 80,
    }
    config = make_config(robustness).robustness
    curves = []
    for place in (device, CPU):
        network.to(place)
        split = data.test.to(place)
        curves.append(evaluate(network, split, "test", config, [Surrogate(network)]))
    for found, expected in zip(*curves, strict=True):
        assert found._replace(accuracy=0) == expected._replace(accuracy=0)
        is_random = found.epsilon > 0 and "contrast" not in found.attack
        # Of 200 images: three standard errors of different noise, or the rounding of one image.
        allowed = 0.15 if is_random else 1 / 200
        assert found.accuracy == pytest.approx(expected.accuracy, abs=allowed), found


def test_boundary_attack_on_a_plane(device: torch.device, is_cuda: bool) -> None:
    """No distance is below that of the closed form, and most are as near it as on the CPU."""
    p = problem(40)

    def attack(place: torch.device) -> Perturbations:
        task = p.model.to(place), p.images.to(place), p.targets.to(place)
        config = BoundaryConfig(steps=300, repeats=1)
        return minimal_perturbations(*task, config, generator(0, "boundary"))

    states = [torch.random.get_rng_state()]
    states += [torch.cuda.get_rng_state()] if is_cuda else []
    found, same, expected = (attack(place) for place in (device, device, CPU))
    ratios, others = (_ratios(result, p.distances) for result in (found, expected))
    assert float(ratios.min()) > 1 - 1e-4
    assert float(ratios.median()) == pytest.approx(float(others.median()), rel=0.2)
    assert torch.equal(found.adversarial, same.adversarial)
    assert bool(found.squared_distance.isfinite().all())
    assert found.adversarial.device.type == device.type
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert not is_cuda or torch.equal(states[1], torch.cuda.get_rng_state())


def _ratios(found: Perturbations, distances: object) -> Tensor:
    size = found.adversarial[0].numel()
    return (found.squared_distance.cpu() * size).sqrt() / torch.as_tensor(distances)


def test_boundary_attack_on_a_network(
    network: Classifier, data: TaskData, device: torch.device
) -> None:
    config = BoundaryConfig(steps=50, repeats=2)
    medians = []
    for place in (device, CPU):
        images = data.test.images[:100].to(place, torch.float32) / 255
        labels = data.test.labels[:100].to(place)
        found = minimal_perturbations(
            network.to(place), images, labels, config, generator(0, "boundary")
        )
        # Rounding depends on the batch, and these images lie just beyond the boundary.
        fools = network(found.adversarial).argmax(dim=1) != labels
        is_found = found.squared_distance.isfinite()
        assert min(float(part.double().mean()) for part in (fools, is_found)) > 0.9
        wrong = network(images).argmax(dim=1) != labels
        assert torch.equal(found.squared_distance == 0, wrong)
        medians.append(float(found.squared_distance[is_found & ~wrong].median()))
    assert medians[0] == pytest.approx(medians[1], rel=0.25)  # another walk from the same starts


def test_whitebox_attacks_find_the_plane(device: torch.device) -> None:
    """The bounds are those of the tests on the CPU."""
    p = problem(20)
    task = p.model.to(device), p.images.to(device), p.targets.to(device)
    distances = torch.from_numpy(p.distances)
    jump = hop_skip_jump(*task, steps=15, rng=generator(0, "attack"))
    results = (deepfool_l2(*task), carlini_wagner_l2(*task), jump)
    for result, tolerance in zip(results, (0.05, 0.02, 0.1), strict=True):
        assert bool(result.success.all())
        ratio = result.norms.cpu() / distances
        assert float(ratio.min()) > 1 - 1e-3
        assert float(ratio.median()) < 1 + tolerance
    for epsilon in (0.01, 0.02):
        bent = partial(pgd, *task, norm="linf", epsilon=epsilon, steps=60, rel_stepsize=0.1)
        found = bent(rng=generator(0, "pgd"))
        # On a linear network PGD finds the corner of the ball, which depends on no draw.
        change = (found.adversarial - task[1]).flatten(1)
        slope = task[0].weights[1 - task[2]] - task[0].weights[task[2]]
        gained = (change * slope).sum(dim=1)
        torch.testing.assert_close(gained, epsilon * slope.abs().sum(dim=1), rtol=1e-3, atol=0)


def test_audit_is_that_of_the_cpu(
    network: Classifier, data: TaskData, device: torch.device
) -> None:
    plan = AuditPlan(
        epsilons=(0.05, 0.1),
        steps=10,
        few_steps=3,
        restarts=2,
        num_minimal=20,
        num_auto=20,
        auto_steps=10,
        auto_queries=50,
        carlini_wagner_steps=10,
        hop_skip_jump_steps=3,
    )
    reports = []
    for place in (device, CPU):
        own = network.to(place)
        images = data.test.images[:60].to(place, torch.float32) / 255
        reports.append(audit(own, own, images, data.test.labels[:60].to(place), plan))
    found, expected = reports
    assert found.clean_accuracy == expected.clean_accuracy
    for curve, other in zip(found.curves, expected.curves, strict=True):
        assert curve._replace(accuracies=()) == other._replace(accuracies=())
        assert curve.accuracies == pytest.approx(other.accuracies, abs=0.1), curve.attack
    for norms, others in zip(found.minimal, expected.minimal, strict=True):
        allowed = 0.3 if norms.attack == "hop_skip_jump" else 0.02  # only that one draws
        assert norms.success_rate == pytest.approx(others.success_rate, abs=0.05)
        assert norms.median_l2 == pytest.approx(others.median_l2, rel=allowed), norms.attack


def test_spectra(device: torch.device) -> None:
    perturbations = torch.randn((20, 1, 16, 16), generator=generator(0, "perturbations"))
    found, expected = (radial_power(perturbations.to(place))[1] for place in (device, CPU))
    assert_near(found, expected, 1e-10)
    images = torch.full((50, 1, 16, 16), 0.5, device=device)
    noise = band_noise(images, 0.1, 0.3, 0.05, generator(0, "noise", device=device)) - images
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
