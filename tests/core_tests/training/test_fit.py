from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData, load_task
from simreg_core.errors import ConfigError
from simreg_core.networks.network import build_network
from simreg_core.regularizer.loss import Comparison
from simreg_core.seeding import generator
from simreg_core.training.augment import augment, draw_augmentation
from simreg_core.training.fit import NonFiniteLossError, learning_rate, mean_loss_and_accuracy
from simreg_core.training.start import start
from tests.core_tests.trained_networks import (
    CPU,
    MakeConfig,
    as_resnet,
    epochs_of,
    snapshot_of,
    trained,
    weights_of,
)

# One network


def test_training_is_the_plain_loop_where_alpha_is_zero(tiny_config: MakeConfig) -> None:
    config = tiny_config(
        {
            "regularizer.alpha": 0,
            "training.epochs": 3,
            "training.batch_size": 50,
            "training.weight_decay": 0.01,
            "training.schedule": {"unit": "epochs", "step": 1, "restart": 2, "factor": 0.3},
            "training.augmentation": {"crop_padding": 1, "horizontal_flip": True},
        }
    )
    data = load_task(config.task)
    model = build_network(config.model, channels=1, num_classes=10, seed=config.seed).train()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch, rate in enumerate([0.1, 0.03, 0.1]):
        order = torch.randperm(128, generator=generator(config.seed, "batches", epoch))
        rng = generator(config.seed, "augmentation", epoch)
        for index in (order[:50], order[50:100], order[100:]):
            draws = draw_augmentation(len(index), config.training.augmentation, rng)
            images = augment(data.train.images, index, draws, config.training.augmentation) / 255
            loss = functional.cross_entropy(model(images), data.train.labels[index])
            parameters = list(model.parameters())
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient, speed in zip(parameters, gradients, velocity, strict=True):
                    speed.mul_(0.9).add_(gradient + 0.01 * parameter)
                    parameter.sub_(rate * speed)
    found = trained(config, data).model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_regularized_step_follows_the_gradient_of_the_weighted_sum(tiny_config: MakeConfig) -> None:
    config = tiny_config(
        {
            "regularizer.alpha": 0.7,
            "training.epochs": 1,
            "training.batch_size": 128,
            "training.momentum": 0,
            "training.learning_rate": 0.01,
        }
    )
    data = load_task(config.task)
    reference = start(config, data, CPU)
    regularizer = reference.regularizer
    assert regularizer is not None
    before = [*reference.model.parameters(), *regularizer.parameters()]
    logits = reference.model.train()(data.train.images / 255)
    task_loss = functional.cross_entropy(logits, data.train.labels)
    loss = regularizer(regularizer.draw(1, generator(config.seed, "pairs", 0))[0])
    gradients = torch.autograd.grad(task_loss + 0.7 * loss, before, allow_unused=True)

    state = trained(config, data)
    assert state.regularizer is not None
    after = [*state.model.parameters(), *state.regularizer.parameters()]
    for old, new, gradient in zip(before, after, gradients, strict=True):
        assert gradient is not None
        torch.testing.assert_close(new, old - 0.01 * gradient, atol=1e-5, rtol=1e-3)
    record = state.records[0]
    assert record.task_loss == pytest.approx(float(task_loss.detach()), rel=1e-4)
    assert record.similarity_loss == pytest.approx(float(loss.detach()), rel=1e-3)


def test_regularizer_of_weight_zero_has_no_influence(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    changes = {"regularizer.threshold": 0.9, "regularizer.dataset": "natural"}
    regularized = start(tiny_config({"regularizer.alpha": 1}), tiny_data, CPU)
    unregularized = start(tiny_config({"regularizer.alpha": 0}), tiny_data, CPU)
    assert weights_of(unregularized) == weights_of(regularized)
    plain = trained(tiny_config({"regularizer.alpha": 0}), tiny_data)
    other = trained(tiny_config({"regularizer.alpha": 0, **changes}), tiny_data)
    assert plain.regularizer is None
    assert snapshot_of(plain) == snapshot_of(other)
    record = plain.records[-1]
    assert (record.similarity_loss, record.gamma, record.similarity_correlation) == (None,) * 3
    assert (record.positive_share, record.negative_share) == (None, None)


def test_numbers_depend_on_the_seed_and_on_nothing_else(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    one = trained(tiny_config(), tiny_data)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = start(tiny_config(), tiny_data, CPU)
        state.model.eval()  # trained in training mode all the same
        list(epochs_of(tiny_config(), state, tiny_data))
    assert snapshot_of(one) == snapshot_of(state)
    other = trained(tiny_config({"seed": 1}), tiny_data)
    assert weights_of(one) != weights_of(other)
    assert one.records[0].task_loss != other.records[0].task_loss


# Records


def test_record_says_what_the_epoch_did(tiny_config: MakeConfig, tiny_data: TaskData) -> None:
    config = tiny_config({"training.epochs": 4})
    state = start(config, tiny_data, CPU)
    for epoch, record in enumerate(epochs_of(config, state, tiny_data)):
        loss, accuracy = mean_loss_and_accuracy(state.model, tiny_data.validation)
        assert state.regularizer is not None
        assert record.epoch == epoch
        assert record.learning_rate == learning_rate(config.training, epoch)
        assert (record.validation_loss, record.validation_accuracy) == (loss, accuracy)
        assert record.gamma == state.regularizer.gamma().tolist()
        assert record.seconds > 0
        assert state.records[-1] is record
    assert len(state.records) == 4


def test_pair_figures_are_those_of_the_epochs_pairs(
    tiny_config: MakeConfig, tiny_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config({"training.epochs": 1, "training.batch_size": 64})
    state = start(config, tiny_data, CPU)
    batches: list[Comparison] = []
    losses: list[float] = []
    regularizer = state.regularizer
    assert regularizer is not None
    forward = regularizer.forward

    def noted(pairs: Tensor) -> Tensor:
        loss = forward(pairs)
        assert regularizer.last is not None
        batches.append(regularizer.last)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(regularizer, "forward", noted)
    record = next(epochs_of(config, state, tiny_data))
    s_cnn = torch.cat([batch.s_cnn for batch in batches]).double()
    s_target = torch.cat([batch.s_target for batch in batches]).double()
    a, b = s_cnn - s_cnn.mean(), s_target - s_target.mean()
    correlation = float((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt())
    assert len(losses) == 2
    assert record.similarity_loss == pytest.approx(sum(losses) / 2)
    assert record.similarity_correlation == pytest.approx(correlation)
    assert record.positive_share == (s_target.tolist().count(1)) / 8
    assert record.negative_share == (s_target.tolist().count(-1)) / 8


def test_correlation_is_none_where_no_target_differs(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    record = trained(tiny_config({"regularizer.threshold": 0.999}), tiny_data).records[-1]
    assert record.similarity_correlation is None
    assert (record.positive_share, record.negative_share) == (0, 0)


def test_single_image_left_over_is_skipped(tiny_config: MakeConfig) -> None:
    config = tiny_config({"task.num_train": 65, "training.batch_size": 64, "training.epochs": 1})
    record = trained(config, load_task(config.task)).records[0]
    assert math.isfinite(record.task_loss)
    assert (record.train_accuracy * 64).is_integer()


@pytest.mark.parametrize("num_images", [3, 1000, 1003])
def test_loss_and_accuracy_are_means_over_images(num_images: int, tiny_config: MakeConfig) -> None:
    rng = generator(0, "images")
    images = torch.randint(256, (num_images, 1, 8, 8), generator=rng, dtype=torch.uint8)
    split = Split(images, torch.randint(10, (num_images,), generator=rng))
    model = build_network(tiny_config().model, channels=1, num_classes=10, seed=0).train()
    loss, accuracy = mean_loss_and_accuracy(model, split)
    assert model.training
    with torch.no_grad():
        log_p = model.eval()(images / 255).double().log_softmax(dim=1)
    own = log_p[torch.arange(num_images), split.labels]
    assert loss == pytest.approx(-float(own.mean()), rel=1e-5)
    assert accuracy == float((log_p.argmax(dim=1) == split.labels).double().mean())


# Kept weights


@pytest.fixture
def unsteady(tiny_config: MakeConfig) -> TrialConfig:
    """A run whose best epoch is neither its first nor its last."""
    changes: dict[str, Any] = {"training.epochs": 6, "training.learning_rate": 0.5}
    changes["training.schedule"] = {"factor": 1.0}
    return tiny_config({**changes, "regularizer.alpha": 0, "seed": 2})


@pytest.mark.parametrize("keep", ["best", "last"])
def test_kept_weights_are_those_of_the_asked_epoch(
    keep: str, unsteady: TrialConfig, tiny_data: TaskData
) -> None:
    training = unsteady.training.model_copy(update={"keep": keep})
    config = unsteady.model_copy(update={"training": training})
    state = start(config, tiny_data, CPU)
    weights = []
    for _ in epochs_of(config, state, tiny_data):
        weights.append(copy.deepcopy(state.model.state_dict()))
    losses = [record.validation_loss for record in state.records]
    best = losses.index(min(losses))
    assert best not in (0, 5), "this run cannot tell best from first or last"
    expected = best if keep == "best" else 5
    assert state.kept_epoch == expected
    assert state.kept_loss == losses[expected]
    assert all(torch.equal(weights[expected][name], v) for name, v in state.kept_weights.items())


def test_kept_model_is_a_copy_with_the_kept_weights(
    unsteady: TrialConfig, tiny_data: TaskData
) -> None:
    state = trained(unsteady, tiny_data)
    before = weights_of(state)
    kept = state.kept_model()
    assert not kept.training
    assert mean_loss_and_accuracy(kept, tiny_data.validation)[0] == state.kept_loss
    with torch.no_grad():
        as_resnet(kept).head.weight.zero_()
    assert weights_of(state) == before
    assert bool((state.kept_weights["network.head.weight"] != 0).any())


# Divergence


@pytest.mark.parametrize(
    ("batch_size", "place"),
    [(16, r"task loss (nan|inf) in epoch 0, step [1-7]"), (128, "validation loss nan in epoch 0")],
    ids=["step", "last-step"],
)
def test_diverged_step_is_named(
    batch_size: int, place: str, tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    changes = {"training.learning_rate": 1e30, "training.batch_size": batch_size}
    config = tiny_config({**changes, "regularizer.alpha": 0})
    with pytest.raises(NonFiniteLossError, match=f"^{place}$"):
        trained(config, tiny_data)


def test_diverged_similarity_loss_is_named(tiny_config: MakeConfig, tiny_data: TaskData) -> None:
    config = tiny_config({"regularizer.alpha": 1, "training.batch_size": 64})
    state = start(config, tiny_data, CPU)
    assert state.regularizer is not None
    with torch.no_grad():
        state.regularizer.feature_similarity.layer_logits[0] = math.nan
    # One step, so that the network is still finite when its own loss is computed.
    data = tiny_data._replace(train=Split(*(tensor[:64] for tensor in tiny_data.train)))
    with pytest.raises(NonFiniteLossError, match=r"^similarity loss nan in epoch 0, step 0$"):
        next(epochs_of(config, state, data))


# Starting


def test_padding_as_large_as_the_images_is_refused_before_training(tiny_config: MakeConfig) -> None:
    config = tiny_config({"task.image_size": None, "training.augmentation.crop_padding": 8})
    with pytest.raises(ConfigError, match=r"crop_padding: 8 "):
        start(config, load_task(config.task), CPU)
