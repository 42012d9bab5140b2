"""Steps that replay a capture against eager ones, with captures that need no GPU."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.training.fit import learning_rate
from simreg_core.training.graph import Body, GraphSteps
from simreg_core.training.start import start
from simreg_core.training.state import TrainingState
from simreg_core.training.steps import Draws, StepResult, draw_epoch, run_eagerly, train_step
from tests.core_tests.trained_networks import CPU, MakeConfig, snapshot_of, trained

CHANGING_RATE: dict[str, Any] = {
    "training.epochs": 4,
    "training.weight_decay": 0.01,
    "training.schedule": {"unit": "epochs", "step": 1, "restart": 3, "factor": 0.5},
    "training.augmentation": {"crop_padding": 1, "horizontal_flip": True},
    "regularizer.alpha": 0.5,
}
CASES = {
    "full-batches": {"training.batch_size": 16},
    "odd-last-batch": {"training.batch_size": 20},  # 6 steps, and 8 images
    "single-image-left": {"training.batch_size": 127},
    "epochs-shorter-than-warm-up": {"training.batch_size": 50},
    "all-eager": {"training.batch_size": 100, "training.epochs": 3},
    "no-regularizer": {"training.batch_size": 20, "regularizer.alpha": 0},
    "one-pair-range": {"training.batch_size": 20, "regularizer.pairs": "low"},
    "bf16": {"training.batch_size": 20, "training.precision": "bf16"},
}
every_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES)

Run = Callable[[Draws], StepResult]
Make = Callable[[TrialConfig, TaskData], TrainingState]
WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Recording(TorchDispatchMode):
    """Runs and records operations; :meth:`replay` repeats them on the same memory.

    Like a CUDA graph, a replay sees only what tensors hold at recorded addresses. Operations for
    which a GPU would have to be waited for are refused.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            raise RuntimeError(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        self.tape.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.tape:
            again = func(*args, **kwargs)
            if any(value.alias_info is not None for value in func._schema.returns):
                continue  # a view, or in place
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)


class Recorder:
    """A capture that records; counts its calls."""

    def __init__(self) -> None:
        self.num_captures = 0

    def __call__(self, body: Body) -> Body:
        self.num_captures += 1
        recording = Recording()
        with recording:
            body()
        # Unlike a CUDA graph's, this capture has run the step already.
        replays = itertools.chain([lambda: None], itertools.repeat(recording.replay))
        return lambda: next(replays)()


def refuse(body: Body) -> Body:
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


def as_on_cuda(config: TrialConfig, data: TaskData) -> TrainingState:
    """A state whose learning rate is a tensor, and whose optimizer is fused."""
    state = start(config, data, CPU)
    for group in state.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
        group.update(fused=True, foreach=False)
    return state


def as_on_cpu(config: TrialConfig, data: TaskData) -> TrainingState:
    return start(config, data, CPU)


def train(state: TrainingState, data: TaskData, config: TrialConfig, run_full: Run) -> list[Tensor]:
    """Train as ``fit`` does, with full batches run by ``run_full``; everything steps return."""
    training, found = config.training, []
    run_rest = partial(run_eagerly, partial(train_step, state, data.train, training))
    for epoch in range(training.epochs):
        state.set_learning_rate(learning_rate(training, epoch))
        state.model.train()
        for part in draw_epoch(
            data.train, state.regularizer, training, seed=config.seed, epoch=epoch
        ):
            is_full = part.images.shape[1] == training.batch_size
            found += [value.clone() for value in (run_full if is_full else run_rest)(part)]
    return found


def graph_of(
    state: TrainingState, data: TaskData, config: TrialConfig, capture: Callable[[Body], Body]
) -> GraphSteps:
    return GraphSteps(partial(train_step, state, data.train, config.training), capture=capture)


def eager_of(state: TrainingState, data: TaskData, config: TrialConfig) -> Run:
    return partial(run_eagerly, partial(train_step, state, data.train, config.training))


def numbers_of(state: TrainingState) -> dict[str, Any]:
    """Weights, statistics and momentum, equal only bit for bit."""
    found = snapshot_of(state)
    return {
        k: v
        for k, v in found.items()
        if k.startswith((".model", ".regularizer", ".optimizer.state"))
    }


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_case
def test_graph_steps_are_those_of_fit_bit_for_bit(
    changes: dict[str, Any], tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    config = tiny_config(CHANGING_RATE | changes)
    state, eager = (start(config, tiny_data, CPU) for _ in range(2))
    found = train(state, tiny_data, config, graph_of(state, tiny_data, config, lambda body: body))
    expected = train(eager, tiny_data, config, eager_of(eager, tiny_data, config))
    assert_same(found, expected)
    assert numbers_of(state) == numbers_of(eager) == numbers_of(trained(config, tiny_data))


@every_case
def test_replays_of_recorded_operations_are_eager_steps(
    changes: dict[str, Any], tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    """Draws, learning rate and results stay where they are, and no step waits for the device."""
    config = tiny_config(CHANGING_RATE | changes)
    capture = Recorder()
    state, eager = (as_on_cuda(config, tiny_data) for _ in range(2))
    graph = graph_of(state, tiny_data, config, capture)
    found = train(state, tiny_data, config, graph)
    expected = train(eager, tiny_data, config, eager_of(eager, tiny_data, config))
    assert_same(found, expected)
    assert numbers_of(state) == numbers_of(eager)
    num_steps = config.training.epochs * (128 // config.training.batch_size)
    assert capture.num_captures == graph.is_captured == (num_steps > 3)


def test_results_lie_in_the_same_memory_for_every_epoch(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    config = tiny_config({"training.batch_size": 16})
    state = start(config, tiny_data, CPU)
    graph = graph_of(state, tiny_data, config, lambda body: body)
    places = set()
    for epoch in range(3):
        (draws,) = draw_epoch(
            tiny_data.train, state.regularizer, config.training, seed=0, epoch=epoch
        )
        results = graph(draws)
        assert results.task_loss.shape == (8,)
        assert results.similarities.shape == (8, 2, 4)
        places.add(tuple(value.data_ptr() for value in results))
    assert len(places) == 1


@every_case
def test_failed_capture_warns_once_and_changes_no_number(
    changes: dict[str, Any],
    tiny_config: MakeConfig,
    tiny_data: TaskData,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config(CHANGING_RATE | changes)
    state, eager = (start(config, tiny_data, CPU) for _ in range(2))
    graph = graph_of(state, tiny_data, config, refuse)
    with caplog.at_level(logging.WARNING):
        found = train(state, tiny_data, config, graph)
    assert_same(found, train(eager, tiny_data, config, eager_of(eager, tiny_data, config)))
    assert numbers_of(state) == numbers_of(eager)
    assert not graph.is_captured
    is_tried = config.training.epochs * (128 // config.training.batch_size) > 3
    assert [r.levelname for r in caplog.records] == ["WARNING"] * is_tried
    assert all("operation not permitted" in line for line in caplog.messages)
    assert "\n" not in "".join(caplog.messages)


def test_step_that_waits_for_the_device_is_not_captured(
    tiny_config: MakeConfig, tiny_data: TaskData, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(CHANGING_RATE | {"training.batch_size": 20})
    state, eager = (as_on_cuda(config, tiny_data) for _ in range(2))
    step = partial(train_step, state, tiny_data.train, config.training)
    is_waiting = False

    def waiting(draws: Draws) -> StepResult:
        if is_waiting:
            float(draws.images[0])
        return step(draws)

    def capture(body: Body) -> Body:
        nonlocal is_waiting
        is_waiting = True
        return Recorder()(body)

    graph = GraphSteps(waiting, capture=capture)
    train(state, tiny_data, config, graph)
    train(eager, tiny_data, config, eager_of(eager, tiny_data, config))
    assert not graph.is_captured
    assert len(caplog.records) == 1
    assert numbers_of(state) == numbers_of(eager)


def test_other_errors_of_a_capture_are_raised(tiny_config: MakeConfig, tiny_data: TaskData) -> None:
    config = tiny_config({"training.batch_size": 16})
    state = start(config, tiny_data, CPU)

    def broken(body: Body) -> Body:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        train(state, tiny_data, config, graph_of(state, tiny_data, config, broken))


# Learning rates in memory


def rates_of(state: TrainingState) -> list[Any]:
    return [group["lr"] for group in state.optimizer.param_groups]


def test_learning_rate_in_memory_is_filled_in_place(
    tiny_config: MakeConfig, tiny_data: TaskData
) -> None:
    state = as_on_cuda(tiny_config(), tiny_data)
    before = rates_of(state)
    state.set_learning_rate(0.25)
    assert all(old is new for old, new in zip(before, rates_of(state), strict=True))
    assert [float(rate) for rate in before] == [0.25]
    plain = start(tiny_config(), tiny_data, CPU)
    plain.set_learning_rate(0.3)
    assert rates_of(plain) == [0.3]


@pytest.mark.parametrize("target", [as_on_cpu, as_on_cuda], ids=["number", "memory"])
@pytest.mark.parametrize("source", [as_on_cpu, as_on_cuda], ids=["number", "memory"])
def test_checkpoint_restores_the_rate_as_the_device_has_it(
    source: Make, target: Make, tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    config = tiny_config(CHANGING_RATE | {"training.batch_size": 20})
    saved, state = (make(config, tiny_data) for make in (source, target))
    train(saved, tiny_data, config, eager_of(saved, tiny_data, config))
    saved.save(tmp_path / "state.pt", config.digest())
    own = rates_of(state)[0]
    state.restore(tmp_path / "state.pt", config.digest())
    (rate,) = rates_of(state)
    assert isinstance(rate, Tensor) == isinstance(own, Tensor)
    assert rate is own or not isinstance(rate, Tensor)
    assert float(rate) == pytest.approx(learning_rate(config.training, 3), rel=1e-6)
    assert state.optimizer.param_groups[0]["fused"] == (target is as_on_cuda or None)
    step = draw_epoch(tiny_data.train, saved.regularizer, config.training, seed=0, epoch=4)[0]
    for trained_on in (saved, state):
        eager_of(trained_on, tiny_data, config)(Draws(*(value[:1] for value in step)))
    for a, b in zip(saved.model.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # the fused update rounds otherwise
    if source is target:
        assert numbers_of(state) == numbers_of(saved)
